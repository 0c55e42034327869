//! Traces: which request is traced and kept, and the context that goes from hop to hop (W3C Trace Context).
//!
//! `context` reads and writes `traceparent`, `policy` decides. Spans are recorded by `edgerouter-telemetry`.

pub mod context;
pub mod policy;

pub use context::TraceContext;
pub use policy::{Believed, Kept, ShownTo, TracingPolicy};
