//! A bounded queue of bytes in front of a descriptor, and the thread that empties it.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::FileTypeExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Bytes that may wait in a queue until a plan sets the bound (`limits.log.queue_bytes`).
pub(super) const CAPACITY: usize = 1 << 20;
/// How long `flush` waits for a reader that reads nothing, and at most.
const STILL: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause before a non-blocking descriptor is tried again.
const AGAIN: Duration = Duration::from_millis(10);
/// Time for which the thread of an access log gathers lines before it writes them in one call, and bytes that are
/// enough.
const GATHER: Duration = Duration::from_millis(5);
const GATHERED: usize = 64 << 10;
/// Interval of the thread's check for repeated lines while there is nothing to write.
const TICK: Duration = Duration::from_secs(1);

/// The destination of the bytes.
#[derive(Debug)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Opened for appending, created if absent, reopened on demand.
    File {
        /// As configured: opened again by it.
        path: PathBuf,
        /// Open for appending.
        file: File,
    },
}

impl Sink {
    /// A file to append to.
    pub fn file(path: PathBuf) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self::File { path, file })
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, file } = self {
            *file = open(path)?;
        }
        Ok(())
    }

    /// As configured; empty for a standard stream.
    fn path(&self) -> tracing::field::DisplayValue<std::path::Display<'_>> {
        let path = match self {
            Self::File { path, .. } => path.as_path(),
            Self::Stdout | Self::Stderr => std::path::Path::new(""),
        };
        tracing::field::display(path.display())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                let written = stdout.write(bytes)?;
                stdout.flush()?;
                Ok(written)
            }
            Self::Stderr => io::stderr().lock().write(bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // Opening a pipe for writing only would wait for its reader (fifo(7)), at the start for ever.
    let pipe = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    options.read(pipe).open(path)
}

/// The queue of one log. Clones share it.
#[derive(Debug, Clone)]
pub struct Output {
    inner: Arc<Inner>,
    is_written: bool,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    capacity: &'static AtomicUsize,
    queue: Mutex<LogBuffer>,
    /// There is work for the thread.
    filled: Condvar,
    /// The thread has made progress.
    emptied: Condvar,
    full: AtomicU64,
    failed: AtomicU64,
}

/// Failures to write a log: one line when they begin, and one when they are over.
#[derive(Debug, Default)]
struct Trouble {
    /// Time of the last failure; `None` while writing works.
    failed_at: Option<Instant>,
    /// Lines lost since the first failure.
    lost: u64,
    /// The last line was written in part.
    is_torn: bool,
}

impl Trouble {
    fn fail(&mut self, log: &str, sink: &Sink, error: &io::Error, lost: u64) {
        self.lost += lost;
        if self.failed_at.replace(Instant::now()).is_none() {
            tracing::error!(
                %error,
                log,
                path = sink.path(),
                "a log cannot be written; requests go on, and lines are dropped until it can be"
            );
        }
    }

    /// Small lines fit now and then while the rest does not: they do not count as the end of it.
    fn succeed(&mut self, log: &str, sink: &Sink) {
        if self.failed_at.is_some_and(|at| at.elapsed() > TICK) {
            self.failed_at = None;
            let lost = std::mem::take(&mut self.lost);
            tracing::warn!(log, path = sink.path(), lost, "a log can be written again");
        }
    }
}

#[derive(Debug, Default)]
struct LogBuffer {
    bytes: Vec<u8>,
    /// Taken by the thread and not written yet.
    under_way: usize,
    /// Dropped since the last line that reported it.
    dropped: u64,
    reopen: bool,
    closed: bool,
    /// The thread sleeps until it is woken.
    asleep: bool,
    /// Somebody waits for all that is queued.
    hurried: bool,
}

