//! The place of a SQLite file: its path, the file that was opened there, and the connections of this process that do
//! nothing.
//!
//! Bindings of one path share a place, also those of two plans. The one that notices another file at the path closes
//! the idle connections of all, so nobody has to wait for the next operation of each.

use std::{
    collections::BTreeMap,
    fs::metadata,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::{
    error::DataError,
    open_files::{FileId, HeldFile, id_at, is_held},
};

/// Pauses between two attempts at something that another connection keeps busy.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(1);
pub(crate) const LAST_PAUSE: Duration = Duration::from_millis(50);

/// The places that bindings of this process have. Those without one are left out when the next is made.
static PLACES: Mutex<BTreeMap<PathBuf, Weak<Place>>> = Mutex::new(BTreeMap::new());

/// The kind of work that a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A connection, and the end of the time of its current work.
pub(crate) struct HeldConnection {
    pub(crate) connection: Connection,
    pub(crate) since: Instant,
    /// Microseconds after `since`.
    pub(crate) until: Arc<AtomicU64>,
    /// Of the file that was open in its place then.
    number: u64,
    /// Dropped after the connection.
    file: Option<HeldFile>,
}

impl std::fmt::Debug for HeldConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldConnection").finish_non_exhaustive()
    }
}

/// The connections of a binding that do nothing.
#[derive(Debug, Default)]
pub(crate) struct Idle([Mutex<Vec<HeldConnection>>; 2]);

impl Idle {
    pub(crate) fn of(&self, access: Access) -> &Mutex<Vec<HeldConnection>> {
        let [reading, writing] = &self.0;
        match access {
            Access::Read => reading,
            Access::Write => writing,
        }
    }

    pub(crate) fn take(&self) -> Vec<HeldConnection> {
        let mut all = Vec::new();
        for idle in &self.0 {
            all.append(&mut idle.lock());
        }
        all
    }
}

/// The file that connections were opened to.
#[derive(Debug)]
struct Opened {
    file: Option<FileId>,
    /// The path without links: SQLite has the log beside it.
    target: PathBuf,
    log: PathBuf,
    /// Set once a connection was set up, which makes the log.
    log_id: OnceLock<FileId>,
}

impl Opened {
    fn new(path: &Path, file: Option<FileId>) -> Self {
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self {
            file,
            log: beside(&target, "-wal"),
            log_id: OnceLock::new(),
            target,
        }
    }

    /// True if connections to the file may go on with what is at the path now.
    fn is_still_at(&self, path: &Path) -> bool {
        let log = self.log_id.get();
        id_at(path) == self.file && log.is_none_or(|log| id_at(&self.log) == Some(*log))
    }

    /// True if this one is still where it was, and the path leads to another one by a link.
    fn was_passed_by(&self, path: &Path) -> bool {
        id_at(path) != self.file && id_at(&self.target) == self.file
    }

    /// True if another file is where this one was, and the log of this one is still beside it. A log of the same number
    /// that this process has made for the new file is not: numbers of removed files are used again.
    fn has_left_its_log(&self) -> bool {
        let there = id_at(&self.target);
        let log = self.log_id.get();
        there.is_some()
            && there != self.file
            && !is_held(there)
            && log.is_some_and(|log| id_at(&self.log) == Some(*log))
    }
}

/// A file of SQLite that has its name from the one that it belongs to.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A path at which bindings of this process have a SQLite file.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// `None` before the first connection.
    opened: Mutex<Option<Arc<Opened>>>,
    /// The number of the file that is open: each one is set up once by each binding.
    number: AtomicU64,
    users: Mutex<Vec<Weak<Idle>>>,
}

impl Place {
    /// The place of a path, for a binding with these idle connections.
    pub(crate) fn of(path: &str, user: &Arc<Idle>) -> Arc<Self> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let mut places = PLACES.lock();
        places.retain(|_, place| place.strong_count() > 0);
        let place = places.get(&path).and_then(Weak::upgrade);
        let place = place.unwrap_or_else(|| {
            let made = Arc::new(Self {
                path: path.clone(),
                opened: Mutex::default(),
                number: AtomicU64::new(1),
                users: Mutex::default(),
            });
            places.insert(path, Arc::downgrade(&made));
            made
        });
        let mut users = place.users.lock();
        users.retain(|user| user.strong_count() > 0);
        users.push(Arc::downgrade(user));
        drop(users);
        place
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the file that is open, from 1 on.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// True if a connection is to the file that is open now.
    pub(crate) fn has(&self, held: &HeldConnection) -> bool {
        held.number == self.number()
    }

