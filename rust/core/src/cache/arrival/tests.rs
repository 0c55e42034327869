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

fn head(text: &str) -> Fields {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    let field = |(name, value): (&str, &str)| {
        (
            name.parse().unwrap(),
            http::HeaderValue::from_str(value).unwrap(),
        )
    };
    let mut headers = Fields::new();
    for (name, value) in lines.map(field) {
        let name: FieldName = name;
        headers.append(name, value);
    }
    headers
}

/// Requests to the only route of a plan.
struct Requests {
    plan: Plan,
    directives: RequestDirectives,
    no_store: RequestDirectives,
}

impl Requests {
    fn under(cache: &serde_json::Value) -> Self {
        Self {
            plan: plan(cache),
            directives: RequestDirectives::default(),
            no_store: RequestDirectives {
                no_store: true,
                ..RequestDirectives::default()
            },
        }
    }

    fn plain(&self) -> AnsweredRequest<'_> {
        AnsweredRequest {
            method: &Method::GET,
            directives: &self.directives,
            authorization: Authorization::None,
            forbidden: None,
            is_static: false,
            slice: None,
            sees: Sees {
                route: self.plan.routes.first().unwrap(),
                hooked: &[],
            },
        }
    }

    fn no_store(&self) -> AnsweredRequest<'_> {
        AnsweredRequest {
            directives: &self.no_store,
            ..self.plain()
        }
    }
}

fn response<'a>(status: u16, headers: &'a Fields, hooked: &'a HookEffect) -> ArrivedResponse<'a> {
    ArrivedResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        hooked,
        requested_at: NOW,
        received_at: NOW,
    }
}

fn outcome(request: &AnsweredRequest<'_>, status: u16, text: &str, bounds: StoreBounds) -> String {
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
    let requests = Requests::under(&json!({"headers": ["X-Keyed"]}));
    let plain = requests.plain();
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
    let requests = Requests::under(&json!({}));
    let plain = requests.plain();
    let credentials = AnsweredRequest {
        authorization: Authorization::Present,
        ..plain
    };
    for (request, text, want) in [
        // §5.2.1.5
        (
            requests.no_store(),
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
    let requests = Requests::under(&json!({}));
    let range = |first, last| AnsweredRequest {
        slice: Some(First::Slice(Range { first, last })),
        ..requests.plain()
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
    let requests = Requests::under(&json!({"set_cookie": "strip"}));
    let mut headers = head(
        "cache-control: max-age=60, private=\"x-user\"\nx-user: ada\nset-cookie: a=b\nage: 3\n\
         cache-status: origin; hit\ncache-status: shield; fwd=miss\ncontent-type: text/plain",
    );
    let part = HookEffect::default();
    let decided = requests
        .plain()
        .decide(&response(200, &headers, &part), BOUNDS);
    let ArrivalDecision::Stored(storing) = decided else {
        panic!("{decided:?}");
    };
    let mut status = StatusCode::OK;
    let policy = &requests.plan.routes.first().unwrap().cache;
    let head = storing.head(&mut status, &mut headers, policy);
    let names: Vec<_> = head.headers.names().map(|name| name.lower()).collect();
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
    let requests = Requests::under(&json!({}));
    let plain = requests.plain();
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
            requests.no_store(),
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
    let requests = Requests::under(&json!({}));
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
        let decided = requests
            .plain()
            .decide(&response(200, &headers, &part), BOUNDS);
        let ArrivalDecision::Stored(storing) = decided else {
            panic!("{decided:?}");
        };
        let stays = stays(&storing.freshness, &headers, &head(arrived), now);
        assert_eq!(stays, want, "{stored}, {arrived}, {more}, {now}");
    }
}
