//! Ground of the engine: the text of metrics, and the life of the process.

pub mod life;
pub mod text;