    /// Refuses work if another file has taken the place of the one that is open, and operations on that one, which
    /// could write its log into the other, have not ended at `until`.
    pub(crate) fn look(&self, until: Instant) -> Result<(), DataError> {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.follow()? {
                return Ok(());
            }
            if Instant::now() + pause >= until {
                let path = self.path.display();
                return Err(DataError::NotBegun(format!(
                    "{path}: the file or its log (-wal) was replaced or removed while it was open; retry when the \
                     operations on the one before have ended"
                )));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Takes to the file that is at the path now; false while connections to the one before are open.
    fn follow(&self) -> Result<bool, DataError> {
        let before = self.opened.lock().clone();
        if before.is_some_and(|before| before.is_still_at(&self.path)) {
            return Ok(true);
        }
        let mut opened = self.opened.lock();
        let Some(before) = opened.as_deref() else {
            let about = metadata(&self.path);
            return if about.is_ok_and(|about| !about.is_file()) {
                Err(self.refused("is no regular file; name another one"))
            } else {
                Ok(true)
            };
        };
        if before.is_still_at(&self.path) {
            return Ok(true);
        }
        let users = self.users.lock().clone();
        let users = users.iter().filter_map(Weak::upgrade);
        let idle = users.flat_map(|idle| idle.take()).collect::<Vec<_>>();
        close(idle);
        if is_held(before.file) && !before.was_passed_by(&self.path) {
            return Ok(false);
        }
        if before.log_id.get().is_some() && id_at(&self.path).is_none() {
            return Err(self.refused(
                "was removed while it was open; put it back, or start the edge again to begin an empty one",
            ));
        }
        if before.has_left_its_log() {
            if metadata(&before.log).is_ok_and(|log| log.len() > 0) {
                return Err(self.refused(
                    "another file has taken its place, and the log (-wal) beside it is still that of the one before, \
                     which would destroy it; end the programs that have it open, and remove the log",
                ));
            }
            // Programs that have the file before open keep its log, without a name.
            let _ = std::fs::remove_file(&before.log);
            let _ = std::fs::remove_file(beside(&before.target, "-shm"));
        }
        self.forget(&mut opened);
        let file = self.path.display();
        tracing::warn!(%file, "a SQLite file or its log was replaced while it was open; the one that is there is used");
        Ok(true)
    }

    fn forget(&self, opened: &mut Option<Arc<Opened>>) {
        *opened = None;
        self.number.fetch_add(1, Ordering::AcqRel);
    }

    fn refused(&self, why: &str) -> DataError {
        DataError::NotBegun(format!("{}: {why}", self.path.display()))
    }

    /// Opens a connection. `None`: another file has taken the place of the one that is open, and nothing was read.
    pub(crate) fn open(
        &self,
        open: impl FnOnce(&Path) -> rusqlite::Result<Connection>,
    ) -> rusqlite::Result<Option<HeldConnection>> {
        let before = id_at(&self.path);
        let mut held = HeldConnection {
            number: 0,
            connection: open(&self.path)?,
            since: Instant::now(),
            until: Arc::new(AtomicU64::new(u64::MAX)),
            file: HeldFile::of(&self.path),
        };
        // SQLite opens the log by its name when it reads the file for the first time. From here on the name is that of
        // this file's log, as nobody of this process takes a log away from a file that is held.
        let there = held.file.as_ref().map(HeldFile::id);
        if before.is_some() && before != there {
            return Ok(None);
        }
        let mut opened = self.opened.lock();
        let opened = opened.get_or_insert_with(|| Arc::new(Opened::new(&self.path, there)));
        held.number = self.number();
        Ok((opened.file == there).then_some(held))
    }

    /// Notes which log the file has: the first operation on a new file makes it.
    pub(crate) fn note_log(&self) {
        let opened = self.opened.lock().clone();
        if let Some(opened) = opened.filter(|it| it.log_id.get().is_none())
            && let Some(log) = id_at(&opened.log)
        {
            let _ = opened.log_id.set(log);
        }
    }

    /// Closes connections for good. The next program that opens a file which has taken the place of theirs would find
    /// their log beside it, so it is emptied.
    pub(crate) fn leave(&self, connections: Vec<HeldConnection>) {
        let Some(opened) = self.opened.lock().clone() else {
            return;
        };
        if opened.is_still_at(&self.path) {
            drop(connections);
            let mut now = self.opened.lock();
            // SQLite has removed the log with the last connection.
            if now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &opened)) && !is_held(opened.file) {
                self.forget(&mut now);
            }
            return;
        }
        close(connections);
        if opened.has_left_its_log() && metadata(&opened.log).is_ok_and(|log| log.len() > 0) {
            let (file, log) = (self.path.display(), opened.log.display());
            tracing::error!(
                %file, %log,
                "another file has taken the place of a SQLite file, and the log (-wal) is still that of the one \
                 before, which would destroy it; end the programs that have it open, and remove the log before the \
                 next start"
            );
        }
    }
}

/// Closes connections to a file that was moved or has lost its log. SQLite leaves the log of such a file as it is when
/// the last connection is closed, so it is written into the file before, and emptied unless somebody else is reading.
fn close(connections: Vec<HeldConnection>) {
    if let Some(HeldConnection { connection, .. }) = connections.first() {
        if !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
        let _ = connection.busy_timeout(Duration::ZERO);
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
}
