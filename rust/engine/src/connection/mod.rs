//! Client connections as requests and workers see them: a `Connection` has a peer, a state and times to keep; a `Stream` is
//! one request on it.
//!
//! No bytes are read or written here: `listen` drives both, for whatever protocol the client speaks. Requests get the
//! `Stream` and leave interim responses, an upgrade or a refusal with it.

pub mod interim;
pub mod queue;
pub mod state;
mod stream;
mod tight;

pub use state::{Connection, ConnectionState};
pub use stream::Stream;
pub use tight::{Idlest, Pressure};
