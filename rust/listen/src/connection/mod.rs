//! Client connections as requests and workers see them: a `Connection` has a peer, a state and times to keep; a
//! `Stream` is one request on it; `Connections` are those of one worker, its `ConnectionOwner`.
//!
//! No bytes are read or written here: the rest of the crate does that, for whatever protocol the client speaks.
//! Requests get the `Stream` and leave interim responses, an upgrade or a refusal with it.

mod backlog;
mod content;
pub mod interim;
mod multiplexed;
mod owner;
mod pace;
pub mod queue;
mod serving;
mod share;
mod state;
mod stream;

pub(crate) use backlog::{Backlog, NextTurn};
pub use content::ClientBody;
pub(crate) use content::Inflow;
pub use owner::{
    AllConnections, ConnectionOwner, Connections, ResponseBody, SendFile, TakeContent,
};
pub(crate) use serving::Serving;
pub use serving::{Arrived, IdleServers};
pub(crate) use share::{Handed, Place, Share};
pub(crate) use state::is_over;
pub use state::{Connection, ConnectionState};
pub use stream::{Stream, TunnelEnd};
