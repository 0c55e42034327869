//! The part of a response that a client is sent: from the store, while it arrives, or straight from the origin.

use std::sync::Arc;

use edgerouter_core::{
    cache::{
        decide::Allowance,
        slices::{self as cache_slices, ContentRange, content_length},
        validate::{self, Precondition},
    },
    finish::{self, Partial},
    http::{
        FieldLine, Fields, header,
        range::{self, RangeRequest},
        structured::Forward,
    },
    outcome::Detail,
    plan::Route,
};
use http::{Method, StatusCode};
use smallvec::SmallVec;

use super::{
    coded,
    slices::{
        body::{Part, body},
        coverage::Begin,
    },
};
use crate::{
    body::{EdgeBody, EdgeResponse, Excerpt},
    request::{
        Exchange, answer,
        origin::{Received, ReceivedBody},
    },
    store::{Entry, Object, arriving::ArrivalReader, flight::ArrivingResponse, range_of},
    telemetry::Outcome,
};

/// In which state a stored response is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    Fresh,
    /// Within stale-while-revalidate or the request's max-stale.
    Stale(Allowance),
    Revalidated,
    /// Another request brought it.
    Collapsed,
    StaleOnError(Allowance),
    /// Just stored in slices, which are still coming in.
    Cut,
    /// Stored but for some slices, which are fetched for this request.
    Filled,
    /// Stored but for some slices, which are coming in for another request.
    Joined,
}

impl Served {
    #[inline]
    fn outcome(self) -> Outcome {
        match self {
            Self::Fresh => Outcome::Hit,
            Self::Stale(_) => Outcome::Stale,
            Self::Revalidated => Outcome::Revalidated,
            Self::Collapsed | Self::Joined => Outcome::Coalesced,
            Self::StaleOnError(Allowance::Disconnected) => Outcome::Disconnected,
            Self::StaleOnError(_) => Outcome::StaleOnError,
            Self::Cut | Self::Filled => Outcome::Miss,
        }
    }
}

/// A response from the store, with conditions and ranges of the request answered.
pub(super) fn stored(
    exchange: &mut Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    mut object: Object,
    served: Served,
    begin: Begin,
) -> EdgeResponse {
    let age = object.freshness.age(exchange.now);
    let ttl = object.freshness.ttl(exchange.now);
    exchange.note.outcome = served.outcome();
    let status_field = note_served(exchange, &object, served, ttl);
    let mut headers = std::mem::take(&mut object.headers);
    headers.insert_line(&exchange.worker.values.age(age));
    match status_field {
        Some(value) => {
            headers.insert_line(&value);
            exchange.note.written = true;
        }
        None => match object.upstream_status.take() {
            Some(upstream) => {
                headers.insert(header::CACHE_STATUS, upstream);
            }
            None => {
                headers.remove(header::CACHE_STATUS);
            }
        },
    }
    if let Some(unmet) = unmet(exchange, object.status, &mut headers) {
        return unmet;
    }
    let begin = match begin {
        // The look-up of a fresh one has tried.
        Begin::Anywhere
            if route.compress && !matches!(served, Served::Fresh | Served::Stale(_)) =>
        {
            let coded = coded::in_memory(exchange, route, entry);
            coded.map_or(Begin::Anywhere, Begin::Coded)
        }
        begin => begin,
    };
    if let Begin::Coded(coded) = begin {
        let body = coded.apply(&exchange.head.method, &mut headers);
        return answer::of(object.status, headers, body);
    }
    if exchange.head.method == Method::HEAD {
        return answer::of(object.status, headers, EdgeBody::empty());
    }
    let ranged = match object.status {
        StatusCode::OK => ranged(exchange, &mut headers, object.length),
        _ => Ranged::Whole,
    };
    match ranged {
        Ranged::Unsatisfiable(refused) => refused,
        Ranged::Whole => {
            let body = whole_body(exchange, route, entry, &mut object, begin);
            answer::of(object.status, headers, body)
        }
        Ranged::Partial(partial) => {
            let body = partial_body(exchange, route, entry, &object, begin, &partial);
            answer::of(StatusCode::PARTIAL_CONTENT, headers, body)
        }
    }
}

/// Notes for `Cache-Status` and the metrics how the request was answered. Returns the whole field if it is that of a
/// plain hit, which a worker keeps.
#[inline]
fn note_served(
    exchange: &mut Exchange,
    object: &Object,
    served: Served,
    ttl: i64,
) -> Option<FieldLine> {
    match served {
        Served::Fresh => {
            exchange.note.hit = true;
            if ttl >= 0 && object.upstream_status.is_none() && exchange.note.key.is_none() {
                let pseudonym = exchange.live.plan.via.pseudonym();
                return Some((exchange.worker.values).hit(pseudonym, ttl.unsigned_abs()));
            }
        }
        Served::Stale(allowance) => {
            exchange.note.hit = true;
            exchange.note.detail = Some(allowance.into());
        }
        Served::Filled | Served::Joined => {
            exchange.note.forward = Some(Forward::Partial);
            exchange.note.detail = Some(Detail::SliceAbsent);
            exchange.note.collapsed = served == Served::Joined;
        }
        Served::StaleOnError(allowance) => {
            exchange.note.detail = Some(allowance.into());
            if allowance == Allowance::Disconnected {
                // There was no origin to which the request could have been forwarded (RFC 9211 §2.1).
                exchange.note.hit = true;
                exchange.note.forward = None;
                exchange.note.collapsed = false;
            }
        }
        Served::Revalidated | Served::Collapsed | Served::Cut => {}
    }
    exchange.note.ttl = Some(ttl);
    None
}

