//! Decides about a response that has just arrived: it is for its own client only, is stored whole or in slices (RFC 9111
//! §3), or freshens a stored one as a 304 (§4.3.4).

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use smallvec::SmallVec;

use super::{
    agreement::Sees,
    freshness::{self, Freshness},
    hooked::HookEffect,
    slices::{ContentRange, First, content_length, usable, worth_cutting},
    storable::{self, Authorization, NotStored, StoreInput},
    validate,
    vary::{self, Vary},
};
use crate::{
    http::{
        cache_control::{RequestDirectives, ResponseDirectives},
        date,
        range::Range,
        structured::CACHE_STATUS,
    },
    outcome::Detail,
    plan::{CachePolicy, SetCookiePolicy},
};

/// The request that a response answers, as far as storing the response is concerned.
#[derive(Debug, Clone, Copy)]
pub struct AnsweredRequest<'a> {
    /// The method that was sent to the origin.
    pub method: &'a Method,
    /// The request's `Cache-Control`; empty if the policy ignores it.
    pub directives: &'a RequestDirectives,
    /// Whether the request had credentials, and who verified them (RFC 9111 §3.5).
    pub authorization: Authorization,
    /// The reason why nothing may be stored, regardless of the response.
    pub forbidden: Option<NotStored>,
    /// The part that was requested, if not the whole.
    pub slice: Option<First>,
    /// Fields that the key sees.
    pub sees: Sees<'a>,
}

/// A response from the origin, after the hooks.
#[derive(Debug, Clone, Copy)]
pub struct ArrivedResponse<'a> {
    /// The final status; interim responses (1xx) never get here.
    pub status: StatusCode,
    /// The header section, before anything is set aside from it.
    pub headers: &'a HeaderMap,
    /// The effect of the hooks on storing it: fields that select, and reasons against it.
    pub hooked: &'a HookEffect,
    /// The time at which the request was sent (Unix seconds; RFC 9111 §4.2.3, `request_time`).
    pub requested_at: u64,
    /// The time at which the header section was complete (Unix seconds; RFC 9111 §4.2.3, `response_time`).
    pub received_at: u64,
}

/// How much the store takes.
#[derive(Debug, Clone, Copy)]
pub struct StoreBounds {
    /// The largest object in one piece.
    pub largest: u64,
    /// The size of slices, for a response that may be stored in slices.
    pub slice: Option<u64>,
}

/// The outcome for one response.
#[derive(Debug)]
pub enum ArrivalDecision {
    /// Only the client whose request brought it gets it. A part that turned out to be the whole is sent as the whole.
    Own(NotStored, Option<ContentRange>),
    /// A part that no slices can hold, and why; its range, unless its length contradicts it.
    Unsliced(Detail, Option<ContentRange>),
    /// It is stored; clients with the same question may share it.
    Stored(Storing),
}

/// How a response is stored.
#[derive(Debug)]
pub struct Storing {
    /// Its times, computed on arrival.
    pub freshness: Freshness,
    /// Selecting fields that the key does not see.
    pub vary: SmallVec<[HeaderName; 4]>,
    /// Of the whole, as announced.
    pub length: Option<u64>,
    /// The size of its slices, and the part of it that has arrived.
    pub slices: Option<(u64, Range)>,
    /// The response's own `Cache-Control`, or the targeted field that replaces it (RFC 9213).
    pub directives: ResponseDirectives,
    part: Option<ContentRange>,
}

