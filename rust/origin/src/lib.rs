//! Origins as the engine reaches them: addresses, connections, requests, health.
//!
//! One set of connections a worker, without locks. A connection is driven by the request that uses it, not by a task of
//! its own: that saves two wake-ups on every proxied request.

mod body;
mod connect;
mod direct;
mod fetch;
mod health;
mod names;
mod pool;
mod responses;
mod short;
mod tls;
mod wanted;

pub use body::{BoxError, RequestBody, RequestStream, Turn, UpstreamBody};
pub use fetch::{HearInterims, UpstreamRequest, UpstreamResponse, Upstreams};
pub use health::{HealthBoard, OriginState, render_states};
pub use wanted::Wanted;

pub use edgerouter_core::origin::unanswered::{FetchError, Unavailable};
