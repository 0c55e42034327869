//! Lines of files of users, as the command line makes them.

use edgerouter_core::guard::basic;
use pyo3::{exceptions::PyValueError, prelude::*};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(password_line, module)?)
}

/// `USER:HASH` for a password, with a salt of 16 random bytes. Raises `ValueError`, which does not have the password.
#[pyfunction]
fn password_line(py: Python<'_>, user: &str, password: &str, salt: [u8; 16]) -> PyResult<String> {
    py.detach(|| basic::line(user, password, &salt))
        .map_err(PyValueError::new_err)
}
