//! Invalidation decided purely: what a purge names, and whether it matches a stored response.
//!
//! `order` reads a request for a purge, `scope` is what a purge can name, `pattern` the wildcards, `register` compares
//! a stored response with all purges since it was fetched, `log` is the written form of purges. Nothing here walks a
//! store: a purge is a few marks in tables, and a look-up compares one number with the newest mark.

pub mod log;
pub mod order;
pub(crate) mod pattern;
pub(crate) mod register;
pub mod scope;

pub use order::{Mistake, Order};
pub use pattern::Pattern;
pub use register::{MarkLimits, PurgeEffect, Register};
pub use scope::{Matcher, PurgeSubject, Scope};
