//! The files that routes serve: opened beneath their folder and read in pieces, by threads of their own.
//!
//! A worker gives a [`Search`] to [`Files::find`] and waits for what was found; a [`FileBody`] then brings the content.
//! Nothing here knows routes: which name a request is for and which fields a response has is decided in
//! `edgerouter_core::files`. Opening, `stat` and reading may wait for a disk or a server: a worker does them only where
//! the kernel says that it has all that they need in memory, and leaves the rest to threads. The threads, the searches
//! that wait for them and the files that are open have bounds.

mod body;
mod confine;
mod figures;
mod kept;
mod open_file;
mod resident;
mod search;

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use edgerouter_core::plan::limits::FileLimits;
use edgerouter_threads::{NotDone, ThreadPool};

pub use body::{FileBody, FilePart};
pub use kept::KeptFiles;
pub use open_file::OpenFile;
pub use search::{Found, FoundFile, Search};

use confine::Confined;
use figures::Figures;
use open_file::OpenFiles;

/// Why a file, or the rest of it, cannot be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileTrouble {
    /// `limits.files.queue` searches wait already, or no thread could be started.
    #[error("too many requests wait for files (limits.files.queue)")]
    Busy,
    /// `limits.files.open_files` are open already, or the system has no more.
    #[error("too many files are open (limits.files.open_files)")]
    Descriptors,
    /// The disk or the file server did not answer within `limits.files.timeout`.
    #[error("the file system did not answer in time (limits.files.timeout)")]
    TimedOut,
    /// There is no memory for another piece.
    #[error("the memory for requests is exhausted (limits.http.request_memory_bytes)")]
    Memory,
    /// It is not the file any more whose length was sent.
    #[error("the file was changed while it was sent")]
    Changed,
    /// The folder cannot be opened, or reading failed.
    #[error("the folder or the file cannot be read")]
    Unreadable,
}

impl From<NotDone> for FileTrouble {
    fn from(why: NotDone) -> Self {
        match why {
            NotDone::Busy => Self::Busy,
            NotDone::TimedOut => Self::TimedOut,
        }
    }
}

/// All files of the process.
#[derive(Debug)]
pub struct Files {
    threads: Arc<ThreadPool>,
    confined: Confined,
    open: Arc<OpenFiles>,
    figures: Figures,
    /// In milliseconds.
    timeout: AtomicU64,
    listed: AtomicUsize,
}

impl Files {
    /// Without any thread yet: they are started on demand. `open_files`: how many may be open at a time.
    pub fn new(limits: &FileLimits, open_files: usize) -> Arc<Self> {
        let files = Self {
            threads: ThreadPool::new("edge-files"),
            confined: Confined::default(),
            open: Arc::default(),
            figures: Figures::default(),
            timeout: AtomicU64::default(),
            listed: AtomicUsize::default(),
        };
        files.bound(limits, open_files);
        Arc::new(files)
    }

    /// Sets the bounds, which a reload may change.
    pub fn bound(&self, limits: &FileLimits, open_files: usize) {
        self.threads.bound(limits.threads, limits.queue);
        self.open.bound(open_files, limits.kept_files);
        let timeout = u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX);
        self.timeout.store(timeout, Ordering::Relaxed);
        self.listed.store(limits.listed_names, Ordering::Relaxed);
    }

    /// The bound on a wait for the threads.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout.load(Ordering::Relaxed))
    }

    /// The file that a request is for, if the worker has it open and nothing has to be read: it needs no memory.
    pub fn find_kept(&self, search: &Search, kept: &RefCell<KeptFiles>) -> Option<Found> {
        search.among(self, kept)
    }

    /// Opens the file that a request is for and reads its beginning: at once if the kernel has all that it takes in
    /// memory, otherwise by a thread. `kept`: what the worker has opened a moment ago.
    pub async fn find(
        self: &Arc<Self>,
        search: Search,
        kept: &RefCell<KeptFiles>,
    ) -> Result<Found, FileTrouble> {
        if let Some(found) = search.at_hand(self, kept) {
            return found.inspect_err(|trouble| self.figures.failed(*trouble));
        }
        Box::pin(self.find_by_thread(search)).await
    }

    async fn find_by_thread(self: &Arc<Self>, search: Search) -> Result<Found, FileTrouble> {
        let own = Arc::clone(self);
        let job = move || search.run(&own);
        let found = self.threads.submit(self.timeout(), job).await;
        let found = found.map_err(FileTrouble::from).flatten();
        found.inspect_err(|trouble| self.figures.failed(*trouble))
    }

    /// Reads `length` bytes at `offset`.
    pub(crate) async fn read(
        self: &Arc<Self>,
        file: &Arc<OpenFile>,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, FileTrouble> {
        let own = Arc::clone(file);
        let job = move || own.read(offset, length);
        let read = self.threads.proceed(self.timeout(), job).await;
        let read = read.map_err(FileTrouble::from).flatten();
        match &read {
            Ok(bytes) => self.figures.read(bytes.len()),
            Err(trouble) => self.figures.failed(*trouble),
        }
        read
    }

    /// Ends the threads once they are idle.
    pub fn close(&self) {
        self.threads.end();
    }

    /// The figures as metrics.
    pub fn render(&self, out: &mut String) {
        self.figures
            .render(self.open.count(), self.threads.count(), out);
    }
}
