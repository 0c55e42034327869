//! Upgrades: after a 101 the connection is a tunnel (RFC 9110 §7.8), for WebSocket and whatever else was agreed on.

use http::{HeaderValue, Response, StatusCode, header};

use super::{
    answer::{self, Early},
    exchange::Exchange,
    origin::Received,
};
use crate::{body::EdgeBody, telemetry::Outcome};

/// Answers 101 and leaves the origin's side with the connection, which joins the two once the answer is written.
pub fn open(x: &mut Exchange, received: Received) -> Result<Response<EdgeBody>, Early> {
    let Received {
        mut headers,
        upgrade: Some(upstream),
        ..
    } = received
    else {
        return Err(answer::text(
            StatusCode::BAD_GATEWAY,
            "The origin switched protocols without being asked.",
        )
        .into());
    };
    if !x.wants_upgrade {
        return Err(answer::text(
            StatusCode::BAD_GATEWAY,
            "The origin switched protocols without being asked.",
        )
        .into());
    }
    x.note.outcome = Outcome::Tunnel;
    x.note.written = true;
    x.conn.tunnel_to(upstream);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    Ok(answer::of(
        StatusCode::SWITCHING_PROTOCOLS,
        headers,
        EdgeBody::empty(),
    ))
}
