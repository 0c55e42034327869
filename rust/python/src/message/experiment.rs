//! The variant of an experiment as Python sees it.

use edgerouter_functions::AssignedVariant;
use pyo3::prelude::*;

use crate::json;

/// The variant that a visitor has in an experiment.
#[pyclass(frozen, name = "AssignedVariant", module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct PyAssignedVariant(pub(crate) AssignedVariant);

#[pymethods]
impl PyAssignedVariant {
    /// The experiment's name.
    #[getter]
    fn name(&self) -> &str {
        &self.0.experiment
    }

    /// The variant's name.
    #[getter]
    fn variant(&self) -> &str {
        &self.0.variant
    }

    /// Data of the variant from the experiment's `config`; `None` without any.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let payload = self.0.payload.as_ref();
        payload
            .map(|payload| json::decode(py, payload.as_bytes()))
            .transpose()
    }

    fn __repr__(&self) -> String {
        format!("<AssignedVariant {}={}>", self.0.experiment, self.0.variant)
    }
}
