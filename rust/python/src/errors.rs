//! Rust's errors as the classes of `edgerouter.errors`.

use edgerouter_core::{plan::Problem, problem::shown_url};
use edgerouter_telemetry::system_error::without_number;
use pyo3::{prelude::*, types::PyList};

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("edgerouter.errors")?.getattr(name)
}

/// `ConfigError` with every problem.
pub(crate) fn config(py: Python<'_>, problems: &[Problem]) -> PyErr {
    let made = || {
        let rows = problems.iter().map(|problem| {
            (
                problem.path.as_str(),
                problem.value.as_deref(),
                without_number(&problem.message),
            )
        });
        let list = PyList::new(py, rows.collect::<Vec<_>>())?;
        class(py, "ConfigError")?.call1((list,))
    };
    made().map_or_else(|error| error, PyErr::from_value)
}

/// `ConfigError` with one line that names the field and holds the remedy.
pub(crate) fn plain_config(py: Python<'_>, message: &str) -> PyErr {
    let made = || class(py, "ConfigError")?.call1((without_number(message),));
    made().map_or_else(|error| error, PyErr::from_value)
}

/// `BodyError` with one line for the client.
pub(crate) fn body(py: Python<'_>, message: &str) -> PyErr {
    let made = || class(py, "BodyError")?.call1((without_number(message),));
    made().map_or_else(|error| error, PyErr::from_value)
}

/// `Abort` with 413: a request's body is larger than what is handed over at once.
pub(crate) fn too_large(py: Python<'_>) -> PyErr {
    let made = || {
        let detail =
            "The body is larger than the limit of functions (limits.functions.body_bytes).";
        class(py, "Abort")?.call1((413, detail))
    };
    made().map_or_else(|error| error, PyErr::from_value)
}

/// `MissingError` for a field, cookie or query parameter that a request does not have.
pub(crate) fn missing(py: Python<'_>, name: &str, kind: &str) -> PyErr {
    let made = || class(py, "MissingError")?.call1((name, kind));
    made().map_or_else(|error| error, PyErr::from_value)
}

/// True if it is a `MissingError`.
pub(crate) fn is_missing(py: Python<'_>, error: &PyErr) -> bool {
    class(py, "MissingError").is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

/// `ListenError` with one line that holds the remedy.
pub(crate) fn listen(py: Python<'_>, message: &str) -> PyErr {
    let made = || class(py, "ListenError")?.call1((without_number(message),));
    made().map_or_else(|error| error, PyErr::from_value)
}

/// `BindingError` with one line that names the binding.
pub(crate) fn binding(py: Python<'_>, message: &str) -> PyErr {
    let made = || class(py, "BindingError")?.call1((without_number(message),));
    made().map_or_else(|error| error, PyErr::from_value)
}

/// The same for an operation that an engine did not do: the rule of its schema, and true if it may have done it.
pub(crate) fn undone(
    py: Python<'_>,
    message: &str,
    constraint: Option<&str>,
    in_doubt: bool,
) -> PyErr {
    let made = || class(py, "BindingError")?.call1((without_number(message), constraint, in_doubt));
    made().map_or_else(|error| error, PyErr::from_value)
}

/// `FetchError` with one line that holds the remedy.
pub(crate) fn fetch(py: Python<'_>, message: &str) -> PyErr {
    let made = || class(py, "FetchError")?.call1((without_number(message),));
    made().map_or_else(|error| error, PyErr::from_value)
}

/// `CacheError` for a URL under which nothing can be stored.
pub(crate) fn cache_url(py: Python<'_>, url: &str, why: &impl std::fmt::Display) -> PyErr {
    let shown = shown_url(url);
    cache(
        py,
        &format!("{}: {why}", shown.as_deref().unwrap_or("the URL")),
    )
}

/// `CacheError` with one line that holds the remedy.
pub(crate) fn cache(py: Python<'_>, message: &str) -> PyErr {
    let made = || class(py, "CacheError")?.call1((without_number(message),));
    made().map_or_else(|error| error, PyErr::from_value)
}
