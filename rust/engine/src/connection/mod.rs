//! What a request may know of its connection. `listen` drives it.

pub mod conn;
pub mod interim;
pub mod queue;
mod remains;
mod tight;

pub use conn::Conn;
pub use remains::Remains;
pub(crate) use tight::Idlest;
pub use tight::Tight;
