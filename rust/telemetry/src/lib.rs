//! Shared basis of the engine's rooms: the text of metrics, and the state of the process.

pub mod life;
pub mod secret;
pub mod text;
