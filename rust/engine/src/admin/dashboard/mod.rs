//! The dashboard: its page, and the logins of people who read it with a browser.
//!
//! The page is data of the program and open to everybody; what it shows comes from the endpoints of `/v1`, which a
//! browser finds under `/dashboard/api`. Only there a cookie counts (`sessions`, `login`), and the cookie goes nowhere
//! else. `history` has the numbers of the last half hour, `pulse` takes them, `streams` sends them, and requests as
//! they are answered.

pub(super) mod costs;
pub(super) mod history;
pub(super) mod login;
pub(super) mod pulse;
pub(super) mod sessions;
pub(super) mod streams;

use http::{StatusCode, header};

use super::{
    answer::{self, Answer},
    call::{Call, Room},
};

/// The prefix under which a page of this listener finds the endpoints.
pub(super) const API: &str = "/dashboard/api";

/// Scripts and styles come from this listener only, nothing is inline, and text never becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal: $kind:expr,)+) => {
        &[$(($name, $kind, include_str!(concat!("page/", $name)))),+]
    };
}

const FILES: &[(&str, &str, &str)] = files! {
    "index.html": HTML,
    "style.css": STYLE,
    "icon.svg": ICON,
    "ledger.js": SCRIPT,
    "main.js": SCRIPT,
    "api.js": SCRIPT,
    "charts.js": SCRIPT,
    "costs.js": SCRIPT,
    "cache.js": SCRIPT,
    "dom.js": SCRIPT,
    "events.js": SCRIPT,
    "experiments.js": SCRIPT,
    "functions.js": SCRIPT,
    "metrics.js": SCRIPT,
    "overview.js": SCRIPT,
    "plan.js": SCRIPT,
    "requests.js": SCRIPT,
    "statistics.js": SCRIPT,
    "traffic.js": SCRIPT,
};

pub(super) fn page(_room: &Room, _call: &Call) -> Answer {
    file("index.html")
}

pub(super) fn asset(_room: &Room, call: &Call) -> Answer {
    file(call.parameter("file"))
}

fn file(wanted: &str) -> Answer {
    let Some((_, kind, text)) = FILES.iter().find(|(name, ..)| *name == wanted) else {
        let message = "there is no such file of the dashboard";
        return answer::error(StatusCode::NOT_FOUND, Some("path"), message);
    };
    let mut found = answer::of(StatusCode::OK, kind, *text);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY.as_str(), POLICY),
        (header::REFERRER_POLICY.as_str(), "same-origin"),
        (header::X_FRAME_OPTIONS.as_str(), "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        if let Ok(value) = http::HeaderValue::from_str(value)
            && let Ok(name) = http::HeaderName::from_bytes(name.as_bytes())
        {
            found.headers_mut().insert(name, value);
        }
    }
    found
}

/// The plan in service and the one before it, without secrets.
pub(super) fn plan(room: &Room, _call: &Call) -> Answer {
    let [now, before] = room.shared.documents.get();
    let live = room.shared.live.load();
    let shown = |document: &crate::live::Document| {
        serde_json::json!({
            "version": document.version,
            "since": document.since,
            "plan": document.data,
        })
    };
    let body = serde_json::json!({
        "name": &*live.plan.name,
        "version": live.version,
        "routes": edgerouter_core::plan::table::table(&live.plan),
        "now": now.as_deref().map(shown),
        "before": before.as_deref().map(shown),
    });
    answer::json(StatusCode::OK, &body)
}

/// The experiments of the plan with their counts.
pub(super) fn experiments(room: &Room, _call: &Call) -> Answer {
    let live = room.shared.live.load();
    answer::json(StatusCode::OK, &room.shared.counting.view(&live.plan))
}

/// The last events of the log and of the timeline.
pub(super) fn events(_room: &Room, call: &Call) -> Answer {
    match call.after() {
        Ok(after) => {
            let events = streams::events_since(after);
            answer::json(StatusCode::OK, &serde_json::json!({"events": events}))
        }
        Err(refused) => refused,
    }
}
