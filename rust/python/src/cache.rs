//! The caches of functions as Python sees them: `ctx.cache`, `ctx.caches`.
//!
//! A plain callable calls and gets; an async one awaits, though nothing ever waits: the awaitable is ready when it is
//! made. So `ctx.wait_until(ctx.cache.put(...))` works, and an operation has taken place before the request is over.

use std::sync::{Arc, Weak};

use edgerouter_core::{
    cache::{
        api::{self, CacheUrl},
        hooked::Reads,
        storable::NotStored,
    },
    http::Fields,
};
use edgerouter_functions::{Answer, CacheError, FunctionCaches};
use http::Method;
use parking_lot::Mutex;
use pyo3::{
    IntoPyObjectExt as _,
    exceptions::{PyRuntimeError, PyStopIteration, PyTypeError},
    prelude::*,
    types::PyString,
};

use crate::{
    errors,
    message::{
        request::Request,
        response::{Response, ResponseParts},
    },
};

/// The subject of an operation: a request, or a URL as its GET without fields.
struct Lookup {
    place: CacheUrl,
    method: Method,
    headers: Fields,
}

impl Lookup {
    fn of(py: Python<'_>, given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(request) = given.cast::<Request>() {
            let head = request.get().edit(|parts| {
                // The answer depends on the fields that its Vary names, whichever they are.
                parts.note(Reads::all_fields);
                parts.head.clone()
            })?;
            let (host, query) = (&*head.host, head.query.as_deref());
            let place = CacheUrl::new(head.scheme, host, head.port, &head.path, query);
            return Ok(Self {
                place: place.map_err(|error| errors::cache(py, &error.to_string()))?,
                method: head.method,
                headers: head.headers,
            });
        }
        let Ok(url) = given.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!(
                "a cache needs a Request or a URL, not {}",
                given.get_type().name()?
            )));
        };
        let url = url.to_str()?;
        let place = CacheUrl::parse(url).map_err(|error| errors::cache_url(py, url, &error))?;
        Ok(Self {
            place,
            method: Method::GET,
            headers: Fields::new(),
        })
    }

    /// Workers' `ignoreMethod`: as if it were a GET.
    fn has_answer(&self, ignore_method: bool) -> bool {
        ignore_method || self.method == Method::GET
    }
}

/// One cache and its operations, awaited or not.
#[derive(Debug, Clone)]
pub(crate) struct NamedCache {
    caches: Weak<dyn FunctionCaches>,
    name: Arc<str>,
}

/// The caches, as long as the edge runs.
fn running(caches: &Weak<dyn FunctionCaches>) -> Result<Arc<dyn FunctionCaches>, CacheError> {
    caches.upgrade().ok_or(CacheError::Stopped)
}

impl NamedCache {
    fn raised<T>(py: Python<'_>, result: Result<T, CacheError>) -> PyResult<T> {
        result.map_err(|error| errors::cache(py, &error.to_string()))
    }

    fn find(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyAny>,
        ignore_method: bool,
    ) -> PyResult<Option<Py<Response>>> {
        let lookup = Lookup::of(py, request)?;
        let found = py.detach(|| {
            let caches = running(&self.caches)?;
            Ok(if lookup.has_answer(ignore_method) {
                caches.find(&self.name, &lookup.place, &lookup.headers)
            } else {
                caches.miss();
                None
            })
        });
        let Some(found) = Self::raised(py, found)? else {
            return Ok(None);
        };
        let parts = ResponseParts {
            status: found.status,
            headers: found.headers,
            body: Some(found.body),
            stream: None,
            transforms: Vec::new(),
            transformable: None,
            wrote: None,
        };
        Py::new(py, Response::of(parts)).map(Some)
    }

    fn put(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyAny>,
        response: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let lookup = Lookup::of(py, request)?;
        let Ok(response) = response.cast::<Response>() else {
            return Err(PyTypeError::new_err(format!(
                "a cache stores a Response, not {}",
                response.get_type().name()?
            )));
        };
        let ResponseParts {
            status,
            headers,
            body,
            ..
        } = response.get().edit(|parts| parts.clone())?;
        let Some(body) = body else {
            return Err(errors::cache(
                py,
                "put: the body of this response streams past and cannot be stored here; a route's cache policy stores it",
            ));
        };
        let response = Answer {
            status,
            headers,
            body,
        };
        let stored = py.detach(|| {
            let stored = running(&self.caches)?.put(
                &self.name,
                &lookup.place,
                &lookup.method,
                &lookup.headers,
                response,
            );
            if let Ok(Err(why)) = &stored {
                not_stored(&self.name, *why);
            }
            stored
        });
        Ok(Self::raised(py, stored)?.is_ok())
    }

    fn delete(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyAny>,
        ignore_method: bool,
    ) -> PyResult<bool> {
        let lookup = Lookup::of(py, request)?;
        if !lookup.has_answer(ignore_method) {
            return Ok(false);
        }
        let deleted = py.detach(|| Ok(running(&self.caches)?.delete(&self.name, &lookup.place)));
        Self::raised(py, deleted)
    }
}