/// The answer to a request whose conditions a response does not meet (RFC 9110 §13).
fn unmet(exchange: &Exchange, status: StatusCode, headers: &mut Fields) -> Option<EdgeResponse> {
    let conditions = &exchange.head.headers;
    let status = match validate::precondition(&exchange.head.method, conditions, status, headers) {
        Precondition::Send => return None,
        Precondition::NotModified => {
            validate::not_modified(headers);
            StatusCode::NOT_MODIFIED
        }
        Precondition::Failed => {
            finish::condition_failed(headers);
            StatusCode::PRECONDITION_FAILED
        }
    };
    let headers = std::mem::take(headers);
    Some(answer::of(status, headers, EdgeBody::empty()))
}

fn whole_body(
    exchange: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: &mut Object,
    begin: Begin,
) -> EdgeBody {
    let parts = || [Part::Range(object.range())].into();
    body(exchange, route, entry, object, begin, parts)
        .unwrap_or_else(|| EdgeBody::stored(std::mem::take(&mut object.body), object.length))
}

/// The bytes of a 206: from slices where the response is stored in them, or else from its content in memory.
fn partial_body(
    exchange: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    object: &Object,
    begin: Begin,
    partial: &Partial,
) -> EdgeBody {
    match partial {
        Partial::Single(range) => {
            let parts = || [Part::Range(*range)].into();
            body(exchange, route, entry, object, begin, parts)
                .map(|body| taken(exchange, body))
                .unwrap_or_else(|| EdgeBody::stored_range(&object.body, range.first, range.last))
        }
        Partial::Multi { parts, end, .. } => {
            let in_slices = || {
                parts
                    .iter()
                    .flat_map(|(head, range)| [Part::Bytes(head.clone()), Part::Range(*range)])
                    .chain([Part::Bytes(end.clone())])
                    .collect()
            };
            body(exchange, route, entry, object, begin, in_slices)
                .map(|body| taken(exchange, body))
                .unwrap_or_else(|| {
                    let mut pieces = SmallVec::new();
                    for (head, range) in parts {
                        pieces.push(head.clone());
                        pieces.extend(range_of(&object.body, range.first, range.last));
                    }
                    pieces.push(end.clone());
                    EdgeBody::pieces(pieces)
                })
        }
    }
}

/// Adds the sent bytes of a range to the account of the client, which bounds the bytes that are fetched for it.
fn taken(exchange: &Exchange, body: EdgeBody) -> EdgeBody {
    let shared = Arc::clone(&exchange.worker.shared);
    let (client, now) = (exchange.client.address, exchange.now);
    body.on_end(move |bytes| shared.fills.sent(client, bytes, now))
}

/// The outcome of the request's `Range` for a response (RFC 9110 §14.2).
enum Ranged {
    Whole,
    Partial(Partial),
    Unsatisfiable(EdgeResponse),
}

/// Turns the header section of a 200 into that of a 206 if the client requests parts.
fn ranged(exchange: &Exchange, headers: &mut Fields, length: u64) -> Ranged {
    let request = &exchange.head.headers;
    let Some(field) = range::of(request) else {
        return Ranged::Whole;
    };
    if !range::if_range(request, headers) {
        return Ranged::Whole;
    }
    match range::parse(field, length) {
        RangeRequest::None => Ranged::Whole,
        RangeRequest::Unsatisfiable => {
            let mut refused = finish::unsatisfiable(length);
            for name in [header::AGE, header::CACHE_STATUS, header::VIA, header::DATE] {
                if let Some(value) = headers.get(name) {
                    refused.insert(name, value);
                }
            }
            Ranged::Unsatisfiable(answer::of(
                StatusCode::RANGE_NOT_SATISFIABLE,
                refused,
                EdgeBody::empty(),
            ))
        }
        RangeRequest::Satisfiable(ranges) => {
            let random = exchange.worker.shared.unguessable();
            finish::partial(headers, &ranges, length, random).map_or(Ranged::Whole, Ranged::Partial)
        }
    }
}

