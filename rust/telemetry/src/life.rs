//! The life of an engine.

/// How the engine is doing, told to every thread of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Serving,
    Draining,
    Ended,
}
