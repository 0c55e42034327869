//! Upgrades: after a 101 the connection is a tunnel (RFC 9110 §7.8), for WebSocket and whatever else was agreed on.

use http::{HeaderValue, Response, StatusCode, header};

use super::{
    answer::{self, Early},
    exchange::Exchange,
    origin::Received,
};
use crate::{body::EdgeBody, telemetry::Outcome};

/// Responds with 101 and leaves the origin's side with the stream: its connection joins the two once the response is written.
pub(crate) fn open(x: &mut Exchange, received: Received) -> Result<Response<EdgeBody>, Early> {
    let Received { mut headers, .. } = received;
    let Some(upstream) = received.upgrade.filter(|_| x.wants_upgrade) else {
        return Err(answer::text(
            StatusCode::BAD_GATEWAY,
            "The origin switched protocols without being asked.",
        )
        .into());
    };
    x.note.outcome = Outcome::Tunnel;
    x.note.written = true;
    x.stream.tunnel_to(upstream);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    Ok(answer::of(
        StatusCode::SWITCHING_PROTOCOLS,
        headers,
        EdgeBody::empty(),
    ))
}