fn not_stored(cache: &str, why: NotStored) {
    tracing::debug!(
        cache,
        reason = why.as_str(),
        "a function's response was not stored"
    );
}

/// A cache, for callables that do not await.
#[pyclass(name = "Cache", frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct PyCache {
    store: NamedCache,
}

#[pymethods]
impl PyCache {
    /// The name that it was opened by.
    #[getter]
    fn name(&self) -> &str {
        &self.store.name
    }

    /// The stored response while it is fresh; `None` otherwise.
    #[pyo3(signature = (request, *, ignore_method=false))]
    fn r#match(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyAny>,
        ignore_method: bool,
    ) -> PyResult<Option<Py<Response>>> {
        self.store.find(py, request, ignore_method)
    }

    /// Stores a response; whether it did, as the response itself may forbid it. `CacheError` for a mistake.
    fn put(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyAny>,
        response: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        self.store.put(py, request, response)
    }

    /// Forgets a URL; whether something was stored.
    #[pyo3(signature = (request, *, ignore_method=false))]
    fn delete(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyAny>,
        ignore_method: bool,
    ) -> PyResult<bool> {
        self.store.delete(py, request, ignore_method)
    }

    fn __repr__(&self) -> String {
        format!("<Cache {}>", self.store.name)
    }
}

/// A cache, for async callables.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct AsyncCache {
    store: NamedCache,
}

#[pymethods]
impl AsyncCache {
    /// The name that it was opened by.
    #[getter]
    fn name(&self) -> &str {
        &self.store.name
    }

    /// As `Cache.match`.
    #[pyo3(signature = (request, *, ignore_method=false))]
    fn r#match(&self, py: Python<'_>, request: &Bound<'_, PyAny>, ignore_method: bool) -> Settled {
        let found = self.store.find(py, request, ignore_method);
        Settled::of(py, found)
    }

    /// As `Cache.put`.
    fn put(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyAny>,
        response: &Bound<'_, PyAny>,
    ) -> Settled {
        Settled::of(py, self.store.put(py, request, response))
    }

    /// As `Cache.delete`.
    #[pyo3(signature = (request, *, ignore_method=false))]
    fn delete(&self, py: Python<'_>, request: &Bound<'_, PyAny>, ignore_method: bool) -> Settled {
        Settled::of(py, self.store.delete(py, request, ignore_method))
    }

    fn __repr__(&self) -> String {
        format!("<AsyncCache {}>", self.store.name)
    }
}

/// `ctx.caches`: caches by name.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Caches {
    caches: Weak<dyn FunctionCaches>,
    awaits: bool,
}

impl Caches {
    pub(crate) fn new(caches: Weak<dyn FunctionCaches>, awaits: bool) -> Self {
        Self { caches, awaits }
    }
}

pub(crate) fn default(
    py: Python<'_>,
    caches: &Weak<dyn FunctionCaches>,
    awaits: bool,
) -> PyResult<Py<PyAny>> {
    named(py, caches, api::DEFAULT.into(), awaits)
}

fn named(
    py: Python<'_>,
    caches: &Weak<dyn FunctionCaches>,
    name: Arc<str>,
    awaits: bool,
) -> PyResult<Py<PyAny>> {
    let store = NamedCache {
        caches: caches.clone(),
        name,
    };
    Ok(if awaits {
        Py::new(py, AsyncCache { store })?.into_any()
    } else {
        Py::new(py, PyCache { store })?.into_any()
    })
}

#[pymethods]
impl Caches {
    /// The cache as `ctx.cache`.
    #[getter]
    fn default(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        default(py, &self.caches, self.awaits)
    }

    /// A cache of this name; made at its first use. In an async callable it is awaited.
    fn open(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        let opened = py.detach(|| running(&self.caches)?.open(name));
        let opened = NamedCache::raised(py, opened)
            .and_then(|name| named(py, &self.caches, name, self.awaits));
        if self.awaits {
            return Ok(Py::new(py, Settled::of(py, opened))?.into_any());
        }
        opened
    }
}

/// An awaitable whose result is known.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct Settled {
    result: Mutex<Option<PyResult<Py<PyAny>>>>,
}

impl Settled {
    pub(crate) fn of<T>(py: Python<'_>, result: PyResult<T>) -> Self
    where
        T: for<'py> IntoPyObject<'py>,
    {
        let result = result.and_then(|value| value.into_py_any(py));
        Self {
            result: Mutex::new(Some(result)),
        }
    }
}

#[pymethods]
impl Settled {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self) -> PyResult<()> {
        let result = self.result.lock().take();
        match result {
            Some(Ok(value)) => Err(PyStopIteration::new_err((value,))),
            Some(Err(error)) => Err(error),
            None => Err(PyRuntimeError::new_err("this was awaited before")),
        }
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        // Nobody will ever see this failure.
        if let Some(Err(error)) = self.result.lock().take() {
            tracing::warn!(%error, "an operation on a cache failed, and was not awaited");
        }
    }
}
