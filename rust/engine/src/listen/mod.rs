//! From sockets to requests: accepting, guarding what comes in, and the life of a connection.

pub mod conn;
pub mod guarded;
pub mod http;
pub mod interim;
pub mod queue;
pub mod tcp;
pub mod tight;
mod tunnel;

pub use conn::Conn;
