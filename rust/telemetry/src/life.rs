//! The state of an engine.

/// The state of the engine, published to all of its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Accepts connections and requests.
    Serving,
    /// Accepts no more connections; requests under way are finished.
    Draining,
    /// Everything stops, at once.
    Ended,
}
