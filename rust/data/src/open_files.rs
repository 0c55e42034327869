//! The SQLite files that this process has open, and the files that are at a path now.
//!
//! SQLite finds the write-ahead log by its name. A connection that is opened when another file has taken the place of
//! the one before finds the log of that one, and writes it into the new file.

use std::{
    collections::HashMap,
    fs::{Metadata, metadata},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use parking_lot::Mutex;

/// Device and inode.
type FileId = (u64, u64);

/// Files that this process has open, with the number of their holders.
static OPEN: Mutex<Option<HashMap<FileId, usize>>> = Mutex::new(None);

/// True if this process has a file open as a binding. Another copy of SQLite in this process must not open it: it would
/// drop the locks of this one, as POSIX locks belong to the process.
pub fn is_open(device: u64, inode: u64) -> bool {
    let open = OPEN.lock();
    open.as_ref()
        .is_some_and(|open| open.contains_key(&(device, inode)))
}

fn id(about: &Metadata) -> FileId {
    (about.dev(), about.ino())
}

/// Keeps a file in [`OPEN`].
#[derive(Debug)]
pub(crate) struct HeldFile(FileId);

impl HeldFile {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let id = id(&metadata(path).ok()?);
        *OPEN.lock().get_or_insert_default().entry(id).or_default() += 1;
        Some(Self(id))
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        let mut open = OPEN.lock();
        let Some(open) = open.as_mut() else { return };
        if let Some(holders) = open.get_mut(&self.0) {
            *holders -= 1;
            if *holders == 0 {
                open.remove(&self.0);
            }
        }
    }
}

/// The file at a path, and the write-ahead log beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileAndLog {
    pub(crate) file: Option<FileId>,
    pub(crate) log: Option<FileId>,
    /// False for a folder, a pipe, a socket or a device.
    pub(crate) is_regular: bool,
}

impl FileAndLog {
    pub(crate) fn at(path: &Path, log: &Path) -> Self {
        let about = metadata(path).ok();
        Self {
            file: about.as_ref().map(id),
            log: metadata(log).ok().as_ref().map(id),
            is_regular: about.is_none_or(|about| about.is_file()),
        }
    }

    /// True if connections to these files may go on with those that are there now. The log is there while any
    /// connection is open; a file without one has had none yet.
    pub(crate) fn are_still(&self, now: &Self) -> bool {
        self.file == now.file && (self.log.is_none() || self.log == now.log)
    }

    /// True if a connection of this process has the file open.
    pub(crate) fn is_held(&self) -> bool {
        self.file
            .is_some_and(|(device, inode)| is_open(device, inode))
    }
}
