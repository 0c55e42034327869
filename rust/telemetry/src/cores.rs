//! The processors that this process may use.

use std::sync::OnceLock;

/// Their number, with the affinity and the quota of the control group that the process had at its first call: reading
/// them takes a dozen calls of the system, and each crate with threads wants them.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
