//! Navigations that workers report to the next-page model.

use edgerouter_core::plan::PrefetchTarget;

/// A visitor went to a page.
#[derive(Debug)]
pub(crate) struct Navigation {
    /// The visitor, as a number without meaning outside this process.
    pub visitor: u64,
    pub target: PrefetchTarget,
    pub bytes: u64,
    /// Its response was stored already, or being fetched.
    pub found: bool,
}

/// Navigations that may wait for the model; more are dropped and counted.
pub(crate) const QUEUE: usize = 1_024;
