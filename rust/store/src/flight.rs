//! Request coalescing: concurrent requests for one key meet here, and one of them goes to the origin.
//!
//! The fetch itself is a task of its own, so a leader whose client disconnects neither stops it nor blocks others.
//! However that task ends, its `Lead` is dropped, which wakes the followers: if nothing is known yet, the next of them
//! leads.

use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::watch;

use super::{arriving::Arriving, busy::BusyKeys, entry::Entry};
use edgerouter_core::{
    cache::{
        decide::{Allowance, Outage},
        freshness::Freshness,
    },
    http::{FieldName, Fields},
    origin::unanswered::Unavailable,
};
use edgerouter_telemetry::text;

/// The state of a flight, as its followers see it.
#[derive(Debug, Clone, Default)]
pub enum FlightState {
    /// The response is not here yet.
    #[default]
    Waiting,
    /// The head is here, the body is arriving, and both may be shared.
    Arriving(Arc<ArrivingResponse>),
    /// A stored response, freshened or found good enough.
    Stored(Arc<Entry>, Reuse),
    /// Nothing to share: each follower fetches for itself.
    Released,
    /// The leader was lost, or its response says nothing about the others': the next one leads.
    Lost,
    /// No origin answered.
    Failed(Unavailable),
}

/// Why a stored response may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// The origin answered 304, or a full response that has just been stored.
    Revalidated,
    /// As `Revalidated`, but the store has another response or the one of before: the request said `no-store`, or
    /// another response took its place meanwhile.
    RevalidatedUnstored,
    /// As `Revalidated`, for the client whose request brought the 304: it says that the response is not for others.
    RevalidatedForOne,
    /// The origin failed so and the stored response may stand in (RFC 5861 §4): by this rule, after this status if any.
    StaleOnError(Allowance, Outage, Option<StatusCode>),
    /// The head is stored and the body is coming in slices; with the origin's status.
    Cut(StatusCode),
}

/// A response on its way into the store.
#[derive(Debug)]
pub struct ArrivingResponse {
    /// The final status.
    pub status: StatusCode,
    /// As an [`super::Object`]'s headers.
    pub headers: Fields,
    /// The announced length in bytes; `None` if the origin sent none.
    pub content_length: Option<u64>,
    /// Its times, computed on arrival.
    pub freshness: Freshness,
    /// As an [`super::Object`]'s.
    pub upstream_status: Option<HeaderValue>,
    /// Selecting names, and the secondary key of the request that was sent: a follower may read along only when its
    /// own request gives the same (RFC 9111 §4.1).
    pub vary: SmallVec<[FieldName; 4]>,
    /// The secondary key of the request that was sent.
    pub secondary: Box<[u8]>,
    /// The body, which followers read while it arrives.
    pub body: Arc<Arriving>,
}

type Key = Box<[u8]>;
type Table = HashMap<Key, Flight, foldhash::fast::RandomState>;

/// One fetch that is under way.
#[derive(Debug)]
struct Flight {
    state: watch::Receiver<FlightState>,
    id: u64,
    departed: Departure,
    since: Instant,
}

/// The newest events that had made stored responses invalid when a fetch departed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Departure {
    /// The newest purge.
    pub purge: u64,
    /// The newest invalidation by an unsafe request.
    pub invalidation: u64,
}

/// The shared fetches going on, by key: one leads, the others follow.
#[derive(Debug)]
pub struct Flights {
    shards: Box<[Mutex<Table>]>,
    hasher: foldhash::fast::RandomState,
    ids: AtomicU64,
    paces: Paces,
    busy: BusyKeys,
}

/// When keys last had a new leader, where origins are spared. Keys that meet in a slot wait for each other.
#[derive(Debug)]
struct Paces {
    /// Milliseconds since `began`, plus one; 0: never.
    slots: Box<[AtomicU64]>,
    began: Instant,
}

const PACES: usize = 1024;
/// One new leader a key in this time.
const PACE: u64 = 1_000;