impl Output {
    /// Starts the thread. `capacity`: bytes that may wait. `tick` is called once a second, and never while a write is
    /// stuck.
    pub fn new(name: &'static str, sink: Sink, capacity: &'static AtomicUsize, tick: fn()) -> Self {
        let inner = Arc::new(Inner {
            name,
            capacity,
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            full: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let own = Arc::clone(&inner);
        let started = std::thread::Builder::new()
            .name(format!("edge-log-{name}"))
            .spawn(move || own.run(sink, tick));
        if let Err(error) = &started {
            // Without a thread nothing is ever written, and nothing waits for it.
            inner.queue.lock().closed = true;
            // Standard error cannot say so itself, and has the lines of standard output then.
            if name != "stderr" {
                tracing::error!(
                    %error,
                    log = name,
                    "the thread of a log could not be started, so its lines go to standard error, or are dropped if \
                     they are for a file; raise the limits on threads and memory (ulimit -u, ulimit -v), and start \
                     again"
                );
            }
        }
        Self {
            inner,
            is_written: started.is_ok(),
        }
    }

    /// False if its thread could not be started.
    pub(super) fn is_written(&self) -> bool {
        self.is_written
    }

    /// A label for metrics and for messages about the output itself.
    pub fn name(&self) -> &'static str {
        self.inner.name
    }

    /// Queues whole lines; if there is no room they are counted, and it returns false. Never waits.
    pub fn push(&self, lines: &[u8]) -> bool {
        let mut queue = self.inner.queue.lock();
        let room = self.inner.capacity.load(Ordering::Relaxed);
        if queue.closed || queue.bytes.len() + queue.under_way + lines.len() > room {
            let count = lines.iter().filter(|&&byte| byte == b'\n').count().max(1) as u64;
            queue.dropped += count;
            self.inner.full.fetch_add(count, Ordering::Relaxed);
            return false;
        }
        let before = queue.bytes.len();
        queue.bytes.extend_from_slice(lines);
        let enough = before < GATHERED && queue.bytes.len() >= GATHERED;
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep || enough {
            self.inner.filled.notify_one();
        }
        true
    }

    /// Reopens a file by its name, after the lines queued now.
    pub fn reopen(&self) {
        let mut queue = self.inner.queue.lock();
        queue.reopen = true;
        queue.asleep = false;
        self.inner.filled.notify_one();
    }

    /// Waits until everything is written, as long as the reader reads.
    pub fn flush(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut queue = self.inner.queue.lock();
        loop {
            let left = queue.bytes.len() + queue.under_way;
            if left == 0 || Instant::now() >= deadline {
                return;
            }
            queue.hurried = true;
            self.inner.filled.notify_one();
            let still = self.inner.emptied.wait_for(&mut queue, STILL).timed_out();
            if still && queue.bytes.len() + queue.under_way >= left {
                return;
            }
        }
    }

    /// Ends the thread when all queued lines are written.
    pub fn close(&self) {
        let mut queue = self.inner.queue.lock();
        queue.closed = true;
        self.inner.filled.notify_one();
    }

    /// Reasons, and how many lines were dropped for each.
    pub fn dropped(&self) -> [(&'static str, u64); 2] {
        [
            ("full", self.inner.full.load(Ordering::Relaxed)),
            ("failed", self.inner.failed.load(Ordering::Relaxed)),
        ]
    }
}

impl Inner {
    fn run(&self, mut sink: Sink, tick: fn()) {
        let mut batch = Vec::new();
        let mut trouble = Trouble::default();
        let mut ticked = Instant::now();
        loop {
            let mut queue = self.queue.lock();
            while queue.bytes.is_empty() && queue.dropped == 0 && !queue.reopen {
                if queue.closed {
                    return;
                }
                queue.asleep = true;
                let timed_out = self.filled.wait_for(&mut queue, TICK).timed_out();
                queue.asleep = false;
                if timed_out {
                    break;
                }
            }
            // One write for the lines of some milliseconds: otherwise each would wake this thread.
            let waits = queue.closed || queue.reopen || queue.hurried;
            if self.gathers() && !waits && (1..GATHERED).contains(&queue.bytes.len()) {
                self.filled.wait_for(&mut queue, GATHER);
            }
            queue.hurried = false;
            batch.clear();
            std::mem::swap(&mut batch, &mut queue.bytes);
            queue.under_way = batch.len();
            let dropped = std::mem::take(&mut queue.dropped);
            let reopen = std::mem::take(&mut queue.reopen);
            drop(queue);
            self.write(&mut sink, &batch, &mut trouble);
            if dropped > 0 {
                tracing::warn!(
                    log = self.name,
                    lines = dropped,
                    "lines were dropped: the reader of a log is too slow"
                );
            }
            if reopen && let Err(error) = sink.reopen() {
                tracing::error!(%error, log = self.name, "a log could not be opened again; the old file is used");
            }
            // The memory of a burst is not kept for ever.
            if batch.capacity() > CAPACITY {
                batch = Vec::new();
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                tick();
            }
        }
    }

    /// Messages of the process itself are written at once.
    fn gathers(&self) -> bool {
        self.name != "stderr"
    }

    /// Writes all of it, or counts the rest. Errors of the reader are not errors of the edge.
    fn write(&self, sink: &mut Sink, batch: &[u8], trouble: &mut Trouble) {
        if batch.is_empty() {
            return;
        }
        let mut bytes = batch;
        let mut error = match trouble.is_torn {
            true => end_line(sink).err(),
            false => None,
        };
        while !bytes.is_empty() && error.is_none() {
            match sink.write(bytes) {
                Ok(0) => error = Some(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    trouble.is_torn = false;
                    bytes = bytes.get(count..).unwrap_or_default();
                    let mut queue = self.queue.lock();
                    queue.under_way = queue.under_way.saturating_sub(count);
                    self.emptied.notify_all();
                }
                Err(failed) if failed.kind() == ErrorKind::Interrupted => {}
                Err(failed) if failed.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
                Err(failed) => error = Some(failed),
            }
        }
        if let Some(error) = error {
            let lost = bytes.iter().filter(|&&byte| byte == b'\n').count().max(1) as u64;
            self.failed.fetch_add(lost, Ordering::Relaxed);
            let written = batch.len().saturating_sub(bytes.len());
            let last = written.checked_sub(1).and_then(|last| batch.get(last));
            trouble.is_torn |= last.is_some_and(|last| *last != b'\n');
            trouble.fail(self.name, sink, &error, lost);
        } else {
            trouble.succeed(self.name, sink);
        }
        self.queue.lock().under_way = 0;
        self.emptied.notify_all();
    }
}

/// Ends a line of which only the beginning was written: the next one is not to be glued to it.
fn end_line(sink: &mut Sink) -> io::Result<()> {
    loop {
        match sink.write(b"\n") {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(error) => return Err(error),
        }
    }
}
