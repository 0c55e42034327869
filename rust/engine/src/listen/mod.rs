//! From sockets to requests: accepting, guarding what comes in, and the life of a connection.

pub mod guarded;
pub mod http;
pub mod tcp;
pub mod tight;
mod tunnel;