impl AnsweredRequest<'_> {
    fn policy(&self) -> &CachePolicy {
        &self.sees.route.cache
    }

    /// RFC 9111 §3, the hooks' part in the response, and any other reason not to store it.
    fn storable(
        &self,
        response: &ArrivedResponse<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        directives: &ResponseDirectives,
    ) -> Result<(), NotStored> {
        storable::storable(&StoreInput {
            method: self.method,
            request_directives: self.directives,
            authorization: self.authorization,
            status,
            response: headers,
            directives,
            policy: self.policy(),
            now: response.received_at,
        })?;
        let forbidden = self.forbidden.or(response.hooked.forbids);
        forbidden.map_or(Ok(()), Err)
    }

    /// Decides about a response that is no 304.
    pub fn decide(&self, response: &ArrivedResponse<'_>, bounds: StoreBounds) -> ArrivalDecision {
        let ArrivedResponse {
            status, headers, ..
        } = *response;
        let unsliced = |why| {
            let announced = content_length(headers);
            let part = ContentRange::of(headers)
                .filter(|part| announced.is_none_or(|length| length == part.length()));
            ArrivalDecision::Unsliced(why, part)
        };
        let part = match self.slice {
            Some(slice) if status == StatusCode::PARTIAL_CONTENT => {
                match usable(slice, status, headers) {
                    Ok(part) => Some(part),
                    Err(why) => return unsliced(why.into()),
                }
            }
            _ => None,
        };
        let length = part.map_or_else(|| content_length(headers), |part| Some(part.complete));
        let size = bounds
            .slice
            .filter(|&size| length.is_some_and(|length| worth_cutting(headers, length, size)));
        // Only slices hold a part: without them the whole has arrived, or nothing is stored.
        if size.is_none() && part.is_some_and(|part| !part.is_all()) {
            return unsliced(NotStored::Partial.into());
        }
        let directives = ResponseDirectives::parse(headers, &self.policy().targets);
        // A part is treated like the whole response that it belongs to (RFC 9111 §3.4).
        let status = part.map_or(status, |_| StatusCode::OK);
        if let Err(why) = self.storable(response, status, headers, &directives) {
            return match part {
                Some(_) => unsliced(why.into()),
                None => ArrivalDecision::Own(why, None),
            };
        }
        if size.is_none() && length.is_some_and(|length| length > bounds.largest) {
            return ArrivalDecision::Own(NotStored::TooLarge, part);
        }
        let mut vary = match vary::of(headers) {
            Vary::Names(names) => names,
            // `*` is not storable.
            Vary::None | Vary::Star => SmallVec::new(),
        };
        self.sees.selecting(&mut vary);
        response.hooked.join(&mut vary);
        let freshness = freshness::freshness(
            status,
            headers,
            &directives,
            self.policy(),
            response.requested_at,
            response.received_at,
        );
        let everything = Range {
            first: 0,
            last: length.unwrap_or(0).saturating_sub(1),
        };
        ArrivalDecision::Stored(Storing {
            freshness,
            vary,
            length,
            slices: size.map(|size| (size, part.map_or(everything, |part| part.range))),
            directives,
            part,
        })
    }

    /// Freshens a stored response by a 304 (RFC 9111 §4.3.4). `selected`: the stored response is found by everything that
    /// the hooks read this time.
    pub fn freshen(
        &self,
        status: StatusCode,
        mut stored: HeaderMap,
        response: &ArrivedResponse<'_>,
        selected: impl FnOnce() -> bool,
    ) -> Freshened {
        let policy = self.policy();
        stored.remove(header::AGE);
        stored.remove(CACHE_STATUS);
        let before = vary::of(&stored);
        validate::freshen(&mut stored, response.headers);
        let varies = vary::of(&stored);
        let directives = ResponseDirectives::parse(&stored, &policy.targets);
        let freshness = freshness::freshness(
            status,
            &stored,
            &directives,
            policy,
            response.requested_at,
            response.received_at,
        );
        // A cookie of the 304 is for the client whose request brought it, and not stored: the policy was applied to
        // cookies when the response was stored.
        if policy.set_cookie != SetCookiePolicy::Store {
            stored.remove(header::SET_COOKIE);
        }
        // The method and the directives of the request that brings a 304 say nothing about others.
        let directives_of_any = RequestDirectives::default();
        let any = AnsweredRequest {
            method: &Method::GET,
            directives: &directives_of_any,
            ..*self
        };
        let revalidation = match any.storable(response, status, &stored, &directives) {
            Err(NotStored::HookFailed) => Revalidation::Untouched,
            Err(why) => Revalidation::Removed(Some(why)),
            Ok(()) if varies != before || !selected() => Revalidation::Removed(None),
            Ok(()) if self.directives.no_store => Revalidation::Shared,
            Ok(()) => Revalidation::Replaced,
        };
        let mut head = SharedHead::take(&mut stored, &directives, policy);
        if policy.set_cookie == SetCookiePolicy::Refuse {
            for cookie in response.headers.get_all(header::SET_COOKIE) {
                head.aside.append(header::SET_COOKIE, cookie.clone());
            }
        }
        Freshened {
            head,
            freshness,
            revalidation,
        }
    }
}

