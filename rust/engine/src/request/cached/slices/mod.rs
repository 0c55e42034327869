//! Large objects: cut on their way into the store, and put together again on their way out.
//!
//! A body in slices is read from wherever each slice is: memory, a run that is bringing it, disk, and where none has
//! it, the origin, which is requested to send just the slices that this reader still needs. So one path serves a first
//! download, a second one beside it, a range of an object that was never whole here, and an object half of which was
//! evicted. `coverage` finds what is here before a head is sent, `body` reads it, `fill` fetches what is missing,
//! `cutter` cuts it.

pub(super) mod body;
pub(super) mod coverage;
mod cutter;
pub(super) mod fill;
