//! Bounds that many share: how much each may have, and which one yields when there is too little. The engine counts;
//! the decisions are here.

pub mod clients;
pub mod descriptors;
pub mod memory;
pub mod spread;
