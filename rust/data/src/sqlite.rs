//! A SQLite file: its connections, and the threads that use them, one for writes and several for reads.
//!
//! Writes in one file are made one after another, so one thread makes them all and none waits for another's lock.
//! Readers see the last commit meanwhile (WAL). The lock of another process is waited for until the operation's time is
//! over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_core::plan::limits::DataLimits;
use edgerouter_threads::ThreadPool;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

pub(crate) use crate::place::Access;
use crate::{
    STATEMENTS,
    answer::{Answer, DataResult},
    error::{Constraint, DataError},
    place::{FIRST_PAUSE, HeldConnection, Idle, LAST_PAUSE, Place},
};

/// Virtual instructions of SQLite between two looks at the deadline.
const INSTRUCTIONS: i32 = 4_000;

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

/// A SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteFile {
    place: Arc<Place>,
    durability: Durability,
    /// Makes what the binding needs, and sets a connection up.
    setup: Setup,
    /// The number of the file that was set up last.
    prepared: AtomicU64,
    readers: Arc<ThreadPool>,
    writer: Arc<ThreadPool>,
    idle: Arc<Idle>,
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
        let idle = Arc::default();
        Arc::new(Self {
            place: Place::of(path, &idle),
            durability,
            setup,
            prepared: AtomicU64::new(0),
            readers,
            writer,
            idle,
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

    fn run(
        &self,
        access: Access,
        deadline: Instant,
        work: impl FnOnce(&mut Connection) -> DataResult,
    ) -> DataResult {
        if self.closed.load(Ordering::Acquire) {
            return Err(DataError::Closed);
        }
        let mut held = self.connection(access, deadline)?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let until = held.since.elapsed() + patience;
        let until = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
        held.until.store(until, Ordering::Relaxed);
        let timed = held.connection.busy_timeout(for_locks(patience));
        let result = timed
            .map_err(|error| self.failure(&error))
            .and_then(|()| work(&mut held.connection));
        self.place.note_log();
        let broken =
            !held.connection.is_autocommit() || result.as_ref().is_err_and(DataError::is_outage);
        let kept = !broken && self.place.has(&held) && !self.closed.load(Ordering::Acquire);
        if kept {
            self.idle.of(access).lock().push(held);
        } else {
            self.place.leave(vec![held]);
        }
        result
    }

    /// A connection to the file that is at the path now.
    fn connection(&self, access: Access, deadline: Instant) -> Result<HeldConnection, DataError> {
        let left = || deadline.saturating_duration_since(Instant::now());
        let until = Instant::now() + for_locks(left());
        loop {
            self.place.look(until)?;
            let idle = self.idle.of(access).lock().pop();
            if let Some(held) = idle.filter(|held| self.place.has(held)) {
                return Ok(held);
            }
            let opened = self.open(access, left());
            if let Some(held) = opened.map_err(DataError::before_it_began)? {
                return Ok(held);
            }
        }
    }

    /// `None`: another file has taken the place of the one that is open.
    fn open(
        &self,
        access: Access,
        patience: Duration,
    ) -> Result<Option<HeldConnection>, DataError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = self
            .place
            .open(|path| Connection::open_with_flags(path, flags));
        let Some(mut held) = opened.map_err(|error| self.failure(&error))? else {
            return Ok(None);
        };
        match self.set_up(&mut held, access, patience) {
            Ok(()) => Ok(Some(held)),
            Err(error) => {
                self.place.leave(vec![held]);
                Err(error)
            }
        }
    }

    fn set_up(
        &self,
        held: &mut HeldConnection,
        access: Access,
        patience: Duration,
    ) -> Result<(), DataError> {
        let failed = |error: rusqlite::Error| self.failure(&error);
        let connection = &mut held.connection;
        let patience = for_locks(patience);
        connection.busy_timeout(patience).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let journal = write_ahead(connection, patience).map_err(failed)?;
        if !journal.eq_ignore_ascii_case("wal") {
            return Err(DataError::Unreachable(format!(
                "{}: the file system does not allow a write-ahead log; use a local disk",
                self.place.path().display()
            )));
        }
        let durable = self.durability.synchronous();
        connection
            .pragma_update(None, "synchronous", durable)
            .map_err(failed)?;
        let number = self.place.number();
        let first = self.prepared.load(Ordering::Acquire) != number;
        (self.setup)(connection, first).map_err(failed)?;
        self.prepared.store(number, Ordering::Release);
        self.place.note_log();
        if access == Access::Read {
            connection
                .pragma_update(None, "query_only", true)
                .map_err(failed)?;
        }
        let (since, until) = (held.since, Arc::clone(&held.until));
        let over = move || since.elapsed().as_micros() > u128::from(until.load(Ordering::Relaxed));
        connection
            .progress_handler(INSTRUCTIONS, Some(over))
            .map_err(failed)
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
        let path = self.place.path().display();
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
        self.place.leave(self.idle.take());
    }
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
        let connections = self.idle.take();
        if !connections.is_empty() {
            // Closing the last one writes its log back into the file, and this may be a thread that must not wait.
            let _ = std::thread::Builder::new()
                .name("edge-data-close".to_owned())
                .spawn({
                    let place = Arc::clone(&self.place);
                    move || place.leave(connections)
                });
        }
    }
}
