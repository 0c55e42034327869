//! Decides about a response that has just arrived: it is for its own client only, is stored whole or in slices (RFC
//! 9111 §3), or freshens a stored one as a 304 (§4.3.4).

use http::{HeaderValue, Method, StatusCode};
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
    finish::{self, OF_ONE_MESSAGE},
    http::{
        FieldName, Fields, Known,
        cache_control::{RequestDirectives, ResponseDirectives},
        coding, date, header,
        range::Range,
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
    /// The credentials of the request, and who verified them (RFC 9111 §3.5).
    pub authorization: Authorization,
    /// The reason why nothing may be stored, regardless of the response.
    pub forbidden: Option<NotStored>,
    /// The URL promises a static file, and the policy wants the promise kept.
    pub is_static: bool,
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
    pub headers: &'a Fields,
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
    pub vary: SmallVec<[FieldName; 4]>,
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
        headers: &Fields,
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
            is_static: self.is_static,
            now: response.received_at,
        })?;
        if self.sees.varies_by_client(headers) {
            return Err(NotStored::VaryStar);
        }
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
        // A client that does not take the coding cannot read the content, whether the origin says so or not.
        let by_coding = FieldName::known(header::ACCEPT_ENCODING);
        if coding::is_coded(headers) && !vary.contains(&by_coding) {
            vary.push(by_coding);
            vary.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        }
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

    /// Freshens a stored response by a 304 (RFC 9111 §4.3.4). `selected`: the stored response is found by everything
    /// that the hooks read this time.
    pub fn freshen(
        &self,
        status: StatusCode,
        mut stored: Fields,
        response: &ArrivedResponse<'_>,
        selected: impl FnOnce() -> bool,
    ) -> Freshened {
        let policy = self.policy();
        stored.remove(header::AGE);
        stored.remove(header::CACHE_STATUS);
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
            // A reason of this request alone says nothing about the response that others have stored.
            Err(NotStored::HookFailed | NotStored::Authorization) => Revalidation::Untouched,
            Err(why) => Revalidation::Removed(Some(why)),
            Ok(()) if varies != before || !selected() => Revalidation::Removed(None),
            Ok(()) if self.directives.no_store => Revalidation::Shared,
            Ok(()) => Revalidation::Replaced,
        };
        let mut head = SharedHead::take(&mut stored, &directives, policy);
        if policy.set_cookie == SetCookiePolicy::Refuse {
            for cookie in response.headers.get_all(header::SET_COOKIE) {
                head.aside.append(header::SET_COOKIE, cookie);
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
        headers: &mut Fields,
        policy: &CachePolicy,
    ) -> SharedHead {
        if let Some(part) = self.part {
            as_whole(status, headers, part);
        }
        SharedHead::take(headers, &self.directives, policy)
    }
}

/// Gives a part the status and the length of the whole that it is of.
pub fn as_whole(status: &mut StatusCode, headers: &mut Fields, part: ContentRange) {
    *status = StatusCode::OK;
    headers.remove(header::CONTENT_RANGE);
    if !part.is_all() {
        headers.remove_all(OF_ONE_MESSAGE);
    }
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
    /// It stays as it was, for a hook failed open or the request had credentials (§3.5); the freshened one is for one
    /// client only.
    Untouched,
    /// It is removed: by this rule, or because the 304 selects by other fields (`None`). The freshened one is for one
    /// client only.
    Removed(Option<NotStored>),
}

/// A header section as it is stored, and sent from the store.
#[derive(Debug)]
pub struct SharedHead {
    /// The fields that every client gets.
    pub headers: Fields,
    /// The fields that `no-cache="…"` and `private="…"` name are left out …
    pub set_aside: SmallVec<[FieldName; 2]>,
    /// … but for the client whose request brought them (RFC 9111 §5.2.2.4, §5.2.2.7).
    pub aside: Fields,
    /// The origin's `Cache-Status`, kept apart because the edge appends its own member.
    pub upstream_status: Option<HeaderValue>,
}

impl SharedHead {
    /// Takes a header section without what is set aside, and without `Set-Cookie` unless the policy stores it.
    pub(super) fn take(
        headers: &mut Fields,
        directives: &ResponseDirectives,
        policy: &CachePolicy,
    ) -> Self {
        let set_aside: SmallVec<[FieldName; 2]> = directives.unshared_fields().cloned().collect();
        let mut aside = Fields::new();
        for name in &set_aside {
            // Fields that frame a message are generated for each message.
            if *name != header::CONTENT_LENGTH && *name != header::CONTENT_RANGE {
                for line in headers.get_all(name) {
                    aside.append(name, line);
                }
            }
            headers.remove(name);
        }
        if policy.set_cookie != SetCookiePolicy::Store {
            headers.remove(header::SET_COOKIE);
        }
        for name in [
            header::PROXY_AUTHENTICATION_INFO,
            header::PROXY_AUTHORIZATION,
        ] {
            headers.remove(name);
        }
        finish::drop_malformed_cache_status(headers);
        let upstream_status = joined(headers, header::CACHE_STATUS);
        for name in [header::CACHE_STATUS, header::AGE] {
            headers.remove(name);
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
fn joined(headers: &Fields, name: Known) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(first.owned());
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
pub fn stays(freshness: &Freshness, stored: &Fields, arrived: &Fields, now: u64) -> bool {
    let made = |headers: &Fields| date::parse(headers.get(header::DATE)?.as_bytes());
    freshness.fresh(now)
        && !freshness.always_validate
        && made(stored)
            .zip(made(arrived))
            .is_some_and(|(stored, arrived)| stored > arrived)
}

#[cfg(test)]
mod tests;
