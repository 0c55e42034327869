//! Health, readiness and metrics.

use http::StatusCode;

use super::{
    answer::{self, Answer},
    call::{Call, Room},
};

pub(super) fn index(room: &Room, _call: &Call) -> Answer {
    let mut paths: Vec<&str> = room.paths().collect();
    paths.dedup();
    answer::text(
        StatusCode::OK,
        &format!("edgerouter: {}\n", paths.join(" ")),
    )
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

pub(super) fn metrics(room: &Room, _call: &Call) -> Answer {
    answer::of(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        room.shared.metrics(),
    )
}
