//! HTTP caching decided purely (RFC 9111, 5861, 8246, 9213).
//!
//! `key` and `vary` name a stored response, `keyed` reads the name back, `agreement` says what may go upstream with a
//! request that has such a name, `storable` and `freshness` judge a response on arrival, `decide` judges one on reuse,
//! `validate` speaks conditional requests (RFC 9110 §13), `purge` and `tags` say what was invalidated, `api`
//! applies it all for functions, `hooked` says which requests may share what hooks had a part in, and `distinct` counts
//! what they set. No store lives here and no clock is read.

pub mod agreement;
pub mod api;
pub mod decide;
pub mod distinct;
pub mod fill;
pub mod freshness;
pub mod hooked;
pub mod key;
pub mod keyed;
pub mod purge;
pub mod refresh_ahead;
pub mod slices;
pub mod storable;
pub mod tags;
pub mod validate;
pub mod vary;
