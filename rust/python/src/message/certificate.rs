//! The certificate of a client as Python sees it.

use std::sync::Arc;

use edgerouter_core::tls;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyTuple},
};

/// A certificate that a client has proved to hold, verified by the authority of the listener.
#[pyclass(frozen, name = "ClientCertificate", module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct PyClientCertificate(pub(crate) Arc<tls::ClientCertificate>);

#[pymethods]
impl PyClientCertificate {
    /// The subject by RFC 4514; empty if it has none.
    #[getter]
    fn subject(&self) -> &str {
        &self.0.facts.subject
    }

    /// Alternative names.
    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.facts.names)
    }

    /// The serial number in hexadecimal.
    #[getter]
    fn serial(&self) -> &str {
        &self.0.facts.serial
    }

    /// SHA-256 of the certificate in hexadecimal.
    #[getter]
    fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// Unix seconds from which it is valid.
    #[getter]
    fn not_before(&self) -> i64 {
        self.0.facts.valid.0
    }

    /// Unix seconds until which it is valid.
    #[getter]
    fn not_after(&self) -> i64 {
        self.0.facts.valid.1
    }

    /// The certificate in DER.
    #[getter]
    fn der<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.der)
    }

    fn __repr__(&self) -> String {
        format!("<ClientCertificate {:?}>", self.0.facts.subject)
    }
}
