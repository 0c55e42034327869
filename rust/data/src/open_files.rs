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
pub(crate) type FileId = (u64, u64);

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
        let id = id_at(path)?;
        *OPEN.lock().get_or_insert_default().entry(id).or_default() += 1;
        Some(Self(id))
    }

    pub(crate) fn id(&self) -> FileId {
        self.0
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

/// The file at a path.
pub(crate) fn id_at(path: &Path) -> Option<FileId> {
    metadata(path).ok().as_ref().map(id)
}

/// True if a connection of this process has a file open.
pub(crate) fn is_held(file: Option<FileId>) -> bool {
    file.is_some_and(|(device, inode)| is_open(device, inode))
}
