//! The store, and the place where requests for the same response meet.
//!
//! * One response: `entry` is its immutable form, `fields` its packed header section (`entry::thawed` keeps those of
//!   hot ones unpacked), `content` its content, `extra` the rare parts, `pieces` the memory of bodies, `coded` the way
//!   to its coded variants and `making` the making of them.
//! * The tiers: `memory` is the sharded table of entries, `evictable` the facts that it needs of them, `shard` its
//!   eviction order, `ghosts` the recently evicted keys, `pinned` the evicted entries that clients still read, `disk`
//!   the tier that survives a restart, `tiers` the two as one store.
//! * Fetches under way: `flight` is the meeting place of concurrent misses, `invalidations` the URLs outdated during a
//!   fetch, `busy` the keys whose origin wants a pause, `arriving` a body that still arrives, `run` a stretch of a
//!   large one, `runs` all of these, `fills` the requests that may begin one, `buffer` the bytes under both kinds.
//!
//! `edgerouter_core::cache` decides what may be stored and reused; nothing here knows the rules.

pub mod arriving;
mod buffer;
mod busy;
mod coded;
mod content;
pub mod disk;
mod entry;
mod evictable;
mod extra;
mod fields;
mod fills;
pub mod flight;
mod ghosts;
mod invalidations;
mod making;
pub mod memory;
mod pieces;
mod pinned;
pub mod run;
mod runs;
mod shard;
mod tiers;

pub use arriving::Arriving;
pub use buffer::NobodyReads;
pub use coded::CodedVariants;
pub use content::{Content, Object, PurgeFacts, Slices, UNSHARED_FOR, View};
pub use disk::{Disk, DiskFigures, Location};
pub use edgerouter_core::cache::levels::Variants;
pub use entry::Entry;
pub use evictable::Evictable;
pub use fills::Fills;
pub use flight::{FlightState, Flights, Join};
pub use invalidations::Invalidations;
pub use making::MakesVariant;
pub use memory::MemoryStore;
pub use pieces::{Chunks, compact_body, range_of};
pub use pinned::Pinned;
pub use runs::{Claim, Claimed, Runs};
pub use tiers::Store;
