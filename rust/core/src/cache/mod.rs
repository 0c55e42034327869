//! HTTP caching decided purely (RFC 9111, 5861, 8246, 9213).
//!
//! `key` and `vary` name a stored response, `levels` finds it, `keyed` reads the name back, `question` is all of a
//! request that the cache depends on, `agreement` decides which parts of a request with such a name may go upstream,
//! `arrival` decides what a response becomes (by `storable` and `freshness`), `decide` whether a stored one is reused,
//! `validate` implements conditional requests (RFC 9110 §13), `purge` and `tags` decide what is invalidated, `api`
//! applies these rules for functions, `hooked` decides which requests may share a response that hooks took part in, and
//! `distinct` counts the values of the fields that hooks set; `promised` detects pages under the names of static files.
//! There is no store here and no clock is read.

pub mod agreement;
pub mod api;
pub mod arrival;
pub mod decide;
pub mod distinct;
pub mod fill;
pub mod freshness;
pub mod hooked;
pub mod key;
pub mod keyed;
pub mod levels;
pub mod promised;
pub mod purge;
pub mod question;
pub mod refresh_ahead;
pub mod slices;
pub mod storable;
pub mod tags;
mod url;
pub mod validate;
pub mod vary;
