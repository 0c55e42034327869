//! What HTTP leaves behind.

use tokio::net::TcpStream;

/// What is left of a connection when HTTP on it is over.
#[derive(Debug)]
pub struct Remains {
    pub stream: TcpStream,
    /// Bytes that came in but that nobody has seen.
    pub unseen: Vec<u8>,
    /// The client has not sent all of the last message.
    pub in_body: bool,
}
