//! Field values that are made once.

use std::cell::RefCell;

use edgerouter_core::http::{
    FieldLine, header,
    structured::{self, CacheStatus},
};
use hashbrown::HashMap;
use http::HeaderValue;

/// Field values that many responses need, made once: small ages, `Cache-Status` of hits by remaining lifetime, and of
/// forwarded requests by all of their parameters.
#[derive(Debug, Default)]
pub(crate) struct FieldValues {
    ages: RefCell<Vec<Option<FieldLine>>>,
    hits: RefCell<Vec<Option<FieldLine>>>,
    forwards: RefCell<HashMap<CacheStatus, HeaderValue>>,
}

const VALUES: usize = 4096;

impl FieldValues {
    pub(crate) fn age(&self, age: u64) -> FieldLine {
        Self::nth(&self.ages, age, || {
            FieldLine::new(header::AGE, HeaderValue::from(age))
        })
    }

    /// `node; hit; ttl=N`.
    pub(crate) fn hit(&self, node: &str, ttl: u64) -> FieldLine {
        Self::nth(&self.hits, ttl, || {
            let mut value = Vec::with_capacity(32);
            edgerouter_core::http::structured::hit(
                &mut value,
                node.as_bytes(),
                i64::try_from(ttl).unwrap_or(i64::MAX),
            );
            let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value));
            let value = value.unwrap_or(HeaderValue::from_static("hit"));
            FieldLine::new(header::CACHE_STATUS, value)
        })
    }

    /// The member for any response. Values that rarely recur (a time to live, a key) are made each time.
    pub(crate) fn cache_status(
        &self,
        node: &str,
        status: &CacheStatus,
        key: Option<&str>,
    ) -> HeaderValue {
        let make = || structured::cache_status(node, status, key);
        if status.ttl.is_some() || key.is_some() {
            return make();
        }
        let mut forwards = self.forwards.borrow_mut();
        if let Some(known) = forwards.get(status) {
            return known.clone();
        }
        let made = make();
        if forwards.len() < VALUES {
            forwards.insert(*status, made.clone());
        }
        made
    }

    /// The pseudonym may change with the plan.
    pub(crate) fn clear(&self) {
        self.hits.borrow_mut().clear();
        self.forwards.borrow_mut().clear();
    }

    fn nth(
        table: &RefCell<Vec<Option<FieldLine>>>,
        n: u64,
        make: impl FnOnce() -> FieldLine,
    ) -> FieldLine {
        let Some(index) = usize::try_from(n).ok().filter(|&n| n < VALUES) else {
            return make();
        };
        let mut table = table.borrow_mut();
        if table.len() <= index {
            table.resize(index + 1, None);
        }
        match table.get_mut(index) {
            Some(slot) => slot.get_or_insert_with(make).clone(),
            None => make(),
        }
    }
}
