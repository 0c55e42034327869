//! The log of purges in the disk cache's directory: a purge is on disk before it is acknowledged.
//!
//! Written and synced by the thread that orders, never by a worker. A start reads it back before the first request. A
//! line that cannot be written is kept, and written as soon as there is room again. A file beside it reserves some room
//! for that: it is removed when the disk is full.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use edgerouter_core::{
    cache::purge::log::{self, LogContents, LogEnd, LogLine, PurgeRecord},
    plan::limits::PurgeLimits,
};

use edgerouter_store::disk::{Disk, FolderError, private_or_new};

const NAME: &str = "purges.log";
const NEW: &str = "purges.new";
const RESERVE: &str = "purges.reserve";
/// Room for some hundred purges; less if the cache is small, so that its size holds.
const RESERVED: u64 = 256 << 10;
const LEAST: u64 = 1 << 20;
const MOST: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    file: File,
    /// Length of the intact part of the file.
    length: u64,
    /// After `length` there may be the beginning of a line that could not be written.
    dirty: bool,
    /// Lines that could not be written yet.
    owed: Vec<u8>,
    /// The reserve was removed, or could not be made.
    bare: bool,
    /// Bytes that the disk cache may use.
    disk_size: u64,
    /// Bytes above which the oldest purges are dropped.
    most: u64,
}

/// The state found at the start.
#[derive(Debug)]
pub(super) struct Replay {
    pub contents: LogContents,
    /// Purges may be lost.
    pub damaged: bool,
}

impl Log {
    /// `newest`: a number above everything that was stored or purged, given the log's content.
    pub(super) fn open(
        disk: &Disk,
        limits: &PurgeLimits,
        newest: impl FnOnce(&LogContents) -> u64,
    ) -> Result<(Self, Replay), FolderError> {
        let unusable = |error| FolderError::Unusable {
            path: disk.path().to_owned(),
            error,
        };
        let (mut log, bytes) = Self::read(disk.path(), disk.size()).map_err(unusable)?;
        log.bound(limits);
        log.keep_room();
        let (lines, good, end) = log::decode(&bytes);
        let mut contents = LogContents::of(lines);
        let damaged = end == LogEnd::Damaged;
        match end {
            LogEnd::Whole => {}
            LogEnd::Torn => {
                log.length = good as u64;
                log.dirty = true;
            }
            // Not interrupted: as long as the damage is there, every start detects it.
            LogEnd::Damaged => contents.floor = newest(&contents),
        }
        let oldest = disk.oldest_purge();
        let compacted = contents.compacted(oldest, limits.remembered, log.most as usize);
        if (damaged || compacted.len() < good)
            && let Err(error) = log.replace(&compacted)
        {
            tracing::warn!(%error, path = %disk.path().display(), "the log of purges could not be rewritten; it is used as it is");
        }
        Ok((log, Replay { contents, damaged }))
    }

    fn read(folder: &Path, disk_size: u64) -> io::Result<(Self, Vec<u8>)> {
        let mut file = private_or_new(&folder.join(NAME))?;
        File::open(folder)?.sync_all()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let log = Self {
            folder: folder.to_owned(),
            file,
            length: bytes.len() as u64,
            dirty: false,
            owed: Vec::new(),
            bare: true,
            disk_size,
            most: MOST,
        };
        Ok((log, bytes))
    }

    /// Sets the bound of the plan in service.
    pub(super) fn bound(&mut self, limits: &PurgeLimits) {
        let by_size = (self.disk_size / 64).clamp(LEAST, MOST);
        self.most = limits.log_bytes.unwrap_or(by_size);
    }

    /// Writes a purge, and all owed lines, to the disk itself. Lines that cannot be written are owed.
    pub(super) fn order(&mut self, record: &PurgeRecord) -> io::Result<()> {
        log::encode(&LogLine::Ordered(record.clone()), &mut self.owed);
        if self.owed.len() as u64 > self.most {
            self.owed.clear();
            log::encode(&LogLine::Floor(record.sequence), &mut self.owed);
        }
        self.settle()
    }

    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Writes owed lines.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let owed = std::mem::take(&mut self.owed);
        let mut written = self.append(&owed);
        if written.is_err() && self.make_way() {
            written = self.append(&owed);
        }
        if let Err(error) = written {
            self.owed = owed;
            return Err(error);
        }
        self.length += owed.len() as u64;
        if self.bare {
            self.keep_room();
        }
        if self.length > self.most {
            self.shrink();
        }
        Ok(())
    }

    /// Writes to the disk itself, without counting it in `length`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.write(bytes).and_then(|()| self.file.sync_data());
        self.dirty |= written.is_err();
        written
    }

    /// Reserves room for a full disk.
    fn keep_room(&mut self) {
        let path = self.folder.join(RESERVE);
        let size = RESERVED.min(self.disk_size / 256);
        if fs::metadata(&path).is_ok_and(|kept| kept.len() == size) {
            self.bare = false;
            return;
        }
        // Bytes that no file system stores as a hole.
        let mut bytes = vec![0; size as usize];
        fastrand::fill(&mut bytes);
        let kept = private_or_new(&path).and_then(|file| {
            file.set_len(0)?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()
        });
        self.bare = kept.is_err();
        if self.bare {
            let _ = fs::remove_file(&path);
        }
    }

    /// Removes the reserve; false when there was none.
    fn make_way(&mut self) -> bool {
        self.bare = true;
        fs::remove_file(self.folder.join(RESERVE)).is_ok()
    }

    /// Writes a line that may be lost.
    pub(super) fn note(&mut self, line: &LogLine) {
        let mut bytes = Vec::new();
        log::encode(line, &mut bytes);
        match self.write(&bytes) {
            Ok(()) => self.length += bytes.len() as u64,
            Err(_) => self.dirty = true,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.length)?;
            self.dirty = false;
        }
        self.file.write_all_at(bytes, self.length)
    }

    /// Drops the oldest half. A fetch in progress may still bring a response older than any purge, so the floor rises
    /// for every dropped one.
    fn shrink(&mut self) {
        let rewritten = fs::read(self.folder.join(NAME)).and_then(|bytes| {
            let (lines, _, end) = log::decode(&bytes);
            // Another file in its place is not this log.
            if end != LogEnd::Whole || bytes.len() as u64 != self.length {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.replace(&LogContents::of(lines).compacted(0, 0, self.most as usize / 2))
        });
        if let Err(error) = rewritten {
            tracing::warn!(%error, path = %self.folder.display(), "the log of purges could not be rewritten; it is used as it is");
        }
    }

    /// Replaces this file by another, atomically and durably.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let new = self.folder.join(NEW);
        let _ = fs::remove_file(&new);
        let written = private_or_new(&new).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, self.folder.join(NAME))?;
            Ok(file)
        });
        match written {
            Ok(file) => {
                self.file = file;
                self.length = bytes.len() as u64;
                self.dirty = false;
                File::open(&self.folder)?.sync_all()
            }
            Err(error) => {
                let _ = fs::remove_file(&new);
                Err(error)
            }
        }
    }
}
