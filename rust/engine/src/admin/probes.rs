//! Health, readiness and metrics.

use edgerouter_core::http::{accept, header};
use http::StatusCode;

use super::{
    answer::{self, Answer},
    call::{Call, Room},
};
use crate::telemetry::text;

pub(super) fn index(room: &Room, _call: &Call) -> Answer {
    let paths = room.paths().join(" ");
    answer::text(StatusCode::OK, &format!("edgerouter: {paths}\n"))
}

pub(super) fn health(_room: &Room, _call: &Call) -> Answer {
    answer::text(StatusCode::OK, "ok\n")
}

pub(super) fn readiness(room: &Room, _call: &Call) -> Answer {
    match room.shared.readiness() {
        Ok(()) => answer::json(StatusCode::OK, &serde_json::json!({"ready": true})),
        Err(reasons) => answer::json(
            StatusCode::SERVICE_UNAVAILABLE,
            &serde_json::json!({"ready": false, "reasons": reasons}),
        ),
    }
}

/// In the format that the scraper prefers.
pub(super) fn metrics(room: &Room, call: &Call) -> Answer {
    let is_open = accept::prefers_open_metrics(&call.headers);
    let metrics = room.shared.metrics(is_open);
    let (kind, body) = if is_open {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        (kind, text::open_metrics(&metrics))
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", metrics)
    };
    answer::with(
        answer::of(StatusCode::OK, kind, body),
        header::VARY,
        "accept",
    )
}
