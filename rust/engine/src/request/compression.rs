//! Compression in phase 15: the core decides, threads compress.

use edgerouter_core::{
    cache::slices::content_length,
    compression::{self, NotCompressed},
    plan::Route,
};
use http::{Method, StatusCode};
use http_body::Body as _;

use super::exchange::Exchange;
use crate::{
    body::{EdgeBody, EdgeResponse},
    compress::CompressedBody,
    telemetry::Outcome,
};

/// Compresses a response of a route that does so, if the request and the response allow it.
pub(super) fn compress(exchange: &Exchange, route: &Route, response: &mut EdgeResponse) {
    let request = &exchange.head;
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED {
        // The 304 of a file has the fields of its 200.
        if exchange.note.outcome != Outcome::File {
            compression::not_modified(&request.headers, response.headers_mut());
        }
        return;
    }
    let decision = compression::decide(
        &request.headers,
        status,
        response.headers(),
        length(response),
    );
    let decision = match decision {
        // The head is that of GET (RFC 9110 §9.3.2).
        Ok(coding) if request.method != Method::HEAD => {
            let shared = &exchange.worker.shared;
            let owner = exchange.owner(route);
            match shared.compressors.begin(coding, &shared.account, owner) {
                Some(compressing) => {
                    let plain = std::mem::replace(response.body_mut(), EdgeBody::empty());
                    let body = CompressedBody::new(plain, compressing);
                    *response.body_mut() = EdgeBody::streamed(body);
                    Ok(coding)
                }
                None => Err(NotCompressed::Busy),
            }
        }
        decision => decision,
    };
    compression::apply(decision, response.headers_mut());
}

/// Length of the content, or of what a GET would bring.
fn length(response: &EdgeResponse) -> Option<u64> {
    content_length(response.headers()).or_else(|| response.body().size_hint().exact())
}
