//! Challenges of issuers of certificates (RFC 8555 §8.3): answered in plain text while they are live.

use bytes::Bytes;
use edgerouter_core::{
    acme::challenge_token,
    http::{Fields, header},
    outcome::Detail,
};
use http::{HeaderValue, Method, StatusCode};

use super::{
    answer::{self, EdgeMade},
    exchange::Exchange,
};
use crate::body::{EdgeBody, EdgeResponse};

/// The token that a request is for. Issuers send theirs to port 80; a connection with TLS is never one of them.
pub(super) fn token(exchange: &Exchange) -> Option<Box<str>> {
    let head = &exchange.head;
    let is_plain = exchange.stream.connection.tls().is_none();
    let token = challenge_token(head.target.path())?;
    (is_plain && head.method == Method::GET).then(|| token.into())
}

/// The answer to a live token; `None`: the request goes on as any other, so that an origin may have challenges of its
/// own.
pub(super) async fn answer(exchange: &mut Exchange, token: &str) -> Option<EdgeResponse> {
    let shared = &exchange.worker.shared;
    let authorization = shared.acme.certificates().answer(token).await?;
    exchange.note.detail = Some(Detail::Challenge);
    let body = EdgeBody::bytes(Bytes::from(authorization));
    let mut response = answer::of(StatusCode::OK, Fields::with_capacity(8), body);
    let octets = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, octets);
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response.extensions_mut().insert(EdgeMade);
    Some(response)
}
