//! The edge's log as its user sets it, and Python's log records in it.

use std::sync::atomic::{AtomicBool, Ordering};

use edgerouter_core::plan::Problem;
use pyo3::prelude::*;
use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::errors;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Parts of the edge, and of what it is built from, that have a level of their own.
const PARTS: [&str; 15] = [
    "functions",
    "access",
    "edgerouter_account",
    "edgerouter_cache",
    "edgerouter_core",
    "edgerouter_engine",
    "edgerouter_functions",
    "edgerouter_listen",
    "edgerouter_origin",
    "edgerouter_store",
    "edgerouter_telemetry",
    "edgerouter_python",
    "hyper",
    "rustls",
    "tokio_rustls",
];

/// True if the log is JSON; the traceback is a field of its own then.
static JSON: AtomicBool = AtomicBool::new(false);

/// The environment's settings of the log: `EDGEROUTER_LOG` and `EDGEROUTER_LOG_FORMAT`.
pub(crate) struct LogSettings {
    pub(crate) filter: EnvFilter,
    pub(crate) json: bool,
}

/// Raises `ConfigError` for what means nothing, rather than fall back in silence.
pub(crate) fn wanted(py: Python<'_>) -> PyResult<LogSettings> {
    let read = |name: &str| {
        let value = std::env::var_os(name).unwrap_or_default();
        value.to_string_lossy().trim().to_owned()
    };
    let refuse = |name: &str, value: &str, message: &str| {
        let problem = Problem {
            path: name.to_owned(),
            value: Some(format!("{value:?}")),
            message: message.to_owned(),
        };
        errors::config(py, &[problem])
    };
    let text = read("EDGEROUTER_LOG");
    let text = if text.is_empty() { "info" } else { &text };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if !parts.iter().all(|part| is_directive(part)) {
        let message = format!(
            "must be {}; or a level for each part, such as info,functions=debug; parts are {}",
            LEVELS.join(", "),
            PARTS.join(", ")
        );
        return Err(refuse("EDGEROUTER_LOG", text, &message));
    }
    // The library of HTTP/2 would let a client write lines, and its lines have fields of requests in them.
    let filter = EnvFilter::try_new(parts.join(",") + ",h2=error")
        .map_err(|error| refuse("EDGEROUTER_LOG", text, &error.to_string()))?;
    let format = read("EDGEROUTER_LOG_FORMAT");
    let json = match format.as_str() {
        "" | "text" => false,
        "json" => true,
        _ => {
            let message = "must be text or json";
            return Err(refuse("EDGEROUTER_LOG_FORMAT", &format, message));
        }
    };
    JSON.store(json, Ordering::Relaxed);
    Ok(LogSettings { filter, json })
}

/// A level, or a part of the edge with its level.
fn is_directive(text: &str) -> bool {
    let is_level = |text: &str| LEVELS.iter().any(|level| text.eq_ignore_ascii_case(level));
    match text.split_once('=') {
        None => is_level(text),
        Some((part, level)) => {
            let root = part.split("::").next().unwrap_or_default();
            PARTS.contains(&root) && is_level(level)
        }
    }
}

/// `target` is that of directives such as `EDGEROUTER_LOG=info,functions=debug`.
macro_rules! event {
    ($level:ident, $logger:expr, $function:expr, $request:expr, $exception:expr, $message:expr) => {
        tracing::$level!(
            target: "functions",
            logger = $logger,
            function = $function,
            request = $request,
            exception = $exception,
            "{}",
            $message
        )
    };
}

/// Writes a record of Python's `logging`; `level` is a number as there. Never waits: the edge's log is a queue.
#[pyfunction]
#[pyo3(signature = (level, logger, message, function=None, request=None, trace=None))]
fn log(
    level: u32,
    logger: &str,
    message: &str,
    function: Option<&str>,
    request: Option<&str>,
    trace: Option<&str>,
) {
    let write = |logger: Option<&str>, function, request, exception, message: &str| match level {
        40.. => event!(error, logger, function, request, exception, message),
        30.. => event!(warn, logger, function, request, exception, message),
        20.. => event!(info, logger, function, request, exception, message),
        10.. => event!(debug, logger, function, request, exception, message),
        _ => event!(trace, logger, function, request, exception, message),
    };
    if JSON.load(Ordering::Relaxed) {
        return write(Some(logger), function, request, trace, message);
    }
    // The edge's own names are in `function`.
    let logger = Some(logger).filter(|name| !name.starts_with("edgerouter.functions"));
    // Lines that follow are indented: a text that holds some does not look like lines of the log.
    let mut text = indented(message);
    let Some(trace) = trace else {
        return write(logger, function, request, None, &text);
    };
    for (name, value) in [
        ("logger", logger),
        ("function", function),
        ("request", request),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(" {name}={value:?}"));
        }
    }
    text.push_str("\n    ");
    text.push_str(&indented(trace.trim_end()));
    write(None, None, None, None, &text);
}

fn indented(text: &str) -> String {
    text.replace('\r', "\\r").replace('\n', "\n    ")
}

/// The least level, as in Python's `logging`, of what functions log and the edge's log takes.
#[pyfunction]
fn log_level() -> u32 {
    if tracing::enabled!(target: "functions", Level::TRACE) {
        5
    } else if tracing::enabled!(target: "functions", Level::DEBUG) {
        10
    } else if tracing::enabled!(target: "functions", Level::INFO) {
        20
    } else if tracing::enabled!(target: "functions", Level::WARN) {
        30
    } else if tracing::enabled!(target: "functions", Level::ERROR) {
        40
    } else {
        100
    }
}

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(log, module)?)?;
    module.add_function(wrap_pyfunction!(log_level, module)?)
}
