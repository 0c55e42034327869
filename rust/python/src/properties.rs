//! Pure decisions, opened to property tests. Thin: each calls the function that serves.

use edgerouter_core::{
    cache::key::{Base, Key, KeyParts},
    http::{FieldName, Fields, cache_control::ResponseDirectives, cookie, header, uri},
    plan::{self, PathPattern, Plan, Scheme},
};
use http::HeaderValue;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(matches, module)?)?;
    module.add_function(wrap_pyfunction!(captures, module)?)?;
    module.add_function(wrap_pyfunction!(normalise_path, module)?)?;
    module.add_function(wrap_pyfunction!(cache_key, module)?)?;
    module.add_function(wrap_pyfunction!(parse_cookies, module)?)?;
    module.add_function(wrap_pyfunction!(parse_cache_control, module)?)?;
    module.add_function(wrap_pyfunction!(bucket, module)?)
}

fn pattern_of(pattern: &str) -> PyResult<PathPattern> {
    PathPattern::parse(pattern).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// True if a path pattern matches a path.
#[pyfunction]
fn matches(pattern: &str, path: &str) -> PyResult<bool> {
    Ok(pattern_of(pattern)?.matches(path))
}

/// The decoded parameters of a path; `None` when the pattern does not match.
#[pyfunction]
fn captures<'py>(
    py: Python<'py>,
    pattern: &str,
    path: &str,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(found) = pattern_of(pattern)?.captures(path) else {
        return Ok(None);
    };
    let parameters = PyDict::new(py);
    for (name, value) in found {
        parameters.set_item(&*name, value)?;
    }
    Ok(Some(parameters))
}

/// The one spelling of a path; raises `ValueError` where there is none.
#[pyfunction]
fn normalise_path(path: &str) -> PyResult<String> {
    uri::normalise_path(path)
        .map(std::borrow::Cow::into_owned)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The cache key of a request under a policy (the `cache` of a route, as JSON).
#[pyfunction]
fn cache_key(
    policy: &[u8],
    host: &str,
    path: &str,
    query: Option<&str>,
    headers: Vec<(String, String)>,
) -> PyResult<Vec<u8>> {
    let plan = plan_with("cache", json_of(policy)?)?;
    let policy = &plan
        .routes
        .first()
        .ok_or_else(|| PyValueError::new_err("no route"))?
        .cache;
    let mut map = Fields::new();
    for (name, value) in headers {
        let name = FieldName::from_bytes(name.as_bytes())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        map.append(name, value);
    }
    let base = Base {
        scheme: Scheme::Https,
        host,
        port: None,
    };
    let mut key = Key::of(Vec::new(), base, path, query, policy);
    key.add(&KeyParts {
        headers: &map,
        policy,
        variants: &[],
        claims: &[],
        edge_set: &[],
        hooked: &[],
        tag: None,
    });
    Ok(key.into_buffer())
}

#[pyfunction]
fn parse_cookies(field: &str) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    cookie::parse(field.as_bytes())
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// The directives of response `Cache-Control` lines.
#[pyfunction]
fn parse_cache_control<'py>(py: Python<'py>, lines: Vec<String>) -> PyResult<Bound<'py, PyDict>> {
    let mut headers = Fields::new();
    for line in lines {
        let line = HeaderValue::from_str(&line)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        headers.append(header::CACHE_CONTROL, line);
    }
    let found = ResponseDirectives::parse(&headers, &[]);
    let out = PyDict::new(py);
    out.set_item("max_age", found.max_age)?;
    out.set_item("s_maxage", found.s_maxage)?;
    out.set_item("stale_while_revalidate", found.stale_while_revalidate)?;
    out.set_item("stale_if_error", found.stale_if_error)?;
    out.set_item("no_store", found.no_store)?;
    out.set_item("no_cache", found.no_cache)?;
    out.set_item("private", found.private)?;
    out.set_item("public", found.public)?;
    out.set_item("must_revalidate", found.must_revalidate)?;
    Ok(out)
}

/// The variant of a stable id in an experiment (as JSON, as in a route).
#[pyfunction]
fn bucket(experiment: &[u8], id: &str) -> PyResult<String> {
    let mut experiment = json_of(experiment)?;
    if let Some(fields) = experiment.as_object_mut() {
        // The owner of the id does not matter here, and a claim would need a token policy.
        fields.insert("by".to_owned(), "header:x-id".into());
    }
    let plan = plan_with("experiments", serde_json::Value::Array(vec![experiment]))?;
    let found = plan
        .routes
        .first()
        .and_then(|route| route.experiments.first());
    let experiment = found.ok_or_else(|| PyValueError::new_err("no experiment"))?;
    Ok(experiment
        .variant(experiment.bucket(id.as_bytes()))
        .to_owned())
}

fn json_of(text: &[u8]) -> PyResult<serde_json::Value> {
    serde_json::from_slice(text).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The smallest plan with that field on its one route.
fn plan_with(field: &str, value: serde_json::Value) -> PyResult<Plan> {
    let json = serde_json::json!({
        "version": 1,
        "name": "properties",
        "origins": [{"name": "o", "url": "http://127.0.0.1:1"}],
        "routes": [{"pattern": "/*", "to": "o", field: value}],
    });
    plan::compile(json.to_string().as_bytes()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        PyValueError::new_err(lines.join("\n"))
    })
}
