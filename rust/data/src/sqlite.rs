//! A SQLite file: its connections, and the threads that use them, one for writes and several for reads.
//!
//! Writes in one file are made one after another, so one thread makes them all and none waits for another's lock.
//! Readers see the last commit meanwhile (WAL). The lock of another process is waited for until the operation's time is
//! over.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_core::plan::limits::DataLimits;
use edgerouter_threads::ThreadPool;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::{
    STATEMENTS,
    answer::{Answer, DataResult},
    error::{Constraint, DataError},
    open_files::{FileAndLog, HeldFile},
};

/// Virtual instructions of SQLite between two looks at the deadline.
const INSTRUCTIONS: i32 = 4_000;
/// Pauses between two attempts to begin a write-ahead log.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// Time for operations on a file to end whose place another one has taken.
const MOMENT: Duration = Duration::from_millis(200);

/// The time at which a commit is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// After the next checkpoint: power failure may undo the last commits, a crash of the process does not.
    Normal,
    /// When it is acknowledged.
    Full,
}

impl Durability {
    fn synchronous(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Full => "FULL",
        }
    }
}

/// Has a file keep a write-ahead log, and gives the mode that it is in then.
///
/// SQLite refuses the lock for the change at once, whatever time a connection would wait for others (it holds a lock
/// itself, and two that wait for each other would never end). The other one may be another binding in the same new
/// file, so the change is tried again.
fn write_ahead(connection: &Connection, patience: Duration) -> rusqlite::Result<String> {
    let until = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        let journal = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match journal {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() + pause < until =>
            {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LAST_PAUSE);
            }
            ended => return ended,
        }
    }
}

/// Sets up a connection; true: the first one that the file has.
type Setup = fn(&Connection, bool) -> rusqlite::Result<()>;

/// The kind of work that a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A connection, and the end of the time of its current work.
struct HeldConnection {
    connection: Connection,
    since: Instant,
    /// Microseconds after `since`.
    until: Arc<AtomicU64>,
    _file: Option<HeldFile>,
}

impl std::fmt::Debug for HeldConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldConnection").finish_non_exhaustive()
    }
}

/// A SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteFile {
    path: PathBuf,
    log: PathBuf,
    index: PathBuf,
    /// The files that connections were opened to; `None` before the first one.
    known: Mutex<Option<FileAndLog>>,
    durability: Durability,
    /// Makes what the binding needs, and sets a connection up.
    setup: Setup,
    prepared: AtomicBool,
    readers: Arc<ThreadPool>,
    writer: Arc<ThreadPool>,
    idle: [Mutex<Vec<HeldConnection>>; 2],
    patience: Duration,
    closed: AtomicBool,
}

impl SqliteFile {
    pub(crate) fn new(
        path: &str,
        durability: Durability,
        setup: Setup,
        limits: &DataLimits,
    ) -> Arc<Self> {
        let readers = ThreadPool::new("edge-data-read");
        readers.bound(limits.connections, limits.operations);
        let writer = ThreadPool::new("edge-data-write");
        writer.bound(1, limits.operations);
        Arc::new(Self {
            path: path.into(),
            log: format!("{path}-wal").into(),
            index: format!("{path}-shm").into(),
            known: Mutex::default(),
            durability,
            setup,
            prepared: AtomicBool::new(false),
            readers,
            writer,
            idle: Default::default(),
            patience: limits.timeout,
            closed: AtomicBool::new(false),
        })
    }

    /// Has a thread do work on a connection, and sends its result.
    pub(crate) fn begin(
        self: &Arc<Self>,
        access: Access,
        answer: Answer,
        work: impl FnOnce(&mut Connection) -> DataResult + Send + 'static,
    ) {
        let pool = match access {
            Access::Read => &self.readers,
            Access::Write => &self.writer,
        };
        if !pool.has_room() {
            let error = "too many operations wait for the file; it is locked, or the disk is slow";
            answer.send(Err(DataError::NotBegun(error.to_owned())));
            return;
        }
        let file = Arc::clone(self);
        // Refused only if no thread can be started, or at the end: the answer says that the binding is closed.
        let _ = pool.enqueue(move || {
            if !answer.is_over() {
                let deadline = answer.deadline();
                answer.send(file.run(access, deadline, work));
            }
        });
    }

