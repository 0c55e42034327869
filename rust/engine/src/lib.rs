//! edgerouter-engine: sockets, timers and stores around the decisions of `edgerouter_core`.
//!
//! Data flows `listen` → `request` → `store` | `upstream` | `functions` → back. The engine knows no Python and makes
//! no HTTP decision of its own: what may be cached, matched, trusted or retried is asked of the core.

mod account;
mod admin;
mod background;
mod body;
mod clock;
mod connection;
pub mod function_cache;
pub mod functions;
pub mod identity;
mod inspect;
mod life;
mod listen;
mod live;
mod navigation;
mod prefetch;
pub mod purge;
mod request;
mod secret;
mod server;
pub mod store;
pub mod telemetry;
mod unanswered;
pub mod upstream;
mod values;
mod watched;
mod worker;

pub use server::{Engine, Settings, StartError};