impl Paces {
    fn new() -> Self {
        Self {
            slots: (0..PACES).map(|_| AtomicU64::new(0)).collect(),
            began: Instant::now(),
        }
    }

    /// Takes the turn of a key, or says how long it is until the next.
    #[allow(clippy::indexing_slicing)] // the remainder is below the length
    fn turn(&self, hash: u64) -> Result<(), Duration> {
        let slot = &self.slots[hash as usize % self.slots.len()];
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let last = slot.load(Ordering::Relaxed);
        let passed = now.saturating_sub(last);
        if last != 0 && passed < PACE {
            return Err(Duration::from_millis(PACE - passed));
        }
        slot.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
            .map(drop)
            .map_err(|_| Duration::from_millis(PACE))
    }
}

/// The outcome of a wish to fetch.
#[derive(Debug)]
pub enum Join {
    /// The caller fetches, and the others wait for it.
    Lead(Lead),
    /// With the time at which the flight departed.
    Follow(watch::Receiver<FlightState>, Instant),
    /// The origin is spared: the next may lead after this long.
    Wait(Duration),
}

/// The duty to fetch. Dropping it without an answer makes the next follower lead.
#[derive(Debug)]
pub struct Lead {
    flights: Arc<Flights>,
    key: Key,
    id: u64,
    state: watch::Sender<FlightState>,
}

impl Flights {
    /// Starts without flights.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..16).map(|_| Mutex::new(HashMap::default())).collect(),
            hasher: foldhash::fast::RandomState::default(),
            ids: AtomicU64::new(0),
            paces: Paces::new(),
            busy: BusyKeys::default(),
        })
    }

    /// Follows the flight for `key`, or leads one that departs `now`. A flight that departed before something which may
    /// concern it (`outdated`, called with its departure) goes on for those who follow already. `spare`: the origin is
    /// not well, and has at most one new leader a key and second.
    pub fn join(
        self: &Arc<Self>,
        key: &[u8],
        now: Departure,
        outdated: impl FnOnce(Departure) -> bool,
        spare: bool,
    ) -> Join {
        let mut flights = self.shard(key).lock();
        if let Some(flight) = flights.get(key)
            && (flight.departed == now || !outdated(flight.departed))
        {
            return Join::Follow(flight.state.clone(), flight.since);
        }
        if spare && let Err(wait) = self.paces.turn(self.hasher.hash_one(key)) {
            return Join::Wait(wait);
        }
        Join::Lead(self.depart(&mut flights, key, now))
    }

    /// Leads a new flight for a key whose last one takes too long: one request a second may.
    pub fn take_over(self: &Arc<Self>, key: &[u8], now: Departure) -> Option<Lead> {
        self.paces.turn(self.hasher.hash_one(key)).ok()?;
        let mut flights = self.shard(key).lock();
        Some(self.depart(&mut flights, key, now))
    }

    fn depart(self: &Arc<Self>, flights: &mut Table, key: &[u8], now: Departure) -> Lead {
        let (state, followers) = watch::channel(FlightState::Waiting);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let flight = Flight {
            state: followers,
            id,
            departed: now,
            since: Instant::now(),
        };
        flights.insert(key.into(), flight);
        Lead {
            flights: Arc::clone(self),
            key: key.into(),
            id,
            state,
        }
    }

    /// Notes that the origin answered 503 with a time for the next request (`edgerouter_core::origin::retry_after`).
    pub fn spare(&self, url: &[u8], dimensions: &[u8], pause: Duration, retry_after: HeaderValue) {
        let key = self.hasher.hash_one((url, dimensions));
        self.busy.spare(key, pause, retry_after);
    }

    /// The `Retry-After` of a key whose origin is to be spared now.
    pub fn retry_after(&self, url: &[u8], dimensions: &[u8]) -> Option<HeaderValue> {
        self.busy
            .retry_after(|| self.hasher.hash_one((url, dimensions)))
    }

    /// The number of flights, as a metric.
    pub fn render(&self, out: &mut String) {
        let name = "edgerouter_fetches_in_flight";
        text::one(out, name, "Shared fetches in progress.", self.len());
    }

    /// Shared fetches going on now.
    #[allow(clippy::len_without_is_empty)] // nothing needs it
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    #[allow(clippy::indexing_slicing)] // the remainder is below the length
    fn shard(&self, key: &[u8]) -> &Mutex<Table> {
        &self.shards[self.hasher.hash_one(key) as usize % self.shards.len()]
    }
}

