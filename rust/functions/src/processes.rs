//! Worker processes for functions, as metrics have them. Python starts and ends them, and counts them here.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use edgerouter_telemetry::text;

/// Why a process ended: with its edge or its version, by itself, past the time of its call, past its processor time, or
/// with too much memory.
pub const ENDS: [&str; 5] = ["stopped", "crashed", "time", "cpu", "memory"];

/// The worker processes of all edges of this process.
pub static PROCESSES: Processes = Processes {
    running: AtomicI64::new(0),
    busy: AtomicI64::new(0),
    waiting: AtomicI64::new(0),
    memory: AtomicI64::new(0),
    ended: [const { AtomicU64::new(0) }; ENDS.len()],
};

/// Gauges and counts of worker processes.
#[derive(Debug)]
pub struct Processes {
    running: AtomicI64,
    busy: AtomicI64,
    waiting: AtomicI64,
    memory: AtomicI64,
    ended: [AtomicU64; ENDS.len()],
}

impl Processes {
    /// Adds to the gauges what has changed in one pool: processes, those that are busy, calls that wait for one, bytes.
    pub fn change(&self, running: i64, busy: i64, waiting: i64, memory: i64) {
        self.running.fetch_add(running, Ordering::Relaxed);
        self.busy.fetch_add(busy, Ordering::Relaxed);
        self.waiting.fetch_add(waiting, Ordering::Relaxed);
        self.memory.fetch_add(memory, Ordering::Relaxed);
    }

    /// Counts the end of a process; false for a cause that is none.
    pub fn ended(&self, cause: &str) -> bool {
        let counted = ENDS
            .iter()
            .zip(&self.ended)
            .find(|(name, _)| **name == cause);
        if let Some((_, count)) = counted {
            count.fetch_add(1, Ordering::Relaxed);
        }
        counted.is_some()
    }

    pub(crate) fn render(&self, out: &mut String) {
        for (name, help, value) in [
            (
                "edgerouter_function_processes",
                "Worker processes for functions.",
                &self.running,
            ),
            (
                "edgerouter_function_processes_busy",
                "Worker processes that run a call or have WebSockets.",
                &self.busy,
            ),
            (
                "edgerouter_function_process_calls_waiting",
                "Calls that wait for a free worker process.",
                &self.waiting,
            ),
            (
                "edgerouter_function_process_memory_bytes",
                "Resident memory of all worker processes.",
                &self.memory,
            ),
        ] {
            text::one(out, name, help, value.load(Ordering::Relaxed).max(0));
        }
        text::labelled(
            out,
            "edgerouter_function_process_ends_total",
            "Worker processes that ended, by cause.",
            ["cause"],
            (ENDS.into_iter().zip(&self.ended))
                .map(|(cause, count)| ([cause], count.load(Ordering::Relaxed))),
        );
    }
}
