//! Documents that are not in a database, as Python's part of the package sees them: it writes the scripts.

use edgerouter_data::{DataCall, DataReply, DocumentCall, DocumentReply};
use pyo3::{IntoPyObjectExt as _, exceptions::PyValueError, prelude::*};

use super::operation::{Convert, Handle, Operation};

fn planned(
    operation: &str,
    script: &str,
    prefix: &str,
    arguments: Vec<String>,
) -> PyResult<(DataCall, Convert)> {
    let call = DocumentCall::run(operation, script, prefix, arguments);
    let call = call.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let convert: Convert = Box::new(|py, reply| match reply {
        DataReply::Document(DocumentReply::Parts(parts)) => parts.into_py_any(py),
        other => Err(PyValueError::new_err(format!(
            "unexpected reply: {other:?}"
        ))),
    });
    Ok((DataCall::Document(call), convert))
}

/// A class for callables that do not await, or for async ones: they differ in how an operation is run.
macro_rules! server {
    ($(#[$about:meta])* $class:ident: $run:ident -> $answer:ty) => {
        $(#[$about])*
        #[pyclass(frozen, module = "edgerouter._core")]
        #[derive(Debug)]
        pub(crate) struct $class {
            pub(super) handle: Handle,
        }

        #[pymethods]
        impl $class {
            /// The name of the binding.
            #[getter]
            fn name(&self) -> &str {
                self.handle.bound.name()
            }

            /// The kind of server.
            #[getter]
            fn engine(&self) -> &'static str {
                self.handle.bound.engine().unwrap_or_default()
            }

            /// Runs a script.
            fn run(
                &self,
                py: Python<'_>,
                operation: &str,
                script: &str,
                prefix: &str,
                arguments: Vec<String>,
            ) -> PyResult<$answer> {
                let (call, convert) = planned(operation, script, prefix, arguments)?;
                self.handle.$run(py, call, convert)
            }
        }
    };
}

server! {
    /// A server with documents, for callables that do not await.
    DocumentServer: wait -> Py<PyAny>
}

server! {
    /// A server with documents, for async callables: `run` is awaited.
    AsyncDocumentServer: awaitable -> Operation
}
