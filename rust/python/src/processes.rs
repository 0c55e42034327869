//! The counts that pools of worker processes give to `/metrics`.

use edgerouter_functions::processes::{ENDS, PROCESSES};
use pyo3::{exceptions::PyValueError, prelude::*};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(processes_changed, module)?)?;
    module.add_function(wrap_pyfunction!(process_ended, module)?)
}

/// Adds to the gauges: processes, those that are busy, calls that wait for one, bytes of memory.
#[pyfunction]
fn processes_changed(running: i64, busy: i64, waiting: i64, memory: i64) {
    PROCESSES.change(running, busy, waiting, memory);
}

/// Counts the end of a process.
#[pyfunction]
fn process_ended(cause: &str) -> PyResult<()> {
    if PROCESSES.ended(cause) {
        return Ok(());
    }
    let message = format!("{cause:?} is none of {}", ENDS.join(", "));
    Err(PyValueError::new_err(message))
}
