//! One file: read whole, and again when another takes its place.

use std::{
    fs::Metadata,
    io::{self, Read as _},
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwap, Guard};
use edgerouter_core::geo::MOST_FILE_BYTES;
use edgerouter_telemetry::regular;
use maxminddb::{LookupResult, MaxMindDbError, Reader};
use parking_lot::Mutex;

use crate::{record::Record, remembered::Position};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("is larger than {MOST_FILE_BYTES} bytes")]
    TooLarge,
    #[error("is no file in MaxMind's format (.mmdb): {0}")]
    Invalid(#[from] MaxMindDbError),
}

/// The facts that distinguish a file from another one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            changed: (file.mtime(), file.mtime_nsec()),
        }
    }
}

/// A file as it was read once.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Unlike that of each other reading in this process.
    number: u64,
    reader: Reader<Vec<u8>>,
}

impl Loaded {
    fn new(reader: Reader<Vec<u8>>) -> Self {
        static READINGS: AtomicU64 = AtomicU64::new(1);
        let number = READINGS.fetch_add(1, Relaxed);
        Self { number, reader }
    }

    /// The record of an address, and its position; a file of IPv4 networks has none for an address of IPv6.
    pub(crate) fn find(
        &self,
        address: IpAddr,
    ) -> Result<(Position, Option<LookupResult<'_, Vec<u8>>>), MaxMindDbError> {
        let foreign = address.is_ipv6() && self.reader.metadata().ip_version == 4;
        let found = if foreign {
            None
        } else {
            Some(self.reader.lookup(address)?)
        };
        let position = Position {
            reading: self.number,
            offset: found.as_ref().and_then(LookupResult::offset),
        };
        Ok((position, found))
    }
}

#[derive(Debug)]
pub(crate) struct GeoFile {
    path: PathBuf,
    current: ArcSwap<Loaded>,
    /// Of the file that was read last, and the error that was logged for it.
    seen: Mutex<(Option<Identity>, Option<String>)>,
    pub(crate) loads: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl GeoFile {
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let (identity, reader) = read(path, None)?
            .ok_or(io::ErrorKind::NotFound)
            .map_err(io::Error::from)?;
        Ok(Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(Loaded::new(reader)),
            seen: Mutex::new((Some(identity), None)),
            loads: AtomicU64::new(1),
            failures: AtomicU64::new(0),
        })
    }

    /// Reads the file again if it is another one than last time. One that cannot be read leaves the current one, and is
    /// tried again each time.
    pub(crate) fn refresh(&self) {
        let mut seen = self.seen.lock();
        match read(&self.path, seen.0) {
            Ok(None) => {}
            Ok(Some((identity, reader))) => {
                let kind = reader.metadata().database_type.clone();
                let built = reader.metadata().build_epoch;
                self.current.store(Arc::new(Loaded::new(reader)));
                *seen = (Some(identity), None);
                self.loads.fetch_add(1, Relaxed);
                tracing::info!(file = %self.path.display(), kind, built, "geo: the replaced file is in use");
            }
            Err(error) => {
                self.failures.fetch_add(1, Relaxed);
                let text = error.to_string();
                if seen.1.as_ref() != Some(&text) {
                    let file = self.path.display();
                    tracing::error!(%file, error = text, "geo: the file cannot be used, the one before stays in use");
                }
                *seen = (None, Some(text));
            }
        }
    }

    /// The name in metrics.
    pub(crate) fn label(&self) -> String {
        self.path.display().to_string()
    }

    /// Unix seconds of the time when the file was built, as it says.
    pub(crate) fn built(&self) -> u64 {
        self.current.load().reader.metadata().build_epoch
    }

    /// The reading in use now.
    pub(crate) fn reading(&self) -> Guard<Arc<Loaded>> {
        self.current.load()
    }
}

/// Reads a file whole; `None` if it is the one that was seen last.
fn read(
    path: &Path,
    seen: Option<Identity>,
) -> Result<Option<(Identity, Reader<Vec<u8>>)>, FileError> {
    let (mut file, about) = regular::open(path)?;
    let identity = Identity::of(&about);
    if seen == Some(identity) {
        return Ok(None);
    }
    if about.len() > MOST_FILE_BYTES {
        return Err(FileError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default());
    file.by_ref()
        .take(MOST_FILE_BYTES)
        .read_to_end(&mut bytes)?;
    let reader = Reader::from_source(bytes)?;
    // A file that was cut off has its metadata at the end, if it has any: a record shows that the rest is there.
    let any: IpAddr = [1, 1, 1, 1].into();
    reader.lookup(any)?.decode::<Record<'_>>()?;
    Ok(Some((identity, reader)))
}