impl Storing {
    /// Takes the head of the response as it is stored.
    pub fn head(
        &self,
        status: &mut StatusCode,
        headers: &mut HeaderMap,
        policy: &CachePolicy,
    ) -> SharedHead {
        if let Some(part) = self.part {
            as_whole(status, headers, part);
        }
        SharedHead::take(headers, &self.directives, policy)
    }
}

/// Gives a part the status and the length of the whole that it is of.
pub fn as_whole(status: &mut StatusCode, headers: &mut HeaderMap, part: ContentRange) {
    *status = StatusCode::OK;
    headers.remove(header::CONTENT_RANGE);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.complete));
}

/// A stored response after a 304.
#[derive(Debug)]
pub struct Freshened {
    /// The stored header section, updated from the 304 (RFC 9111 §3.2).
    pub head: SharedHead,
    /// Times computed anew from the 304.
    pub freshness: Freshness,
    /// The clients that may be sent it.
    pub revalidation: Revalidation,
}

/// The effect of a 304 on the stored response, and the clients that may be sent the freshened one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revalidation {
    /// The freshened response takes its place, and is for all who wait.
    Replaced,
    /// It stays as it was (the request said `no-store`); the freshened one is for all who wait.
    Shared,
    /// It stays as it was, for a hook failed open; the freshened one is for one client only.
    Untouched,
    /// It is removed: by this rule, or because the 304 selects by other fields (`None`). The freshened one is for one
    /// client only.
    Removed(Option<NotStored>),
}

/// For one hop only (RFC 9111 §3.1).
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// A header section as it is stored, and sent from the store.
#[derive(Debug)]
pub struct SharedHead {
    /// The fields that every client gets.
    pub headers: HeaderMap,
    /// The fields that `no-cache="…"` and `private="…"` name are left out …
    pub set_aside: SmallVec<[HeaderName; 2]>,
    /// … but for the client whose request brought them (RFC 9111 §5.2.2.4, §5.2.2.7).
    pub aside: HeaderMap,
    /// The origin's `Cache-Status`, kept apart because the edge appends its own member.
    pub upstream_status: Option<HeaderValue>,
}

impl SharedHead {
    /// Takes a header section without what is set aside, and without `Set-Cookie` unless the policy stores it.
    pub(super) fn take(
        headers: &mut HeaderMap,
        directives: &ResponseDirectives,
        policy: &CachePolicy,
    ) -> Self {
        let set_aside: SmallVec<[HeaderName; 2]> = directives.unshared_fields().cloned().collect();
        let mut aside = HeaderMap::new();
        for name in &set_aside {
            // Fields that frame a message are generated for each message.
            if *name != header::CONTENT_LENGTH && *name != header::CONTENT_RANGE {
                for line in headers.get_all(name) {
                    aside.append(name.clone(), line.clone());
                }
            }
            headers.remove(name);
        }
        if policy.set_cookie != SetCookiePolicy::Store {
            headers.remove(header::SET_COOKIE);
        }
        for name in [PROXY_AUTHENTICATION_INFO, header::PROXY_AUTHORIZATION] {
            headers.remove(name);
        }
        let upstream_status = joined(headers, CACHE_STATUS);
        for name in [CACHE_STATUS, header::AGE] {
            headers.remove(&name);
            aside.remove(name);
        }
        Self {
            headers: std::mem::take(headers),
            set_aside,
            aside,
            upstream_status,
        }
    }
}

/// All lines of a list as one.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(first.clone());
    };
    let mut whole = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        whole.extend_from_slice(b", ");
        whole.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&whole).ok()
}

