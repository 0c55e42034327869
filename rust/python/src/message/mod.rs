//! Requests and responses as callables see them.
//!
//! A `Request` or `Response` is a view on the engine's head; `Headers` is a view on the header section of either, so
//! the three know each other; `made` is a request that a callable makes, `certificate` that of a client, `geo` its
//! place, `experiment` its variants, `crossing` a request on its way to another process, `asgi` the heads of both as
//! web applications have them, `spelling` the words for its id, scheme and version. The code in `runner` decides what a
//! call does with them; their properties in other forms (query, cookies, claims) are in `properties`. Heads come from
//! the engine, are edited here, and go back to it.

pub(crate) mod asgi;
pub(crate) mod certificate;
pub(crate) mod crossing;
pub(crate) mod experiment;
pub(crate) mod geo;
pub(crate) mod headers;
mod made;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod spelling;

pub(crate) use made::method_of;
