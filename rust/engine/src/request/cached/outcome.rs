//! The outcome of a fetch, and how much of it other requests may share.

use std::{sync::Arc, time::Instant};

use edgerouter_core::{
    cache::{slices::ContentRange, storable::NotStored},
    http::{FieldName, Fields},
    outcome::Detail,
};
use smallvec::SmallVec;

use crate::{
    request::origin::{Received, ReceivedBody, Unanswered},
    store::{
        Entry, FlightState, PurgeFacts,
        arriving::ArrivalReader,
        flight::{ArrivingResponse, Reuse},
        run,
    },
    upstream::{FetchError, Unavailable},
};

/// The outcome of a fetch. Header sections are the fields that only the client gets whose request caused it,
/// readers keep what arrives until it is sent.
pub(super) enum FetchOutcome {
    /// For that client only.
    Own(Received, NotStored),
    /// On its way into the store.
    Arriving(Arc<ArrivingResponse>, Option<ArrivalReader>, Fields),
    /// Stored, or still arriving in slices, with a reader where that is known to start at the first byte.
    Stored(Arc<Entry>, Reuse, Option<run::RunReader>, Fields),
    /// The response to a request for a slice cannot be stored in slices.
    NotSliceable(Detail, Option<(Received, ContentRange)>),
    Failed(Unanswered),
}

impl FetchOutcome {
    pub(super) fn no_origin() -> Self {
        Self::Failed(Unanswered::Failed(FetchError::NoOrigin.into()))
    }

    /// The outcome for the requests that follow.
    pub(super) fn shared(&self) -> FlightState {
        match self {
            // A reason of only this request's own says nothing about the others: the next one leads.
            Self::Own(_, NotStored::RequestNoStore) => FlightState::Lost,
            Self::Arriving(arriving, ..) => FlightState::Arriving(Arc::clone(arriving)),
            Self::Stored(_, Reuse::RevalidatedForOne, ..) => FlightState::Released,
            Self::Stored(entry, reuse, ..) => FlightState::Stored(Arc::clone(entry), *reuse),
            // It gave way while no request followed: one that has followed since leads.
            Self::Failed(Unanswered::Failed(Unavailable {
                error: FetchError::GaveWay(_),
                ..
            })) => FlightState::Lost,
            // One failure is enough to know: a stampede would not make the origin better.
            Self::Failed(Unanswered::Failed(error)) => FlightState::Failed(error.clone()),
            Self::Own(..) | Self::NotSliceable(..) | Self::Failed(Unanswered::Early(_)) => {
                FlightState::Released
            }
        }
    }
}

/// A storable response whose body is still to come.
pub(super) struct Arrival {
    pub arriving: Arc<ArrivingResponse>,
    pub body: ReceivedBody,
    /// When the request was sent.
    pub started: Instant,
    /// XFetch's beta, where the route refreshes ahead.
    pub refresh_ahead: Option<f64>,
    pub set_aside: SmallVec<[FieldName; 2]>,
    pub facts: PurgeFacts,
}
