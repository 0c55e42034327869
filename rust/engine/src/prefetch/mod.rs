//! Fetching before anybody asks, away from the workers: one event loop with a worker of its own.
//!
//! `schedule` goes through the lists of the plan, `predicted` fetches what visitors will most likely ask for next. What is fetched goes through the very path of a visitor's request
//! (`request::own`), so it finds the same route, key and hooks.

pub mod predicted;
pub mod schedule;
