//! Internal requests, so that a visitor finds the response stored: the same phases, without a client.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, rc::Rc, time::Instant};

use edgerouter_core::{
    http::{FieldName, Known, RequestParts, header},
    outcome::PrefetchResult,
    plan::PrefetchTarget,
};
use http::{HeaderValue, StatusCode};
use http_body::Body as _;

use super::{Exchange, path};
use crate::{
    connection::{Connection, Stream},
    telemetry::Outcome,
    worker::Worker,
};

/// The outcome of a prefetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefetched {
    /// It was stored already, and fresh for long enough.
    Fresh,
    Stored {
        bytes: u64,
    },
    /// The origin confirmed what was stored.
    Revalidated,
    /// Answered well, and not to be stored.
    NotStored {
        bytes: u64,
    },
    /// No answer, an error, or one cut off; with the status where there was one.
    Failed(Option<StatusCode>),
}

impl Prefetched {
    /// Its word.
    pub(crate) fn result(self) -> PrefetchResult {
        match self {
            Self::Fresh => PrefetchResult::Fresh,
            Self::Stored { .. } => PrefetchResult::Stored,
            Self::Revalidated => PrefetchResult::Revalidated,
            Self::NotStored { .. } => PrefetchResult::NotStored,
            Self::Failed(_) => PrefetchResult::Failed,
        }
    }
}

/// Fields of such a request beside `Host`; those of the list come last and win.
const FIELDS: [(Known, HeaderValue); 4] = [
    (header::ACCEPT, HeaderValue::from_static("*/*")),
    (
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("gzip, deflate, br, zstd"),
    ),
    (
        header::USER_AGENT,
        HeaderValue::from_static("edgerouter-prefetch"),
    ),
    (header::SEC_PURPOSE, HeaderValue::from_static("prefetch")),
];

/// Requests, and takes the whole response in. `fresh_for`: seconds for which a stored response must stay fresh to be
/// left alone.
pub(crate) async fn prefetch(
    worker: &Rc<Worker>,
    target: &PrefetchTarget,
    headers: &[(FieldName, HeaderValue)],
    fresh_for: Option<u32>,
) -> Prefetched {
    let mut head = RequestParts {
        target: target.path_and_query.clone(),
        ..RequestParts::default()
    };
    head.headers.insert(header::HOST, &target.authority);
    for (name, value) in &FIELDS {
        head.headers.insert(*name, value);
    }
    for (name, value) in headers {
        head.headers.insert(name, value);
    }
    let peer = SocketAddr::from(([127, 0, 0, 1], 0));
    let connection = Connection::new(peer, target.scheme, worker.clock.ticks(), 0);
    let stream = Rc::new(Stream::new(Rc::new(connection)));
    let mut exchange = Exchange::new(
        Rc::clone(worker),
        stream,
        Box::new(head),
        None,
        Instant::now(),
    );
    exchange.fresh_for = fresh_for;
    exchange.internal = true;
    if let Err(early) = exchange.admit() {
        return Prefetched::Failed(Some(early.0.status()));
    }
    let response = match path(&mut exchange).await {
        Ok(response) => response,
        Err(early) => return Prefetched::Failed(Some(early.0.status())),
    };
    let status = response.status();
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Err(_) => return Prefetched::Failed(Some(status)),
        }
    }
    if status.is_client_error() || status.is_server_error() {
        return Prefetched::Failed(Some(status));
    }
    match exchange.note.outcome {
        Outcome::StaleOnError | Outcome::Disconnected | Outcome::Error => Prefetched::Failed(None),
        Outcome::Revalidated => Prefetched::Revalidated,
        Outcome::Hit | Outcome::Stale => Prefetched::Fresh,
        Outcome::Coalesced => Prefetched::Stored { bytes },
        _ if exchange.note.stored => Prefetched::Stored { bytes },
        _ => Prefetched::NotStored { bytes },
    }
}
