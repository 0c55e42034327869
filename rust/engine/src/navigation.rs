//! What workers tell the next-page model.

use edgerouter_core::plan::PrefetchTarget;

/// Somebody went to a page.
#[derive(Debug)]
pub struct Navigation {
    /// Who, as a number that means nothing outside this process.
    pub visitor: u64,
    pub target: PrefetchTarget,
    pub bytes: u64,
    /// Its answer was stored already, or on its way.
    pub found: bool,
}

/// Navigations that wait to be learnt from; past it they are dropped and counted.
pub const QUEUE: usize = 1_024;