    fn idle(&self, access: Access) -> &Mutex<Vec<HeldConnection>> {
        let [reading, writing] = &self.idle;
        match access {
            Access::Read => reading,
            Access::Write => writing,
        }
    }

    fn run(
        &self,
        access: Access,
        deadline: Instant,
        work: impl FnOnce(&mut Connection) -> DataResult,
    ) -> DataResult {
        if self.closed.load(Ordering::Acquire) {
            return Err(DataError::Closed);
        }
        self.look(deadline)?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let idle = self.idle(access).lock().pop();
        let mut held = match idle {
            Some(held) => held,
            None => self
                .open(access, patience)
                .map_err(DataError::before_it_began)?,
        };
        let until = held.since.elapsed() + patience;
        let until = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
        held.until.store(until, Ordering::Relaxed);
        let timed = held.connection.busy_timeout(for_locks(patience));
        let result = timed
            .map_err(|error| self.failure(&error))
            .and_then(|()| work(&mut held.connection));
        self.note_log();
        let broken =
            !held.connection.is_autocommit() || result.as_ref().is_err_and(DataError::is_outage);
        if !broken && !self.closed.load(Ordering::Acquire) {
            self.idle(access).lock().push(held);
        }
        result
    }

    /// Refuses work if another file has taken the place of the one that is open, and connections that could write the
    /// log of one into the other do not end in a moment.
    fn look(&self, deadline: Instant) -> Result<(), DataError> {
        let until = deadline.min(Instant::now() + MOMENT);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.adopt() {
                Ok(false) if Instant::now() + pause < until => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                Ok(false) => {
                    let path = self.path.display();
                    return Err(DataError::NotBegun(format!(
                        "{path}: the file or its log (-wal) was replaced or removed while it was open; retry when the \
                         operations on the one before have ended"
                    )));
                }
                adopted => return adopted.map(|_| ()),
            }
        }
    }

    /// Takes to the file that is at the path now; false while connections to the one before are open.
    fn adopt(&self) -> Result<bool, DataError> {
        let now = FileAndLog::at(&self.path, &self.log);
        let refused = |why: &str| {
            let path = self.path.display();
            Err(DataError::NotBegun(format!("{path}: {why}")))
        };
        let mut known = self.known.lock();
        let Some(before) = *known else {
            return if now.is_regular {
                Ok(true)
            } else {
                refused("is no regular file; name another one")
            };
        };
        if before.are_still(&now) {
            return Ok(true);
        }
        let idle = self.take_idle();
        if let Some(held) = idle.first() {
            // SQLite leaves the log of a file that was moved as it is when the last connection is closed.
            let _ = emptied(&held.connection);
        }
        drop(idle);
        if before.is_held() {
            return Ok(false);
        }
        let now = FileAndLog::at(&self.path, &self.log);
        if now.file.is_none() {
            return refused(
                "was removed while it was open; put it back, or start the edge again to begin an empty one",
            );
        }
        if now.file != before.file && now.log.is_some() && now.log == before.log {
            if std::fs::metadata(&self.log).is_ok_and(|log| log.len() > 0) {
                return refused(
                    "another file has taken its place, and the log (-wal) beside it is still that of the one before, \
                     which would destroy it; end the programs that have it open, and remove the log",
                );
            }
            // Programs that have the file before open keep its log, without a name.
            let _ = std::fs::remove_file(&self.log);
            let _ = std::fs::remove_file(&self.index);
        }
        *known = None;
        self.prepared.store(false, Ordering::Release);
        let file = self.path.display();
        tracing::warn!(%file, "a SQLite file or its log was replaced while it was open; the one that is there is used");
        Ok(true)
    }

    /// Notes which log the file has: the first operation on a new file makes it.
    fn note_log(&self) {
        if let Some(known) = self.known.lock().as_mut().filter(|it| it.log.is_none()) {
            known.log = FileAndLog::at(&self.path, &self.log).log;
        }
    }

    fn open(&self, access: Access, patience: Duration) -> Result<HeldConnection, DataError> {
        let failed = |error: rusqlite::Error| self.failure(&error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
        let file = HeldFile::of(&self.path);
        let patience = for_locks(patience);
        connection.busy_timeout(patience).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let journal = write_ahead(&connection, patience).map_err(failed)?;
        if !journal.eq_ignore_ascii_case("wal") {
            return Err(DataError::Unreachable(format!(
                "{}: the file system does not allow a write-ahead log; use a local disk",
                self.path.display()
            )));
        }
        let durable = self.durability.synchronous();
        connection
            .pragma_update(None, "synchronous", durable)
            .map_err(failed)?;
        let first = !self.prepared.load(Ordering::Acquire);
        (self.setup)(&connection, first).map_err(failed)?;
        self.prepared.store(true, Ordering::Release);
        let opened = FileAndLog::at(&self.path, &self.log);
        self.known.lock().get_or_insert(opened);
        if access == Access::Read {
            connection
                .pragma_update(None, "query_only", true)
                .map_err(failed)?;
        }
        let (since, until) = (Instant::now(), Arc::new(AtomicU64::new(u64::MAX)));
        let over = {
            let until = Arc::clone(&until);
            move || since.elapsed().as_micros() > u128::from(until.load(Ordering::Relaxed))
        };
        let mut held = HeldConnection {
            connection,
            since,
            until,
            _file: file,
        };
        held.connection
            .progress_handler(INSTRUCTIONS, Some(over))
            .map_err(failed)?;
        Ok(held)
    }

    /// A failure of SQLite, for the program that called.
    pub(crate) fn failure(&self, error: &rusqlite::Error) -> DataError {
        let Some(code) = error.sqlite_error_code() else {
            return DataError::Refused(said(error));
        };
        if code == ErrorCode::ConstraintViolation
            && let Some(constraint) = violated(error)
        {
            return DataError::Violated {
                constraint,
                message: error.to_string(),
            };
        }
        let path = self.path.display();
        match code {
            ErrorCode::OperationInterrupted => DataError::TimedOut(self.patience),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                DataError::NotBegun(format!("{path}: another process keeps it locked"))
            }
            ErrorCode::CannotOpen => DataError::NotBegun(format!(
                "{path}: cannot be opened; its folder must exist, and this user must be allowed to write in it"
            )),
            // These undo what a statement has done.
            ErrorCode::NotADatabase
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::DiskFull => DataError::NotBegun(format!("{path}: {}", said(error))),
            ErrorCode::DatabaseCorrupt
            | ErrorCode::SystemIoFailure
            | ErrorCode::FileLockingProtocolFailed => {
                DataError::Unreachable(format!("{path}: {}", said(error)))
            }
            _ => DataError::Refused(said(error)),
        }
    }

    /// Ends the threads and closes the file. Work that waits fails.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.readers.end();
        self.writer.end();
        drop(self.take_idle());
    }

    fn take_idle(&self) -> Vec<HeldConnection> {
        let mut all = Vec::new();
        for idle in &self.idle {
            all.append(&mut idle.lock());
        }
        all
    }
}

