//! JSON by Python's fastest encoder at hand: msgspec where it can be imported, the standard library otherwise.

use bytes::Bytes;
use pyo3::{
    exceptions::{PyException, PyMemoryError, PyValueError},
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyString},
};

use crate::{errors, values};

static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// True if an object's class says how JSON holds it: a dataclass, a msgspec struct, a pydantic model.
pub(crate) fn is_data(value: &Bound<'_, PyAny>) -> bool {
    let asked = || {
        let results = value.py().import("edgerouter.functions.results")?;
        results.call_method1("is_data", (value,))?.extract()
    };
    asked().unwrap_or(false)
}

/// Compact JSON in UTF-8.
pub(crate) fn encode(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let py = value.py();
    let dumps = DUMPS.get_or_try_init(py, || match py.import("msgspec.json") {
        Ok(msgspec) => {
            let options = PyDict::new(py);
            options.set_item("enc_hook", wrap_pyfunction!(values::plain, py)?)?;
            let encoder = msgspec.getattr("Encoder")?.call((), Some(&options))?;
            encoder.getattr("encode").map(Bound::unbind)
        }
        Err(_) => {
            let options = PyDict::new(py);
            options.set_item("default", wrap_pyfunction!(values::plain, py)?)?;
            options.set_item("separators", (",", ":"))?;
            options.set_item("ensure_ascii", false)?;
            let dumps = py.import("json")?.getattr("dumps")?;
            let partial = py.import("functools")?.getattr("partial")?;
            partial.call((dumps,), Some(&options)).map(Bound::unbind)
        }
    })?;
    let text = dumps.bind(py).call1((value,))?;
    match text.cast::<PyBytes>() {
        Ok(bytes) => Ok(Bytes::copy_from_slice(bytes.as_bytes())),
        Err(_) => Ok(Bytes::copy_from_slice(
            text.cast::<PyString>()?.to_str()?.as_bytes(),
        )),
    }
}

/// True if JSON has each number of a value: `encode` writes NaN and the infinities as null.
pub(crate) fn is_finite(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    let plain = match py.import("msgspec") {
        Ok(msgspec) => {
            let options = PyDict::new(py);
            options.set_item("enc_hook", wrap_pyfunction!(values::plain, py)?)?;
            options.set_item("str_keys", true)?;
            msgspec.call_method("to_builtins", (value,), Some(&options))?
        }
        Err(_) => value.clone(),
    };
    let options = PyDict::new(py);
    options.set_item("allow_nan", false)?;
    let written = py
        .import("json")?
        .call_method("dumps", (plain,), Some(&options));
    match written {
        Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(false),
        // Anything else was said by the encoder.
        _ => Ok(true),
    }
}

/// `ValueError` when it is no JSON.
pub(crate) fn decode<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let loads = LOADS.get_or_try_init(py, || match py.import("msgspec.json") {
        Ok(msgspec) => msgspec.getattr("decode").map(Bound::unbind),
        Err(_) => py.import("json")?.getattr("loads").map(Bound::unbind),
    })?;
    loads
        .bind(py)
        .call1((PyBytes::new(py, text),))
        .map_err(|error| {
            if error.is_instance_of::<PyValueError>(py) || !error.is_instance_of::<PyException>(py)
            {
                return error;
            }
            let clear = PyValueError::new_err(format!("this is no JSON: {}", error.value(py)));
            clear.set_cause(py, Some(error));
            clear
        })
}

/// A failure to decode a request's body, as the client's mistake that it is.
pub(crate) fn of_body(py: Python<'_>, error: PyErr) -> PyErr {
    // Nested too deep is the client's doing, too; no memory is not.
    if !error.is_instance_of::<PyException>(py) || error.is_instance_of::<PyMemoryError>(py) {
        return error;
    }
    let cause = error.cause(py);
    let reason = cause.as_ref().unwrap_or(&error).value(py).to_string();
    let clear = errors::body(py, &format!("The body is not valid JSON: {reason}"));
    clear.set_cause(py, Some(error));
    clear
}

/// A JSON value as Python's own values.
pub(crate) fn python<'py>(
    py: Python<'py>,
    value: &serde_json::Value,
) -> PyResult<Bound<'py, PyAny>> {
    decode(py, value.to_string().as_bytes())
}
