//! edgerouter-core: the decisions of the edge.
//!
//! Everything here is a function of request, plan, stored metadata and *now*: no sockets, no clock, no async runtime,
//! no Python. So each decision can be tabled against its RFC, fuzzed, simulated, and explained by the very code that
//! serves. Data flows one way: `http` (fields by RFC) ← `plan`, `cache`, `identity`, `experiment`, `origin` ← `path`,
//! `admit`, `viewer`, `finish`, `explain`, which answer the phases of a request. Beside these
//! phases: `forward`, `transform` and `outward` for what passes between client and origin, `record` and
//! `request_record` for what is kept and noted, `cloudfront` for the calls of its clients, `acme` and `tls` for
//! certificates, `bounds` for the division of memory and descriptors.

pub mod access_log;
pub mod acme;
pub mod admit;
pub mod bounds;
mod boxed;
pub mod cache;
pub mod cloudfront;
pub mod compression;
pub mod experiment;
pub mod explain;
pub mod files;
pub mod finish;
pub mod forward;
pub mod geo;
pub mod guard;
pub mod http;
pub mod identity;
pub mod images;
pub mod origin;
pub mod outcome;
pub mod outward;
pub mod path;
pub mod plan;
pub mod predict;
pub mod problem;
pub mod proxy_protocol;
pub mod record;
pub mod request_record;
pub mod secret;
pub mod select;
pub mod service_worker;
pub mod strict_json;
pub mod tls;
pub mod trace;
pub mod transform;
pub mod trial;
pub mod viewer;
