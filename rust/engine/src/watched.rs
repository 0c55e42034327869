//! The values that `viewer_request` hooks make part of the key.

use std::sync::Arc;

use edgerouter_core::{cache::distinct::Distinct, http::FieldName};
use hashbrown::{HashMap, hash_map::Entry};
use parking_lot::Mutex;

/// Bound on fields of hooks whose values are counted.
const MOST_WATCHED: usize = 256;

/// The values that `viewer_request` hooks give fields, by the hook's name and the field's: a field with a different
/// value for every request would let the cache store everything and find nothing.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<HashMap<(Arc<str>, FieldName), Distinct>>);

impl Watched {
    /// Counts a value; true once, when there are too many.
    pub(crate) fn note(&self, hook: &Arc<str>, field: &FieldName, value: u64, now: u64) -> bool {
        let mut watched = self.0.lock();
        let full = watched.len() >= MOST_WATCHED;
        match watched.entry((Arc::clone(hook), field.clone())) {
            Entry::Vacant(_) if full => false,
            entry => entry.or_default().note(value, now),
        }
    }

    /// Notes that a stored response was found whose key has the field.
    pub(crate) fn hit(&self, hook: &Arc<str>, field: &FieldName, now: u64) {
        if let Some(distinct) = self.0.lock().get_mut(&(Arc::clone(hook), field.clone())) {
            distinct.hit(now);
        }
    }
}
