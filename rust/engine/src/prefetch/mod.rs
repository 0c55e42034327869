//! Fetching responses before clients request them, away from the workers: one event loop with a worker of its own.
//!
//! `schedule` fetches the lists of the plan, `predicted` the pages that visitors will probably request next. Both use
//! the same path as a visitor's request (`request::internal`), so they find the same route, key and hooks.

pub(crate) mod predicted;
pub(crate) mod schedule;
