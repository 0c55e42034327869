//! The directory of a disk tier: its lock, and its content at the start.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use edgerouter_core::record::{RecordKind, checksum, sidecar::SidecarLine};
use hashbrown::HashSet;

use super::{
    index::{Index, Slot},
    segment::{Scan, Segment, parse_name, private, read_lines, segment_path, sidecar_path},
};

/// Why a directory cannot be used; one line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process holds the lock of this directory.
    #[error(
        "disk_cache.path: {0:?}: another process uses this directory; stop it, or give each edge a directory of its own"
    )]
    Locked(PathBuf),
    /// The directory cannot be made, read or written.
    #[error(
        "disk_cache.path: {path:?}: {error}; give a directory that this user can create and write"
    )]
    Unusable {
        /// The directory of the disk cache.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// A directory that is ours until `lock` is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    pub path: PathBuf,
    pub lock: File,
    /// Seeds every checksum and key hash: records of another cache, or a body that looks like a record, do not match.
    pub seed: u64,
}

const LOCK: &str = "lock";
const SEED: &str = "seed";
const SEED_MAGIC: &[u8; 8] = b"edgedisk";

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, FolderError> {
        let unusable = |error| FolderError::Unusable {
            path: path.to_owned(),
            error,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(unusable)?;
        let lock = private_or_new(&path.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(FolderError::Locked(path.to_owned()));
            }
            Err(fs::TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let seed = match read_seed(&path.join(SEED)) {
            Some(seed) => seed,
            None => {
                // Without the seed none of the files can be checked.
                for (id, _) in list(path).map_err(unusable)? {
                    remove(path, id);
                }
                write_seed(path).map_err(unusable)?
            }
        };
        Ok(Self {
            path: path.to_owned(),
            lock,
            seed,
        })
    }
}

impl Folder {
    /// Checks that the path still leads to the directory that was locked. If that was removed or replaced, the new one
    /// may be another process's: nothing is written or removed there.
    pub(super) fn check(&self) -> io::Result<()> {
        let identity = |data: fs::Metadata| (data.dev(), data.ino());
        let own = self.lock.metadata().map(identity);
        let there = fs::metadata(self.path.join(LOCK)).map(identity);
        if own.is_ok_and(|own| there.is_ok_and(|there| own == there)) {
            return Ok(());
        }
        let message = "the directory was removed or replaced; start the edge again to begin anew";
        Err(io::Error::new(io::ErrorKind::NotFound, message))
    }

    /// Removes a segment's files.
    pub(super) fn remove(&self, id: u32) {
        if self.check().is_ok() {
            remove(&self.path, id);
        }
    }
}

/// A file that only its owner may read, created if absent.
pub fn private_or_new(path: &Path) -> io::Result<File> {
    match private(path, true) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => private(path, false),
        opened => opened,
    }
}

fn read_seed(path: &Path) -> Option<u64> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(64)
        .read_to_end(&mut bytes)
        .ok()?;
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (seed, rest) = rest.split_first_chunk::<8>()?;
    let sum = u64::from_le_bytes(rest.try_into().ok()?);
    (magic == SEED_MAGIC && sum == checksum(0, seed)).then(|| u64::from_le_bytes(*seed))
}

fn write_seed(folder: &Path) -> io::Result<u64> {
    let mut random = fastrand::Rng::new();
    let seed = random.u64(..);
    let new = folder.join("seed.new");
    let _ = fs::remove_file(&new);
    let mut file = private(&new, true)?;
    file.write_all(SEED_MAGIC)?;
    file.write_all(&seed.to_le_bytes())?;
    file.write_all(&checksum(0, &seed.to_le_bytes()).to_le_bytes())?;
    file.sync_all()?;
    fs::rename(new, folder.join(SEED))?;
    Ok(seed)
}

/// The existing segments, oldest first, with their lengths. Removes sidecars without a segment.
fn list(folder: &Path) -> io::Result<BTreeMap<u32, u64>> {
    let mut segments = BTreeMap::new();
    let mut sidecars = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_name().to_str().and_then(parse_name) {
            Some((id, false)) => {
                segments.insert(id, entry.metadata()?.len());
            }
            Some((id, true)) => sidecars.push(id),
            None => {}
        }
    }
    for id in sidecars {
        if !segments.contains_key(&id) {
            let _ = fs::remove_file(sidecar_path(folder, id));
        }
    }
    Ok(segments)
}

/// Removes a segment's files. The next start finds those that cannot be removed.
fn remove(folder: &Path, id: u32) -> bool {
    let gone = fs::remove_file(segment_path(folder, id));
    let _ = fs::remove_file(sidecar_path(folder, id));
    gone.is_ok()
}

/// A full segment.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    pub segment: Arc<Segment>,
    /// Of the segment and its sidecar.
    pub bytes: u64,
}

/// The content found at the start.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub segments: BTreeMap<u32, Sealed>,
    pub next_sequence: u64,
    pub newest_purge: u64,
    /// `u64::MAX` when nothing was found.
    pub oldest_purge: u64,
    pub next_segment: u32,
    /// Segments that had to be scanned.
    pub scanned: usize,
    /// Bytes of segments that were dropped because of damage.
    pub given_up: u64,
}

