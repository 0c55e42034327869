//! A file that is open while its content is sent, and the number of them.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use edgerouter_core::files::FileFacts;
use edgerouter_threads::ThreadPool;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::{FileTrouble, confine::Patience, resident};

/// Files that are open now, and how many may be.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    count: AtomicUsize,
    most: AtomicUsize,
}

impl OpenFiles {
    pub(crate) fn bound(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>) -> Option<Permit> {
        let most = self.most.load(Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        // The permit that is dropped here counts back.
        (self.count.fetch_add(1, Ordering::AcqRel) < most).then_some(permit)
    }
}

/// Counts a file as open.
#[derive(Debug)]
struct Permit(Arc<OpenFiles>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A file that is open for reading. A thread closes it when this is dropped, unless that is quick: closing a
/// removed file waits until its content is freed.
#[derive(Debug)]
pub struct OpenFile {
    file: Option<File>,
    facts: FileFacts,
    /// It is on a file system of this machine.
    is_local: bool,
    threads: Arc<ThreadPool>,
    _permit: Permit,
}

/// A file of up to this length is freed at once.
const QUICKLY_FREED: u64 = 1 << 20;

impl Drop for OpenFile {
    fn drop(&mut self) {
        let is_quick = self.is_local && self.facts.length <= QUICKLY_FREED;
        if let Some(file) = self.file.take().filter(|_| !is_quick) {
            self.threads.drop_aside(file);
        }
    }
}

/// The facts about a regular file; `None` for anything else: reading it might wait, or act on a device.
pub(crate) fn facts(file: &File) -> Result<Option<FileFacts>, FileTrouble> {
    let metadata = file.metadata().map_err(|_| FileTrouble::Unreadable)?;
    let time = |seconds: i64, nanos: i64| {
        (
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanos).unwrap_or(0),
        )
    };
    Ok(metadata.is_file().then(|| FileFacts {
        length: metadata.len(),
        modified: time(metadata.mtime(), metadata.mtime_nsec()),
        changed: time(metadata.ctime(), metadata.ctime_nsec()),
    }))
}

/// Reads `length` bytes at `offset`; all of them, or it is not the file any more that was opened.
pub(crate) fn read_at(file: &File, offset: u64, length: usize) -> Result<Bytes, FileTrouble> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => return Err(FileTrouble::Changed),
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(FileTrouble::Unreadable),
        }
    }
    Ok(Bytes::from(bytes))
}

/// Reads `length` bytes at `offset` out of memory; `None` if the disk has some of them.
pub(crate) fn read_at_hand(
    file: &File,
    offset: u64,
    length: usize,
) -> Result<Option<Bytes>, FileTrouble> {
    let mut bytes = vec![0; length];
    let mut into = [IoSliceMut::new(&mut bytes)];
    match preadv2(file, &mut into, offset, ReadWriteFlags::NOWAIT) {
        Ok(read) if read == length => Ok(Some(Bytes::from(bytes))),
        // Less: the rest is on disk, or the file is shorter now, which a thread finds out.
        Ok(_) => Ok(None),
        Err(Errno::IO) => Err(FileTrouble::Unreadable),
        // tmpfs does not know the flag, and has all that is not swapped out.
        Err(Errno::OPNOTSUPP) if resident::is_resident(file, offset, length as u64) => {
            read_at(file, offset, length).map(Some)
        }
        // The kernel may not know it either.
        Err(_) => Ok(None),
    }
}

impl OpenFile {
    /// `Err` if as many are open as may.
    pub(crate) fn new(
        file: File,
        facts: FileFacts,
        patience: Patience,
        open: &Arc<OpenFiles>,
        threads: &Arc<ThreadPool>,
    ) -> Result<Self, FileTrouble> {
        let permit = open.enter().ok_or(FileTrouble::Descriptors)?;
        Ok(Self {
            file: Some(file),
            facts,
            is_local: patience == Patience::AtHand,
            threads: Arc::clone(threads),
            _permit: permit,
        })
    }

    /// A part of the file, as long as the file is the one that was opened: two versions are not sent as one.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Bytes, FileTrouble> {
        let file = self.file.as_ref().ok_or(FileTrouble::Unreadable)?;
        let bytes = read_at(file, offset, length)?;
        self.unchanged()?;
        Ok(bytes)
    }

    /// As `read`, if the kernel has the bytes in memory.
    pub(crate) fn read_at_hand(
        &self,
        offset: u64,
        length: usize,
    ) -> Result<Option<Bytes>, FileTrouble> {
        let Some(file) = self.file.as_ref().filter(|_| self.is_local) else {
            return Ok(None);
        };
        let bytes = read_at_hand(file, offset, length)?;
        self.unchanged()?;
        Ok(bytes)
    }

    /// The file, if the kernel has these bytes of it in memory: sending them waits for nothing.
    pub(crate) fn in_memory(&self, offset: u64, length: u64) -> Option<BorrowedFd<'_>> {
        let file = self.file.as_ref().filter(|_| self.is_local)?;
        resident::is_resident(file, offset, length).then(|| file.as_fd())
    }

    /// `Err` if it is not the file any more that was opened.
    pub(crate) fn unchanged(&self) -> Result<(), FileTrouble> {
        let file = self.file.as_ref().ok_or(FileTrouble::Unreadable)?;
        // The inode also changes when a name of the file is removed, which leaves its content.
        let is_same = facts(file)?.is_some_and(|now| {
            (now.length, now.modified) == (self.facts.length, self.facts.modified)
        });
        is_same.then_some(()).ok_or(FileTrouble::Changed)
    }
}

impl From<FileTrouble> for io::Error {
    fn from(trouble: FileTrouble) -> Self {
        Self::other(trouble)
    }
}
