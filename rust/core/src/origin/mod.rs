//! Choosing among origins: health state, failover, retry. Pure state machines; the engine feeds them events.

pub mod failover;
pub mod health;
