//! Upgrades: after a 101 the connection is a tunnel (RFC 9110 §7.8), for WebSocket and whatever else was agreed on.

use edgerouter_core::http::header;
use http::{HeaderValue, StatusCode};

use super::{
    answer::{self, Early},
    exchange::Exchange,
    origin::Received,
};
use crate::body::{EdgeBody, EdgeResponse};
use crate::telemetry::Outcome;

/// Responds with 101 and leaves the origin's side with the stream: its connection joins the two once the response is written.
pub(crate) fn open(exchange: &mut Exchange, received: Received) -> Result<EdgeResponse, Early> {
    let Received { mut headers, .. } = received;
    let Some(upstream) = received.upgrade.filter(|_| exchange.wants_upgrade) else {
        return Err(answer::text(
            StatusCode::BAD_GATEWAY,
            "The origin switched protocols without being asked.",
        )
        .into());
    };
    exchange.note.outcome = Outcome::Tunnel;
    exchange.note.written = true;
    exchange.stream.tunnel_to(upstream);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    let status = StatusCode::SWITCHING_PROTOCOLS;
    Ok(answer::of(status, headers, EdgeBody::empty()))
}
