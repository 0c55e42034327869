//! Where responses are kept, and where requests for the same response meet.
//!
//! `entry` is one stored response, `content` what it is made of, `extra` what few have, `pieces` the memory of bodies,
//! `fields` its packed header section, `thawed` those sections that are sent most, `memory` the sharded table of entries,
//! `shard` its eviction order, `ghosts` what that remembers of what has left, `disk` what outlives a restart, `tiers` the
//! two as one store, `flight` the meeting place of concurrent misses, `invalidations` what their answers must know of, `arriving` a body that
//! is still coming in. What may
//! be stored and reused is decided in `edgerouter_core::cache`; nothing here knows the rules.

pub mod arriving;
mod busy;
pub mod content;
pub mod disk;
pub mod entry;
mod extra;
mod fields;
mod fills;
pub mod flight;
mod ghosts;
pub mod invalidations;
pub mod memory;
pub mod pieces;
mod pinned;
pub mod run;
mod shard;
mod thawed;
mod tiers;

pub use arriving::Arriving;
pub use content::{Birth, Content, Descent, Object, Slices, Variants, View};
pub use disk::{Disk, DiskFigures, Location};
pub use entry::Entry;
pub use fills::Fills;
pub use flight::{Flights, Join, Landing};
pub use invalidations::Invalidations;
pub use memory::MemoryStore;
pub use pieces::{Chunks, compact_body};
pub use pinned::Pinned;
pub use run::Runs;
pub use tiers::Store;