/// An answer that is not stored, to a request whose conditions and range were not sent on: they are evaluated here. If
/// several parts are requested, or the length is unknown, all of it is sent (RFC 9110 §14.2).
pub(crate) fn as_requested(exchange: &Exchange, mut received: Received) -> EdgeResponse {
    if let Some(unmet) = unmet(exchange, received.status, &mut received.headers) {
        return unmet;
    }
    let length = match &received.body {
        ReceivedBody::Whole(bytes) => Some(bytes.len() as u64),
        ReceivedBody::Upstream(_) => content_length(&received.headers),
        // All of it is sent: a function makes it anyway.
        ReceivedBody::Piped(_) => None,
    };
    let part = received.status == StatusCode::OK && exchange.head.method == Method::GET;
    let mut headers = received.headers.clone();
    match length
        .filter(|_| part)
        .map(|length| ranged(exchange, &mut headers, length))
    {
        Some(Ranged::Unsatisfiable(refused)) => refused,
        Some(Ranged::Partial(Partial::Single(range))) => {
            let body = match received.body {
                ReceivedBody::Whole(bytes) => {
                    let first = usize::try_from(range.first).unwrap_or(usize::MAX);
                    let end = usize::try_from(range.last + 1).unwrap_or(usize::MAX);
                    let end = end.min(bytes.len());
                    EdgeBody::bytes(bytes.slice(first.min(end)..end))
                }
                ReceivedBody::Upstream(body) => {
                    let length = range.last - range.first + 1;
                    EdgeBody::streamed(Excerpt::new(body, range.first, length))
                }
                // It has no ranges.
                ReceivedBody::Piped(body) => EdgeBody::streamed(body),
            };
            answer::of(StatusCode::PARTIAL_CONTENT, headers, body)
        }
        Some(Ranged::Partial(Partial::Multi { .. }) | Ranged::Whole) | None => straight(received),
    }
}

/// The requested bytes of a part that arrived and is not stored; `None` when the part does not hold all of them.
pub(super) fn part_of(
    exchange: &Exchange,
    received: Received,
    part: &ContentRange,
) -> Option<EdgeResponse> {
    let field = range::of(&exchange.head.headers)?;
    // The origin decides whether the parts of another representation are wanted.
    if exchange.head.headers.contains_key(header::IF_RANGE) {
        return None;
    }
    let found = cache_slices::within(field, part)?;
    let ReceivedBody::Upstream(body) = received.body else {
        return None;
    };
    let mut headers = received.headers;
    if let Some(unmet) = unmet(exchange, StatusCode::OK, &mut headers) {
        return Some(unmet);
    }
    Some(match found {
        Ok(range) => {
            finish::partial(
                &mut headers,
                &[range],
                part.complete,
                exchange.worker.shared.unguessable(),
            )?;
            let skip = range.first - part.range.first;
            let body = Excerpt::new(body, skip, range.last - range.first + 1);
            answer::of(
                StatusCode::PARTIAL_CONTENT,
                headers,
                EdgeBody::streamed(body),
            )
        }
        Err(length) => answer::of(
            StatusCode::RANGE_NOT_SATISFIABLE,
            finish::unsatisfiable(length),
            EdgeBody::empty(),
        ),
    })
}

/// An answer that is not stored, passed on as it comes.
pub(crate) fn straight(received: Received) -> EdgeResponse {
    let Received {
        status,
        headers,
        body,
        ..
    } = received;
    answer::of(status, headers, body.into_body())
}

/// An answer read while it arrives.
pub(super) fn read_along(
    exchange: &mut Exchange,
    arriving: &Arc<ArrivingResponse>,
    reader: ArrivalReader,
) -> EdgeResponse {
    let mut headers = arriving.headers.clone();
    match arriving.freshness.age(exchange.worker.clock.unix_now()) {
        0 => {
            headers.remove(header::AGE);
        }
        age => headers.insert_line(&exchange.worker.values.age(age)),
    }
    exchange.note.ttl = Some(arriving.freshness.ttl(exchange.worker.clock.unix_now()));
    match &arriving.upstream_status {
        Some(upstream) => headers.insert(header::CACHE_STATUS, upstream.clone()),
        None => {
            headers.remove(header::CACHE_STATUS);
        }
    }
    if let Some(unmet) = unmet(exchange, arriving.status, &mut headers) {
        return unmet;
    }
    if arriving.status == StatusCode::OK
        && exchange.head.method == Method::GET
        && let Some(length) = arriving.content_length
    {
        let mut ranged_headers = headers.clone();
        match ranged(exchange, &mut ranged_headers, length) {
            Ranged::Unsatisfiable(refused) => return refused,
            Ranged::Partial(Partial::Single(range)) => {
                let body = EdgeBody::arriving_range(reader, range.first, range.last);
                return answer::of(StatusCode::PARTIAL_CONTENT, ranged_headers, body);
            }
            // Several parts of a response that is still arriving: the whole is an answer too.
            Ranged::Partial(Partial::Multi { .. }) | Ranged::Whole => {}
        }
    }
    answer::of(
        arriving.status,
        headers,
        EdgeBody::arriving(reader, arriving.content_length),
    )
}

/// Adds the fields that only the client gets whose request brought the response of this status. They are not of a 412
/// or 416 that the edge made of it.
pub(super) fn with_aside(
    mut response: EdgeResponse,
    brought: StatusCode,
    aside: Fields,
) -> EdgeResponse {
    let status = response.status();
    if status == brought || status.is_success() || status == StatusCode::NOT_MODIFIED {
        response.headers_mut().extend(&aside);
    }
    response
}