impl Lead {
    /// Reports to the followers; later joiners of an arriving response read along until the flight ends.
    pub fn report(&self, state: FlightState) {
        self.state.send_replace(state);
    }

    /// A check that can be repeated: true while requests follow.
    pub fn followed(&self) -> impl Fn() -> bool + 'static {
        let state = self.state.clone();
        // One receiver is the table's own.
        move || state.receiver_count() > 1
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut flights = self.flights.shard(&self.key).lock();
        // A later flight may have taken the place of one that a purge outdated.
        if flights
            .get(&self.key)
            .is_some_and(|flight| flight.id == self.id)
        {
            flights.remove(&self.key);
        }
        drop(flights);
        self.state.send_if_modified(|state| {
            let waiting = matches!(state, FlightState::Waiting);
            if waiting {
                *state = FlightState::Lost;
            }
            waiting
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn at(purge: u64) -> Departure {
        Departure {
            purge,
            invalidation: 0,
        }
    }

    #[test]
    fn a_lost_leader_hands_the_lead_to_the_next() {
        let flights = Flights::new();
        let Join::Lead(lead) = flights.join(b"k", at(0), |_| false, false) else {
            panic!("the first leads")
        };
        let Join::Follow(follower, _) = flights.join(b"k", at(0), |_| false, false) else {
            panic!("the second follows")
        };
        assert!(matches!(*follower.borrow(), FlightState::Waiting));
        drop(lead);
        assert!(matches!(*follower.borrow(), FlightState::Lost));
        assert_eq!(flights.len(), 0);
        assert!(matches!(
            flights.join(b"k", at(0), |_| false, false),
            Join::Lead(_)
        ));
    }

    #[test]
    fn an_outdated_flight_gets_no_more_followers_and_ends_without_harm() {
        let flights = Flights::new();
        let Join::Lead(old) = flights.join(b"k", at(1), |_| false, false) else {
            panic!("the first leads")
        };
        assert!(matches!(
            flights.join(b"k", at(2), |_| false, false),
            Join::Follow(..)
        ));
        let Join::Lead(new) = flights.join(b"k", at(2), |then| then.purge < 2, false) else {
            panic!("it departed before the purge")
        };
        drop(old);
        assert!(matches!(
            flights.join(b"k", at(2), |then| then.purge < 2, false),
            Join::Follow(..)
        ));
        drop(new);
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn an_origin_that_is_spared_has_one_new_leader_a_key_and_second() {
        let flights = Flights::new();
        let join = |key: &[u8]| flights.join(key, at(0), |_| false, true);
        let Join::Lead(lead) = join(b"k") else {
            panic!("the first leads")
        };
        assert!(matches!(join(b"k"), Join::Follow(..)));
        assert!(
            flights.take_over(b"k", at(0)).is_none(),
            "not within the second"
        );
        drop(lead);
        assert!(matches!(join(b"k"), Join::Wait(_)));
        assert!(matches!(
            flights.join(b"k", at(0), |_| false, false),
            Join::Lead(_)
        ));
    }

    #[test]
    fn a_flight_that_was_taken_over_ends_without_harm() {
        let flights = Flights::new();
        let Join::Lead(old) = flights.join(b"k", at(0), |_| false, false) else {
            panic!("the first leads")
        };
        let Some(new) = flights.take_over(b"k", at(0)) else {
            panic!("nobody took it over yet")
        };
        drop(old);
        assert_eq!(flights.len(), 1);
        drop(new);
        assert_eq!(flights.len(), 0);
    }
}