/// True if a stored response stays in place of one that arrives: it is fresh and was made later, by its `Date`.
/// Responses may overtake one another, and the most recent one is to be used (RFC 9111 §4).
pub fn stays(freshness: &Freshness, stored: &HeaderMap, arrived: &HeaderMap, now: u64) -> bool {
    let made = |headers: &HeaderMap| date::parse(headers.get(header::DATE)?.as_bytes());
    freshness.fresh(now)
        && !freshness.always_validate
        && made(stored)
            .zip(made(arrived))
            .is_some_and(|(stored, arrived)| stored > arrived)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use serde_json::json;

    use super::*;
    use crate::plan::{self, Plan};

    const NOW: u64 = 784_111_777;
    const BOUNDS: StoreBounds = StoreBounds {
        largest: 1000,
        slice: None,
    };
    const SLICED: StoreBounds = StoreBounds {
        slice: Some(100),
        ..BOUNDS
    };

    fn plan(cache: &serde_json::Value) -> Plan {
        let plan = json!({
            "name": "t",
            "origins": [{"name": "o", "url": "http://o"}],
            "routes": [{"pattern": "/*", "to": "o", "cache": cache}],
        });
        plan::compile(plan.to_string().as_bytes()).unwrap()
    }

    fn head(text: &str) -> HeaderMap {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        let field = |(name, value): (&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines.map(field) {
            let name: HeaderName = name;
            headers.append(name, value);
        }
        headers
    }

    fn request<'a>(plan: &'a Plan, directives: &'a RequestDirectives) -> AnsweredRequest<'a> {
        AnsweredRequest {
            method: &Method::GET,
            directives,
            authorization: Authorization::None,
            forbidden: None,
            slice: None,
            sees: Sees {
                route: plan.routes.first().unwrap(),
                hooked: &[],
            },
        }
    }

    fn response<'a>(
        status: u16,
        headers: &'a HeaderMap,
        hooked: &'a HookEffect,
    ) -> ArrivedResponse<'a> {
        ArrivedResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            hooked,
            requested_at: NOW,
            received_at: NOW,
        }
    }

    fn outcome(
        request: &AnsweredRequest<'_>,
        status: u16,
        text: &str,
        bounds: StoreBounds,
    ) -> String {
        let (headers, hooked) = (head(text), HookEffect::default());
        match request.decide(&response(status, &headers, &hooked), bounds) {
            ArrivalDecision::Own(why, _) => format!("own: {}", why.as_str()),
            ArrivalDecision::Unsliced(why, part) => {
                format!(
                    "unsliced: {}{}",
                    why.as_str(),
                    if part.is_some() { ", usable" } else { "" }
                )
            }
            ArrivalDecision::Stored(stored) => {
                let vary: Vec<&str> = stored.vary.iter().map(|name| name.as_str()).collect();
                let slices = stored.slices.map(|(size, came)| {
                    format!(" in slices of {size} from {}-{}", came.first, came.last)
                });
                format!("stored{} {}", slices.unwrap_or_default(), vary.join(" "))
                    .trim_end()
                    .to_owned()
            }
        }
    }

    #[test]
    fn a_response_is_stored_unless_rfc_9111_or_its_size_forbids_it() {
        let plan = plan(&json!({"headers": ["X-Keyed"]}));
        let directives = RequestDirectives::default();
        let plain = request(&plan, &directives);
        for (status, text, bounds, want) in [
            (200, "cache-control: max-age=60", BOUNDS, "stored"),
            (200, "etag: \"a\"", BOUNDS, "stored"),
            (200, "", BOUNDS, "own: not-reusable"),
            (404, "cache-control: max-age=60", BOUNDS, "stored"),
            (
                599,
                "cache-control: max-age=60, must-understand",
                BOUNDS,
                "own: status",
            ),
            (304, "cache-control: max-age=60", BOUNDS, "own: status"),
            (206, "cache-control: max-age=60", BOUNDS, "own: partial"),
            // §5.2.2.5, §5.2.2.7
            (
                200,
                "cache-control: no-store, max-age=60",
                BOUNDS,
                "own: no-store",
            ),
            (
                200,
                "cache-control: private, max-age=60",
                BOUNDS,
                "own: private",
            ),
            (
                200,
                "cache-control: max-age=60\nset-cookie: a=b",
                BOUNDS,
                "own: set-cookie",
            ),
            // §4.1; the key sees the second name anyway.
            (
                200,
                "cache-control: max-age=60\nvary: *",
                BOUNDS,
                "own: vary-star",
            ),
            (
                200,
                "cache-control: max-age=60\nvary: accept, x-keyed",
                BOUNDS,
                "stored accept",
            ),
            // Larger than the store takes: for its own client only, unless it is worth slices.
            (
                200,
                "cache-control: max-age=60\ncontent-length: 1000",
                BOUNDS,
                "stored",
            ),
            (
                200,
                "cache-control: max-age=60\ncontent-length: 1001",
                BOUNDS,
                "own: too-large",
            ),
            (
                200,
                "cache-control: max-age=60\ncontent-length: 1001",
                SLICED,
                "own: too-large",
            ),
            (
                200,
                "cache-control: max-age=60\ncontent-length: 1001\netag: \"a\"",
                SLICED,
                "stored in slices of 100 from 0-1000",
            ),
            (
                200,
                "cache-control: max-age=60\ncontent-length: 100\netag: \"a\"",
                SLICED,
                "stored",
            ),
        ] {
            assert_eq!(
                outcome(&plain, status, text, bounds),
                want,
                "{status} {text}"
            );
        }
    }

    #[test]
    fn the_request_may_forbid_that_its_response_is_stored() {
        let plan = plan(&json!({}));
        let directives = RequestDirectives::default();
        let no_store = RequestDirectives {
            no_store: true,
            ..RequestDirectives::default()
        };
        let plain = request(&plan, &directives);
        let credentials = AnsweredRequest {
            authorization: Authorization::Present,
            ..plain
        };
        for (request, text, want) in [
            // §5.2.1.5
            (
                request(&plan, &no_store),
                "cache-control: max-age=60",
                "own: request-no-store",
            ),
            // §3.5
            (
                credentials,
                "cache-control: max-age=60",
                "own: authorization",
            ),
            (credentials, "cache-control: public, max-age=60", "stored"),
            (credentials, "cache-control: s-maxage=60", "stored"),
            (
                AnsweredRequest {
                    method: &Method::HEAD,
                    ..plain
                },
                "cache-control: max-age=60",
                "own: method",
            ),
            (
                AnsweredRequest {
                    forbidden: Some(NotStored::Hook),
                    ..plain
                },
                "cache-control: max-age=60",
                "own: hook",
            ),
        ] {
            assert_eq!(outcome(&request, 200, text, BOUNDS), want, "{text}");
        }
    }

    #[test]
    fn a_part_is_stored_in_slices_only_and_judged_as_the_whole() {
        let plan = plan(&json!({}));
        let directives = RequestDirectives::default();
        let range = |first, last| AnsweredRequest {
            slice: Some(First::Slice(Range { first, last })),
            ..request(&plan, &directives)
        };
        for (first, last, text, bounds, want) in [
            (
                100,
                199,
                "content-range: bytes 100-199/1000\netag: \"a\"",
                SLICED,
                "stored in slices of 100 from 100-199",
            ),
            (
                100,
                199,
                "content-range: bytes 100-199/1000\netag: \"a\"",
                BOUNDS,
                "unsliced: partial, usable",
            ),
            (
                0,
                99,
                "content-range: bytes 0-99/1000\netag: \"a\"\naccept-ranges: none",
                SLICED,
                "unsliced: partial, usable",
            ),
            // RFC 9110 §15.3.7: another range than the one that was requested, or a length that is not the range's.
            (
                100,
                199,
                "content-range: bytes 0-99/1000\netag: \"a\"",
                SLICED,
                "unsliced: other-range, usable",
            ),
            (
                0,
                99,
                "content-range: bytes 0-99/1000\netag: \"a\"\ncontent-length: 7",
                SLICED,
                "unsliced: not-combinable",
            ),
            // RFC 9111 §3.4: parts are combined by a strong validator.
            (
                0,
                99,
                "content-range: bytes 0-99/1000\netag: W/\"a\"",
                SLICED,
                "unsliced: not-combinable, usable",
            ),
            (
                0,
                99,
                "content-range: bytes 0-99/1000\netag: \"a\"\ncache-control: private",
                SLICED,
                "unsliced: private, usable",
            ),
            // The part is all of it.
            (
                0,
                99,
                "content-range: bytes 0-49/50\netag: \"a\"",
                SLICED,
                "stored",
            ),
            (
                0,
                4999,
                "content-range: bytes 0-1999/2000\netag: \"a\"",
                BOUNDS,
                "own: too-large",
            ),
        ] {
            assert_eq!(
                outcome(&range(first, last), 206, text, bounds),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn a_head_is_stored_without_what_is_not_for_everybody() {
        let plan = plan(&json!({"set_cookie": "strip"}));
        let directives = RequestDirectives::default();
        let mut headers = head(
            "cache-control: max-age=60, private=\"x-user\"\nx-user: ada\nset-cookie: a=b\nage: 3\n\
             cache-status: origin; hit\ncache-status: shield; fwd=miss\ncontent-type: text/plain",
        );
        let part = HookEffect::default();
        let decided = request(&plan, &directives).decide(&response(200, &headers, &part), BOUNDS);
        let ArrivalDecision::Stored(storing) = decided else {
            panic!("{decided:?}");
        };
        let mut status = StatusCode::OK;
        let policy = &plan.routes.first().unwrap().cache;
        let head = storing.head(&mut status, &mut headers, policy);
        let names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["cache-control", "content-type"]);
        assert_eq!(head.aside.get("x-user").unwrap(), "ada");
        assert_eq!(
            head.upstream_status.unwrap(),
            "origin; hit, shield; fwd=miss"
        );
    }

    #[test]
    fn a_304_makes_a_stored_response_new_or_ends_it() {
        use Revalidation::{Removed, Replaced, Shared, Untouched};
        let plan = plan(&json!({}));
        let directives = RequestDirectives::default();
        let no_store = RequestDirectives {
            no_store: true,
            ..RequestDirectives::default()
        };
        let plain = request(&plan, &directives);
        let failed = AnsweredRequest {
            forbidden: Some(NotStored::HookFailed),
            ..plain
        };
        for (request, text, selected, want) in [
            (plain, "cache-control: max-age=60", true, Replaced),
            (plain, "cache-control: max-age=60", false, Removed(None)),
            (plain, "vary: accept", true, Removed(None)),
            (
                plain,
                "cache-control: private",
                true,
                Removed(Some(NotStored::Private)),
            ),
            // The cookie is for the client that validates.
            (plain, "set-cookie: a=b", true, Replaced),
            (
                request(&plan, &no_store),
                "cache-control: max-age=60",
                true,
                Shared,
            ),
            (failed, "cache-control: max-age=60", true, Untouched),
        ] {
            let stored = head("etag: \"a\"\ncache-control: max-age=1\nage: 9\ncontent-length: 5");
            let (update, part) = (head(text), HookEffect::default());
            let answer = response(304, &update, &part);
            let fresh = request.freshen(StatusCode::OK, stored, &answer, || selected);
            assert_eq!(fresh.revalidation, want, "{text}");
            assert!(!fresh.head.headers.contains_key(header::AGE));
            assert_eq!(
                fresh.head.aside.contains_key(header::SET_COOKIE),
                text.starts_with("set")
            );
            if text.ends_with("=60") {
                assert_eq!(
                    (fresh.freshness.lifetime, fresh.freshness.initial_age),
                    (60, 0)
                );
            }
        }
    }

    #[test]
    fn the_response_that_was_made_later_stays() {
        let plan = plan(&json!({}));
        let directives = RequestDirectives::default();
        let early = "date: Sun, 06 Nov 1994 08:49:37 GMT";
        let late = "date: Sun, 06 Nov 1994 08:49:38 GMT";
        for (stored, arrived, more, now, want) in [
            (late, early, "max-age=60", NOW, true),
            (early, late, "max-age=60", NOW, false),
            (late, late, "max-age=60", NOW, false),
            (late, "", "max-age=60", NOW, false),
            (late, early, "max-age=60", NOW + 60, false),
            (late, early, "max-age=60, no-cache", NOW, false),
        ] {
            let headers = head(&format!("{stored}\ncache-control: {more}\netag: \"a\""));
            let part = HookEffect::default();
            let decided =
                request(&plan, &directives).decide(&response(200, &headers, &part), BOUNDS);
            let ArrivalDecision::Stored(storing) = decided else {
                panic!("{decided:?}");
            };
            let stays = stays(&storing.freshness, &headers, &head(arrived), now);
            assert_eq!(stays, want, "{stored}, {arrived}, {more}, {now}");
        }
    }
}
