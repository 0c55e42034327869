//! What a client is sent of a response: from the store, while it arrives, or straight from the origin.

use std::sync::Arc;

use edgerouter_core::{
    cache::validate::{self, Outcome as Precondition},
    finish::{self, Partial},
    http::range::{self, RangeRequest},
    plan::Route,
};
use http::{HeaderMap, Method, Response, StatusCode, header};
use smallvec::SmallVec;

use crate::{
    body::{EdgeBody, range_of},
    request::{
        CACHE_STATUS, Exchange, answer,
        origin::{Received, ReceivedBody},
    },
    store::{Entry, Object, arriving::Reader, flight::ArrivingResponse},
    telemetry::Outcome,
};

/// In which state a stored response is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    Fresh,
    /// Within stale-while-revalidate or the request's max-stale.
    Stale,
    Revalidated,
    /// Another request brought it.
    Collapsed,
    StaleOnError,
}

/// A response from the store, with conditions and ranges of the request answered.
pub fn stored(
    x: &mut Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: &Object,
    served: Served,
) -> Response<EdgeBody> {
    let _ = (entry, route);
    let request = &x.head.headers;
    let age = object.freshness.age(x.now);
    let ttl = object.freshness.ttl(x.now);
    x.note.outcome = match served {
        Served::Fresh => Outcome::Hit,
        Served::Stale => Outcome::Stale,
        Served::Revalidated => Outcome::Revalidated,
        Served::Collapsed => Outcome::Coalesced,
        Served::StaleOnError => Outcome::StaleOnError,
    };
    let status_field = match served {
        Served::Fresh | Served::Stale => {
            x.note.hit = true;
            if ttl >= 0 && object.upstream_status.is_none() {
                Some(x.worker.values.hit(&x.live.plan.via, ttl.unsigned_abs()))
            } else {
                x.note.ttl = Some(ttl);
                None
            }
        }
        Served::Revalidated | Served::Collapsed | Served::StaleOnError => {
            x.note.ttl = Some(ttl);
            None
        }
    };
    let mut headers = object.headers.clone();
    headers.insert(header::AGE, x.worker.values.age(age));
    match status_field {
        Some(value) => {
            headers.insert(CACHE_STATUS, value);
            x.note.written = true;
        }
        None => match &object.upstream_status {
            Some(upstream) => {
                headers.insert(CACHE_STATUS, upstream.clone());
            }
            None => {
                headers.remove(CACHE_STATUS);
            }
        },
    }
    match validate::precondition(&x.head.method, request, object.status, &object.headers) {
        Precondition::Send => {}
        Precondition::NotModified => {
            validate::not_modified(&mut headers);
            return answer::of(StatusCode::NOT_MODIFIED, headers, EdgeBody::empty());
        }
        Precondition::Failed => {
            headers.remove(header::CONTENT_LENGTH);
            return answer::of(
                StatusCode::PRECONDITION_FAILED,
                HeaderMap::new(),
                EdgeBody::empty(),
            );
        }
    }
    if x.head.method == Method::HEAD {
        return answer::of(object.status, headers, EdgeBody::empty());
    }
    if object.status == StatusCode::OK
        && let Some(asked) = request.get(header::RANGE)
        && range::if_range(request, &object.headers)
    {
        match range::parse(asked, object.length) {
            RangeRequest::None => {}
            RangeRequest::Unsatisfiable => {
                let mut refused = finish::unsatisfiable(object.length);
                for name in [header::AGE, CACHE_STATUS, header::VIA, header::DATE] {
                    if let Some(value) = headers.remove(&name) {
                        refused.insert(name, value);
                    }
                }
                return answer::of(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    refused,
                    EdgeBody::empty(),
                );
            }
            RangeRequest::Satisfiable(ranges) => {
                match finish::partial(&mut headers, &ranges, object.length) {
                    None => {}
                    Some(Partial::Single(range)) => {
                        let body = EdgeBody::stored_range(&object.body, range.first, range.last);
                        return answer::of(StatusCode::PARTIAL_CONTENT, headers, body);
                    }
                    Some(Partial::Multi { parts, end, .. }) => {
                        let mut pieces = SmallVec::new();
                        for (head, range) in parts {
                            pieces.push(head);
                            pieces.extend(range_of(&object.body, range.first, range.last));
                        }
                        pieces.push(end);
                        return answer::of(
                            StatusCode::PARTIAL_CONTENT,
                            headers,
                            EdgeBody::pieces(pieces),
                        );
                    }
                }
            }
        }
    }
    answer::of(
        object.status,
        headers,
        EdgeBody::stored(&object.body, object.length),
    )
}

/// An answer that is not stored, passed on as it comes.
pub fn straight(received: Received) -> Response<EdgeBody> {
    let Received {
        status,
        headers,
        body,
        ..
    } = received;
    let body = match body {
        ReceivedBody::Upstream(body) => EdgeBody::upstream(body),
        ReceivedBody::Whole(bytes) => EdgeBody::bytes(bytes),
    };
    answer::of(status, headers, body)
}

/// An answer read while it arrives.
pub(super) fn read_along(
    x: &mut Exchange,
    arriving: &Arc<ArrivingResponse>,
    reader: Reader,
) -> Response<EdgeBody> {
    let mut headers = arriving.headers.clone();
    if arriving.initial_age > 0 {
        headers.insert(
            header::AGE,
            x.worker.values.age(u64::from(arriving.initial_age)),
        );
    } else {
        headers.remove(header::AGE);
    }
    headers.remove(CACHE_STATUS);
    match validate::precondition(
        &x.head.method,
        &x.head.headers,
        arriving.status,
        &arriving.headers,
    ) {
        Precondition::Send => {}
        Precondition::NotModified => {
            validate::not_modified(&mut headers);
            return answer::of(StatusCode::NOT_MODIFIED, headers, EdgeBody::empty());
        }
        Precondition::Failed => {
            return answer::of(
                StatusCode::PRECONDITION_FAILED,
                HeaderMap::new(),
                EdgeBody::empty(),
            );
        }
    }
    answer::of(
        arriving.status,
        headers,
        EdgeBody::arriving(reader, arriving.content_length),
    )
}
