//! Which origin is asked, and whether it is well: the machine of a request's attempts, and the health of origins.

pub mod attempts;
pub mod health;
pub mod retry_after;
pub mod unanswered;
