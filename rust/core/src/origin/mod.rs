//! The order in which the origins of a group get a request, its attempts at them as one state machine, and the health
//! of origins.

pub mod attempts;
pub mod balance;
pub mod foreign;
pub mod health;
pub mod retry_after;
pub mod unanswered;
