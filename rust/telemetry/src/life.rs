//! The state of an engine.

/// The state of the engine, published to all of its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Serving,
    Draining,
    Ended,
}
