//! Certificates for development, as the command line makes them.

use edgerouter_engine::development::{self, PemPair};
use pyo3::{exceptions::PyValueError, prelude::*};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(certificate_facts, module)?)?;
    module.add_function(wrap_pyfunction!(development_authority, module)?)?;
    module.add_function(wrap_pyfunction!(issue_certificate, module)?)
}

fn pair(made: Result<PemPair, impl std::fmt::Display>) -> PyResult<(String, String)> {
    made.map(|pair| (pair.certificate, pair.key))
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The DNS names of a certificate in DER, and the Unix second until which it is valid; `None` if it is none.
#[pyfunction]
fn certificate_facts(der: &[u8]) -> Option<(Vec<String>, i64)> {
    let facts = edgerouter_core::tls::certificate_facts(der)?;
    let names = facts
        .names
        .iter()
        .filter_map(|name| name.strip_prefix("DNS:"));
    Some((names.map(str::to_owned).collect(), facts.valid.1))
}

/// A new authority, as the PEM of its certificate and of its key.
#[pyfunction]
fn development_authority(py: Python<'_>, now: u64, days: u32) -> PyResult<(String, String)> {
    pair(py.detach(|| development::authority(now, days)))
}

/// A certificate for host names and addresses, as its PEM and that of its key. Raises `ValueError`.
#[pyfunction]
fn issue_certificate(
    py: Python<'_>,
    authority_key: &str,
    names: Vec<String>,
    now: u64,
    days: u32,
) -> PyResult<(String, String)> {
    pair(py.detach(|| development::issue(authority_key, names, now, days)))
}
