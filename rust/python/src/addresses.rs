//! Addresses to listen on, as Python writes them.

use std::net::SocketAddr;

use edgerouter_engine as engine;
use pyo3::prelude::*;

use crate::errors;

/// The addresses of the sockets that a service manager listens on for this process, as far as none has been taken.
#[pyfunction]
pub(crate) fn inherited_addresses() -> Vec<String> {
    let addresses = engine::inherited_addresses();
    addresses.iter().map(SocketAddr::to_string).collect()
}

/// `IP:PORT`; a port alone is that of all addresses of IPv4.
pub(super) fn address_of(py: Python<'_>, text: &str) -> PyResult<SocketAddr> {
    let spelled = match (text.strip_prefix("localhost:"), text.strip_prefix(':')) {
        (Some(port), _) => format!("127.0.0.1:{port}"),
        (None, Some(port)) => format!("0.0.0.0:{port}"),
        (None, None) => text.to_owned(),
    };
    spelled.parse().map_err(|_| {
        let message =
            format!("{text:?} is no address to listen on; write IP:PORT, such as 127.0.0.1:8080");
        errors::listen(py, &message)
    })
}
