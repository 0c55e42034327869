//! The file of the counts: read once, replaced whole, so that a crash never leaves half of one.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use edgerouter_core::experiment::{
    kept::{self, Unreadable},
    tally::{Tally, VisitorKey},
};
use edgerouter_telemetry::regular;

/// Bytes of the largest file.
const MOST_BYTES: u64 = 64 << 20;

/// Why a file cannot keep the counts; one line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CountsError {
    /// It cannot be read or written.
    #[error("experiments_file: {}: {error}; give a file in a folder that this user can write", path.display())]
    Unusable {
        /// As it was given.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// Another process writes it.
    #[error("experiments_file: {}: another edge uses it; give each edge a file of its own", .0.display())]
    Locked(PathBuf),
    /// It is something else.
    #[error("experiments_file: {}: these are no counts of experiments: {why}; move it away, or give another file", path.display())]
    Unreadable {
        /// As it was given.
        path: PathBuf,
        /// The fault.
        why: Unreadable,
    },
}

/// The file, and the lock that keeps others from it.
#[derive(Debug)]
pub(super) struct CountsFile {
    path: PathBuf,
    _lock: File,
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

impl CountsFile {
    /// Locks and reads it, or begins one. The key in it makes it a secret: only its owner may read it.
    pub(super) fn open(
        path: &Path,
        fresh: VisitorKey,
    ) -> Result<(Self, Tally, VisitorKey), CountsError> {
        let unusable = |error| CountsError::Unusable {
            path: path.to_owned(),
            error,
        };
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(0o600);
        let lock = options.open(beside(path, ".lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CountsError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let file = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        let bytes = match regular::read(path, MOST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let begun = Tally::default();
                file.write(&kept::to_bytes(&begun, fresh))
                    .map_err(unusable)?;
                return Ok((file, begun, fresh));
            }
            Err(error) => return Err(unusable(error)),
            Ok(bytes) => bytes,
        };
        let (tally, key) = kept::from_bytes(&bytes).map_err(|why| CountsError::Unreadable {
            path: path.to_owned(),
            why,
        })?;
        Ok((file, tally, key))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces it.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let fresh = beside(&self.path, ".new");
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let mut file = options.open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }
}