/// Reads the index back: from sidecars if they are good, otherwise from the segments themselves. Newest first, so that
/// the first record of a key is the latest: a removal or a newer record hides every older one.
///
/// If a segment without a good sidecar is damaged, its unreadable part may have hidden any older record. So everything
/// older is dropped: one fetch too many, never a response that was replaced or removed.
pub(super) fn recover(folder: &Folder, index: &Index) -> io::Result<Recovered> {
    let mut found = Recovered {
        oldest_purge: u64::MAX,
        ..Recovered::default()
    };
    let mut removed: HashSet<u64, foldhash::fast::RandomState> = HashSet::default();
    let mut sure = true;
    for (id, length) in list(&folder.path)?.into_iter().rev() {
        found.next_segment = found.next_segment.max(id.saturating_add(1));
        if !sure {
            found.given_up += length;
            remove(&folder.path, id);
            continue;
        }
        let read = match read_back(folder, id, length) {
            Ok(read) => read,
            // Too many open files, or another user's file: that proves nothing about the disk.
            Err(error) if !is_damage(&error) => return Err(error),
            Err(error) => {
                tracing::error!(%error, path = %folder.path.display(), segment = id, "a segment of the disk cache cannot be read");
                found.given_up += length;
                remove(&folder.path, id);
                sure = false;
                continue;
            }
        };
        found.scanned += usize::from(read.scanned);
        sure = !read.damaged;
        let Some(sealed) = read.sealed else {
            remove(&folder.path, id);
            continue;
        };
        for line in read.lines.iter().rev() {
            found.next_sequence = found.next_sequence.max(line.sequence + 1);
            if !matches!(line.kind, RecordKind::PROBE | RecordKind::REMOVED) {
                found.newest_purge = found.newest_purge.max(line.last_purge);
                found.oldest_purge = found.oldest_purge.min(line.last_purge);
            }
            take(line, id, index, &mut removed);
        }
        found.segments.insert(id, sealed);
    }
    if !sure {
        tracing::error!(
            path = %folder.path.display(),
            given_up = found.given_up,
            "the disk cache is damaged, and removals may be lost; everything older is dropped"
        );
    }
    Ok(found)
}

/// True if an error means that the file is damaged, and not just unavailable now.
fn is_damage(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    use io::ErrorKind::{InvalidData, IsADirectory, NotFound, UnexpectedEof};
    error.raw_os_error() == Some(EIO)
        || matches!(
            error.kind(),
            InvalidData | IsADirectory | NotFound | UnexpectedEof
        )
}

/// The part of one segment that a start reads.
struct ReadBack {
    /// `None`: none of it is worth keeping.
    sealed: Option<Sealed>,
    lines: Vec<SidecarLine>,
    scanned: bool,
    damaged: bool,
}

fn read_back(folder: &Folder, id: u32, length: u64) -> io::Result<ReadBack> {
    let segment = Segment::open(&folder.path, id)?;
    if let Ok((lines, sidecar)) = read_lines(&folder.path, id, folder.seed, length) {
        return Ok(ReadBack {
            sealed: Some(Sealed {
                segment: Arc::new(segment),
                bytes: length + sidecar,
            }),
            lines,
            scanned: false,
            damaged: false,
        });
    }
    let Scan {
        mut contents,
        end,
        damaged,
        sure_from,
    } = segment.scan(folder.seed)?;
    contents.leave_out(sure_from);
    let mut read = ReadBack {
        sealed: None,
        lines: contents.lines().to_vec(),
        scanned: true,
        damaged,
    };
    if !read.lines.is_empty() {
        segment.file.set_len(end)?;
        let sidecar = contents.write(folder.seed, end);
        let written = write_sidecar(&folder.path, id, &sidecar);
        read.sealed = Some(Sealed {
            segment: Arc::new(segment),
            bytes: end + written.map_or(0, |()| sidecar.len() as u64),
        });
    }
    Ok(read)
}

fn take(
    line: &SidecarLine,
    segment: u32,
    index: &Index,
    removed: &mut HashSet<u64, foldhash::fast::RandomState>,
) {
    match line.kind {
        RecordKind::PROBE => {}
        RecordKind::REMOVED => {
            if index.lock(line.hash).slot().is_none() {
                removed.insert(line.hash);
            }
        }
        _ => {
            let mut place = index.lock(line.hash);
            if place.slot().is_none() && !removed.contains(&line.hash) {
                let length = u64::from(line.length);
                place.put(Slot::new(line.hash, segment, line.offset, length));
            }
        }
    }
}

/// Writes a sidecar; a partially written one is removed, and would be refused.
pub(super) fn write_sidecar(folder: &Path, id: u32, bytes: &[u8]) -> io::Result<()> {
    let path = sidecar_path(folder, id);
    let _ = fs::remove_file(&path);
    let written = private(&path, true).and_then(|mut file| file.write_all(bytes));
    if written.is_err() {
        let _ = fs::remove_file(&path);
    }
    written
}
