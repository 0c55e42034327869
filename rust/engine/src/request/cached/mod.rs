//! Phases 8 to 13 for requests that may use the cache.
//!
//! `look_up` finds a stored response (`from_disk` when memory has it no more), `send` makes of it what the client gets;
//! where there is none, `fetch` leads or follows a `flight` to the origin, and `keep` stores what it brings. `slices`
//! reads and fills large objects. `purged` sorts out what an operator invalidated, `invalidate` what unsafe methods did, and
//! `posted` stores what a POST says about its own URL.
//! The rules are
//! in `edgerouter_core::cache`; here they are applied in order.

mod fetch;
mod flight;
mod from_disk;
mod invalidate;
mod keep;
mod look_up;
mod posted;
mod purged;
mod send;
mod slices;

use std::sync::Arc;

use edgerouter_core::{
    cache::slices::First,
    http::{range::Range, structured::Forward},
};
use http::Response;

use crate::{
    body::EdgeBody,
    store::{Entry, Location, flight::Departure},
};

pub use fetch::{fetch, on_failure};
pub use invalidate::invalidate;
pub use look_up::{cacheable, look_up};
pub use posted::{represents, take_posted};
pub use send::{as_asked, straight};

/// The outcome of a look-up.
pub enum Found {
    Answer(Response<EdgeBody>),
    /// The origin must be asked.
    Missing(Box<Missing>),
}

/// An entry that memory lacks and the disk has.
struct OnDisk {
    key: Box<[u8]>,
    location: Location,
}

/// A stored response that lacks the first bytes of what is asked for.
pub struct Held {
    entry: Arc<Entry>,
    lacking: Range,
}

/// Why the origin is asked, and what for.
pub struct Missing {
    pub url_key: Vec<u8>,
    /// What tells responses for this URL apart besides `Vary`; empty for most routes.
    pub dimensions: Vec<u8>,
    /// What concurrent requests meet under: those that it tells apart cannot share an answer.
    pub flight: Vec<u8>,
    pub stale: Option<Arc<Entry>>,
    /// What had made stored responses invalid when `stale` was found.
    pub since: Departure,
    pub why: Forward,
    /// Why the store cannot answer.
    pub detail: &'static str,
    /// What is stored but for its first slice, which is fetched before anything is sent.
    pub held: Option<Held>,
    /// The slice to begin with, where a part of an unknown response is asked for.
    pub slice: Option<First>,
    /// Whether concurrent requests may wait for this one.
    pub collapse: bool,
    /// The last answer for this URL could not be stored.
    pub unshared: bool,
}
