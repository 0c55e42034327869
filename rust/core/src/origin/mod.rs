//! The attempts of a request at the origins of a group, as one state machine, and the health of origins.

pub mod attempts;
pub mod foreign;
pub mod health;
pub mod retry_after;
pub mod unanswered;
