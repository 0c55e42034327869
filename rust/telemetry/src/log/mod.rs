//! Lines that leave the process: the edge's own log, Python's output, the access log.
//!
//! The writer of a line never waits for its reader. `output` is a bounded queue of bytes and a thread for each
//! descriptor; lines that do not fit are dropped and counted. `sums` keeps repeated lines of one origin to one a second
//! and bounds the log as a whole; `recent` keeps the last of them for the dashboard. Readiness, signals and the drain
//! depend on none of it.

mod output;
pub mod recent;
mod sums;

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use edgerouter_core::plan::limits::LogLimits;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, layer::SubscriberExt as _};

pub use self::output::{Output, Sink};
use self::sums::{SUMS, Sums};
use crate::{system_error::without_number, text};

/// The two streams that every process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardStream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

static STDOUT: OnceLock<Output> = OnceLock::new();
static STDERR: OnceLock<Output> = OnceLock::new();

/// The queue in front of a standard stream; its thread starts with the first use.
pub fn stream(which: StandardStream) -> &'static Output {
    match which {
        StandardStream::Stdout => {
            let made = || Output::new("stdout", Sink::Stdout, &CAPACITY, || {});
            match STDOUT.get_or_init(made) {
                output if output.is_written() => output,
                _ => stream(StandardStream::Stderr),
            }
        }
        StandardStream::Stderr => {
            STDERR.get_or_init(|| Output::new("stderr", Sink::Stderr, &CAPACITY, sums::tick))
        }
    }
}

/// Bytes that may wait in each queue.
static CAPACITY: AtomicUsize = AtomicUsize::new(output::CAPACITY);

/// A log in a file of its own.
pub(super) fn file(sink: Sink) -> Output {
    Output::new("access", sink, &CAPACITY, || {})
}

/// The streams in use.
fn streams<'a>() -> impl Iterator<Item = &'a Output> {
    [STDOUT.get(), STDERR.get()].into_iter().flatten()
}

/// The format of the edge's own log.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// An object a line, instead of text.
    pub json: bool,
    /// Escape sequences of a terminal in the text.
    pub colours: bool,
}

/// Sends the log of the process to standard error, through the queue. Panics take the same way: the standard hook
/// writes to the descriptor itself, and would block a worker for as long as there is no reader. Only the first call has
/// an effect.
pub fn start(filter: EnvFilter, look: Look) {
    stream(StandardStream::Stderr);
    let builder = tracing_subscriber::fmt::layer()
        .with_writer(Lines)
        .with_ansi(look.colours)
        .with_target(false);
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(Sums)
        .with(recent::Remembers);
    let first = if look.json {
        tracing::subscriber::set_global_default(registry.with(builder.json())).is_ok()
    } else {
        tracing::subscriber::set_global_default(registry.with(builder.compact())).is_ok()
    };
    if first {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let message = info
                .payload()
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| info.payload().downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            tracing::error!(place, message, "a thread of the edge panicked");
        }));
    }
}

/// Waits for the queues of the standard streams to empty: while they get shorter, and for a bounded time.
pub fn flush() {
    streams().for_each(Output::flush);
}

/// Sets the bounds of the plan in service.
pub fn bound(limits: &LogLimits) {
    CAPACITY.store(limits.queue_bytes, Ordering::Relaxed);
    SUMS.lock().most = limits.lines_per_second;
}

/// Writes lines to standard error through the queue.
#[derive(Debug, Clone, Copy)]
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let output = stream(StandardStream::Stderr);
        match std::str::from_utf8(line) {
            Ok(text) => output.push(without_number(text).as_bytes()),
            Err(_) => output.push(line),
        };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        Self
    }
}

/// Counts of written and dropped lines, in Prometheus' text format.
pub fn render(out: &mut String, access: Option<&Output>) {
    let access = access.filter(|output| output.name() == "access");
    let dropped = streams().chain(access).flat_map(|output| {
        let counts = output.dropped().into_iter();
        counts.map(|(reason, count)| ([output.name(), reason], count))
    });
    let (summed, over) = {
        let sums = SUMS.lock();
        (sums.summed, sums.over)
    };
    text::labelled(
        out,
        "edgerouter_log_dropped_total",
        "Log lines that were dropped, by log and reason.",
        ["log", "reason"],
        dropped.chain([(["stderr", "rate"], over)]),
    );
    text::one(
        out,
        "edgerouter_log_summed_total",
        "Log lines that were summed in another line.",
        summed,
    );
}
