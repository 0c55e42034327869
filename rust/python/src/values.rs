//! Parts of a request by name: parameters of its query, cookies, claims. They record which of them a hook reads.

use std::sync::Arc;

use edgerouter_core::cache::hooked::Reads;
use edgerouter_functions::Notes;
use pyo3::{
    exceptions::PyKeyError,
    prelude::*,
    types::{PyDict, PyString},
};

use crate::errors;

/// Kinds of parts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValuesKind {
    Query,
    Cookies,
    Claims,
}

/// A mapping that cannot be changed. In hooks, reading all of it or its length counts as reading everything of its
/// kind.
#[pyclass(frozen, mapping, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Values {
    kind: ValuesKind,
    found: Py<PyDict>,
    /// The further values of repeated names, as they came.
    further: Vec<(String, String)>,
    /// `None` in functions, whose reads select nothing.
    notes: Option<Arc<Notes>>,
}

impl Values {
    pub(crate) fn given(
        (found, further): (Bound<'_, PyDict>, Vec<(String, String)>),
        kind: ValuesKind,
        notes: Option<Arc<Notes>>,
    ) -> PyResult<Bound<'_, Self>> {
        let py = found.py();
        let values = Self {
            kind,
            found: found.unbind(),
            further,
            notes,
        };
        Bound::new(py, values)
    }

    fn note(&self, note: impl FnOnce(&mut Reads)) {
        if let Some(notes) = &self.notes {
            note(&mut notes.lock());
        }
    }

    fn read(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        // Nothing else is the name of anything here.
        if let Ok(name) = name.cast::<PyString>() {
            let name = name.to_str()?;
            self.note(|reads| match self.kind {
                ValuesKind::Query => reads.query.note(name),
                ValuesKind::Cookies => reads.cookie(name),
                ValuesKind::Claims => reads.claims.note(name),
            });
        }
        Ok(())
    }

    /// In a function the client gets an answer that names the missing value; no client can supply claims.
    fn missing(&self, name: &Bound<'_, PyAny>) -> PyErr {
        let kind = match (self.kind, &self.notes) {
            (ValuesKind::Query, None) => "query parameter",
            (ValuesKind::Cookies, None) => "cookie",
            _ => return PyKeyError::new_err(name.clone().unbind()),
        };
        errors::missing(name.py(), &name.to_string(), kind)
    }

    fn all<'py>(&self, py: Python<'py>) -> Bound<'py, PyDict> {
        self.note(|reads| match self.kind {
            ValuesKind::Query => reads.query.all = true,
            ValuesKind::Cookies => reads.all_cookies(),
            ValuesKind::Claims => reads.claims.all = true,
        });
        self.found.bind(py).clone()
    }
}

#[pymethods]
impl Values {
    fn __getitem__<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.read(name)?;
        self.found
            .bind(name.py())
            .get_item(name)?
            .ok_or_else(|| self.missing(name))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.read(name)?;
        self.found.bind(name.py()).contains(name)
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.all(py).len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.all(py).try_iter()?.into_any())
    }

    fn __eq__<'py>(&self, py: Python<'py>, other: &Bound<'py, PyAny>) -> PyResult<bool> {
        let own = self.all(py);
        match other.cast::<Self>() {
            Ok(other) => own.eq(other.get().all(py)),
            Err(_) => own.eq(other),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        // Values may be credentials: names only.
        let names: Vec<String> = self.all(py).keys().extract()?;
        Ok(format!("<Values {}>", names.join(", ")))
    }

    /// The value of that name, or the default.
    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.read(name)?;
        Ok(self.found.bind(name.py()).get_item(name)?.or(default))
    }

    /// All values of that name, in their order.
    fn get_all<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.read(name)?;
        let py = name.py();
        let first = self.found.bind(py).get_item(name)?;
        let mut all: Vec<_> = first.into_iter().collect();
        if let Ok(name) = name.cast::<PyString>() {
            let name = name.to_str()?;
            let same = self.further.iter().filter(|(other, _)| other == name);
            all.extend(same.map(|(_, value)| PyString::new(py, value).into_any()));
        }
        Ok(all)
    }

    fn keys<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.all(py).keys().into_any()
    }

    fn values<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.all(py).values().into_any()
    }

    fn items<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.all(py).items().into_any()
    }
}

/// For encoders: the dictionary of such a mapping, the plain values of a model, and `TypeError` for any other object.
#[pyfunction]
pub(crate) fn plain<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    match value.cast::<Values>() {
        Ok(values) => values.get().all(py).copy().map(Bound::into_any),
        Err(_) => py
            .import("edgerouter.functions.results")?
            .call_method1("plain", (value,)),
    }
}

/// Makes `isinstance(value, Mapping)` true for these mappings.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    py.import("collections.abc")?
        .getattr("Mapping")?
        .call_method1("register", (py.get_type::<Values>(),))
        .map(drop)
}
