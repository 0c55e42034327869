//! Origins as the engine reaches them: addresses, connections, requests, health.
//!
//! One set of connections a worker, without locks. A connection is driven by the request that uses it, not by a task of
//! its own: that saves two wake-ups on every proxied request.

mod body;
mod connect;
mod connection;
mod fetch;
mod health;
mod message;
mod names;
mod pool;
mod request_body;
mod request_writer;
mod space;
mod tls;
mod upgraded;
mod wanted;

pub use body::UpstreamBody;
pub use connection::HearInterims;
pub use fetch::Upstreams;
pub use health::{HealthBoard, OriginState, PlanHealth, render_states};
pub use message::{UpstreamRequest, UpstreamResponse};
pub use names::resolve;
pub use request_body::{BoxError, RequestBody, RequestStream, Turn};
pub use tls::check as check_tls;
pub use upgraded::Upgraded;
pub use wanted::Wanted;

pub use edgerouter_core::origin::unanswered::{FetchError, FunctionFailure, Unavailable};
