//! The header of the PROXY protocol at the beginning of a connection.

use std::{io, time::Duration};

use edgerouter_core::proxy_protocol::{self, ProxyHeader, ProxySource};
use tokio::io::AsyncReadExt as _;

use crate::{Transport, connection::Connection};

/// Reads the header, and no byte after it. `None`: there is no valid one within the time, or the connection is to end.
pub(crate) async fn source<T: Transport>(
    transport: &mut T,
    connection: &Connection,
    limit: Duration,
) -> Option<ProxySource> {
    let read = tokio::time::timeout(limit, async {
        // Until the first bytes come nothing but the socket is kept.
        if !connection.until_readable(transport).await {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read(transport).await
    });
    match connection.unless_ended(read).await {
        Some(Ok(Ok(source))) => Some(source),
        Some(Ok(Err(error))) => {
            tracing::debug!(%error, peer = %connection.peer, "a connection through a proxy was refused");
            None
        }
        Some(Err(_)) => {
            tracing::debug!(peer = %connection.peer, "the header of a proxy did not come in time");
            None
        }
        None => None,
    }
}

async fn read(transport: &mut impl Transport) -> io::Result<ProxySource> {
    let mut bytes = Vec::new();
    loop {
        let next = proxy_protocol::read(&bytes);
        match next.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            ProxyHeader::Complete(source) => return Ok(source),
            ProxyHeader::Incomplete(more) => {
                let before = bytes.len();
                bytes.resize(before + more, 0);
                let space = bytes.get_mut(before..).unwrap_or_default();
                transport.read_exact(space).await?;
            }
        }
    }
}
