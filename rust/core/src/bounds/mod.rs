//! Bounds that many share: who may have how much, and who gives way when there is too little. The engine counts; the
//! decisions are here.

pub mod clients;
pub mod descriptors;
pub mod memory;
