//! Functions and hooks as a plan has them; the callables themselves are in Python.

use std::{sync::Arc, time::Duration};

use crate::http::FieldName;

/// A Python function or hook as the Rust side knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Callable {
    /// `module.qualname`, for metrics, logs and messages.
    pub name: Arc<str>,
    /// Runs on the worker's own thread, which it promises not to block; excludes `serial`.
    pub inline: bool,
    /// Runs on one thread, one at a time, together with all other serial callables.
    pub serial: bool,
    /// Time for one call, its time in the queue included; `limits.functions.timeout` by default.
    pub timeout: Duration,
    /// `Closed` by default.
    pub fail: FailMode,
    /// Of a function in front of which there is a cache: the names that select among its responses in place of what it
    /// reads, as [`Hook::varies`](super::Hook::varies).
    pub varies: Option<Arc<[FieldName]>>,
}

/// The effect of a failed hook on its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// Continues as if the hook had returned nothing.
    Open,
    /// Answers 502 (raised) or 504 (too slow).
    Closed,
}