/// Writes the log of a connection's file into it, and leaves it empty, unless somebody else is reading.
fn emptied(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::ZERO)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// The part of an operation's time in which it may wait for locks of others: its end is known before that of its time.
/// SQLite adds up pauses, and a busy machine makes each of them longer.
fn for_locks(patience: Duration) -> Duration {
    patience - patience / 5
}

/// The words of SQLite for a failure, without the statement, which may be long and hold values.
fn said(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

fn violated(error: &rusqlite::Error) -> Option<Constraint> {
    match error.sqlite_error()?.extended_code {
        ffi::SQLITE_CONSTRAINT_UNIQUE
        | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
        | ffi::SQLITE_CONSTRAINT_ROWID => Some(Constraint::Unique),
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Some(Constraint::ForeignKey),
        ffi::SQLITE_CONSTRAINT_NOTNULL => Some(Constraint::NotNull),
        ffi::SQLITE_CONSTRAINT_CHECK => Some(Constraint::Check),
        _ => None,
    }
}

impl Drop for SqliteFile {
    fn drop(&mut self) {
        self.readers.end();
        self.writer.end();
        let connections = self.take_idle();
        if !connections.is_empty() {
            // Closing the last one writes its log back into the file, and this may be a thread that must not wait.
            let _ = std::thread::Builder::new()
                .name("edge-data-close".to_owned())
                .spawn(move || drop(connections));
        }
    }
}
