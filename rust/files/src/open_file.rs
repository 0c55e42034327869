//! A file that is open while its content is sent, and the number of them.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::FileExt,
    },
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use edgerouter_core::files::FileFacts;
use edgerouter_threads::ThreadPool;
use rustix::{
    fs::{FileType, Stat, fstat, stat},
    io::{Errno, ReadWriteFlags, preadv2},
};

use super::{FileTrouble, confine::Patience, resident};

/// Files that are open now, and how many may be.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    count: AtomicUsize,
    most: AtomicUsize,
    most_kept: AtomicUsize,
}

impl OpenFiles {
    /// `most_kept`: by one worker, for requests that may come.
    pub(crate) fn bound(&self, most: usize, most_kept: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.most_kept.store(most_kept, Ordering::Relaxed);
    }

    pub(crate) fn most_kept(&self) -> usize {
        self.most_kept.load(Ordering::Relaxed)
    }

    /// Files may be kept open: half of those that may be open are left for requests that are there.
    pub(crate) fn has_spare(&self) -> bool {
        self.count() < self.most.load(Ordering::Relaxed) / 2
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
pub(crate) struct Permit(Arc<OpenFiles>);

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
    seen: Seen,
    /// It is on a file system of this machine.
    is_local: bool,
    /// Its file system does not know `RWF_NOWAIT`.
    asks_first: AtomicBool,
    threads: Arc<ThreadPool>,
    /// None before it is counted.
    permit: OnceLock<Permit>,
}

/// A file of up to this length is freed at once.
const QUICKLY_FREED: u64 = 1 << 20;

impl Drop for OpenFile {
    fn drop(&mut self) {
        let is_quick = self.is_local && self.facts().length <= QUICKLY_FREED;
        if let Some(file) = self.file.take().filter(|_| !is_quick) {
            self.threads.drop_aside(file);
        }
    }
}

/// A look at a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    facts: FileFacts,
    device: u64,
    inode: u64,
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        Self {
            facts: FileFacts {
                length: unsigned(stat.st_size),
                modified: (unsigned(stat.st_mtime), unsigned(stat.st_mtime_nsec)),
                changed: (unsigned(stat.st_ctime), unsigned(stat.st_ctime_nsec)),
            },
            device: unsigned(stat.st_dev),
            inode: unsigned(stat.st_ino),
        }
    }

    /// `None` for anything but a regular file: reading it might wait, or act on a device.
    pub(crate) fn regular(file: &File) -> Result<Option<Self>, FileTrouble> {
        let stat = fstat(file).map_err(|_| FileTrouble::Unreadable)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(is_file.then(|| Self::of(&stat)))
    }
}

/// The fields of `stat` have other types on other systems. A time before 1970 is 0.
fn unsigned<T: Default>(number: impl TryInto<T>) -> T {
    number.try_into().unwrap_or_default()
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

impl OpenFile {
    pub(crate) fn new(
        file: File,
        seen: Seen,
        patience: Patience,
        threads: &Arc<ThreadPool>,
    ) -> Self {
        Self {
            file: Some(file),
            seen,
            is_local: patience == Patience::AtHand,
            asks_first: AtomicBool::new(false),
            threads: Arc::clone(threads),
            permit: OnceLock::new(),
        }
    }

    /// Counts it among those that are open for longer than a look. `Err` if as many are open as may.
    pub(crate) fn count(&self, open: &Arc<OpenFiles>) -> Result<(), FileTrouble> {
        if self.permit.get().is_none() {
            let permit = open.enter().ok_or(FileTrouble::Descriptors)?;
            // Another thread's may have come first; then this one counts back.
            let _ = self.permit.set(permit);
        }
        Ok(())
    }

    pub(crate) fn facts(&self) -> &FileFacts {
        &self.seen.facts
    }

    /// The path leads to this file, and nothing about it has changed.
    pub(crate) fn is_still_at(&self, path: &CStr) -> bool {
        stat(path).is_ok_and(|found| Seen::of(&found) == self.seen)
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
        let bytes = self.in_memory_read(file, offset, length)?;
        self.unchanged()?;
        Ok(bytes)
    }

    fn in_memory_read(
        &self,
        file: &File,
        offset: u64,
        length: usize,
    ) -> Result<Option<Bytes>, FileTrouble> {
        if !self.asks_first.load(Ordering::Relaxed) {
            let mut bytes = vec![0; length];
            let mut into = [IoSliceMut::new(&mut bytes)];
            match preadv2(file, &mut into, offset, ReadWriteFlags::NOWAIT) {
                Ok(read) if read == length => return Ok(Some(Bytes::from(bytes))),
                Err(Errno::IO) => return Err(FileTrouble::Unreadable),
                // tmpfs, which has all that is not swapped out.
                Err(Errno::OPNOTSUPP) => self.asks_first.store(true, Ordering::Relaxed),
                // Less: the rest is on disk, or the file is shorter now, which a thread finds out. The kernel may not
                // know the call either.
                Ok(_) | Err(_) => return Ok(None),
            }
        }
        if resident::is_resident(file, offset, length as u64) {
            read_at(file, offset, length).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The file, if the kernel has these bytes of it in memory: sending them waits for nothing.
    pub(crate) fn in_memory(&self, offset: u64, length: u64) -> Option<BorrowedFd<'_>> {
        let file = self.file.as_ref().filter(|_| self.is_local)?;
        resident::is_resident(file, offset, length).then(|| file.as_fd())
    }

    /// The file, of which the kernel has the wanted bytes in memory.
    pub(crate) fn sendable(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|file| file.as_fd())
    }

    /// `Err` if it is not the file any more that was opened.
    pub(crate) fn unchanged(&self) -> Result<(), FileTrouble> {
        let file = self.file.as_ref().ok_or(FileTrouble::Unreadable)?;
        // The inode also changes when a name of the file is removed, which leaves its content.
        let version = |seen: &Seen| (seen.facts.length, seen.facts.modified);
        let is_same = Seen::regular(file)?.is_some_and(|now| version(&now) == version(&self.seen));
        is_same.then_some(()).ok_or(FileTrouble::Changed)
    }
}

impl From<FileTrouble> for io::Error {
    fn from(trouble: FileTrouble) -> Self {
        Self::other(trouble)
    }
}
