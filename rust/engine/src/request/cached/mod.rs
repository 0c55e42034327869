//! Phases 8 to 13 for requests that may use the cache.
//!
//! `look_up` finds a stored response (`from_disk` when memory has it no more), `send` makes of it the response to the
//! client. Where none answers, `unanswered` finds out what is fetched in its place. The `missing` response is fetched:
//! `fetch` leads or follows a flight (`meeting`), `flight` is the fetch itself and its `outcome`, `keep` stores the
//! response, `stand_in` sends a stored one where the origin fails. `slices` reads and fills large objects, `purged`
//! applies what an operator invalidated, `invalidate` what unsafe methods did, `posted` stores the response to a POST
//! for its own URL, and `coded` sends and makes variants in a coding. The rules are in `edgerouter_core::cache`; here
//! they are applied in order.

mod coded;
mod fetch;
mod flight;
mod from_disk;
mod invalidate;
mod keep;
mod look_up;
mod meeting;
mod missing;
mod outcome;
mod posted;
mod purged;
mod send;
mod slices;
mod stand_in;
mod unanswered;

pub(crate) use fetch::fetch;
pub(crate) use invalidate::invalidate;
pub(crate) use look_up::{Found, cacheable, look_up, refuse_unstored};
pub(crate) use meeting::fetch_behind;
pub(crate) use posted::{represents, take_posted};
pub(crate) use send::{as_requested, straight};
pub(crate) use stand_in::failed;
