//! Files that a worker opened a moment ago, for the requests right after: a file that many clients want is opened once
//! a second, not once a request.
//!
//! A kept file was opened beneath its folder. Before each use its path is looked up again: it must still lead to the
//! same file, unchanged. So a file that was written to, replaced or removed, and a folder or link on its way that
//! stands for something else now, is opened anew. The look-up may follow links out of the folder, but what it finds
//! there is only compared: a file that was beneath the folder a second ago and is reached around it now is all that can
//! be sent so.
//!
//! A file whose name says that it never changes (`immutable`) is used without such a look: one that was removed is
//! served until its second is over. No look at any other file serves two requests. The second one may be of a client
//! that has seen a deploy end in between, and when a request was sent nobody but its client can say.

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use edgerouter_core::{
    http::{Fields, coding::ContentCoding},
    plan::FileFolder,
};

use super::open_file::{OpenFile, OpenFiles};

/// Time for which a file stays open for other requests.
const AGE: Duration = Duration::from_secs(1);
/// Content of up to this length is kept with its file: as much as is read at once.
const CONTENT: usize = 64 << 10;
/// Content that one worker keeps in all.
const ALL_CONTENT: usize = 1 << 20;
/// A file that was changed more recently may be changed again without a new time.
const SETTLED: Duration = Duration::from_secs(2);

/// A file, and what requests before have found out about it.
#[derive(Debug, Clone)]
pub(crate) struct KeptFile {
    pub file: Arc<OpenFile>,
    /// Its content, if that is short and was read.
    pub content: Option<Bytes>,
    /// The head of a response with it in this coding of the file that was requested.
    head: Option<Arc<(ContentCoding, Fields)>>,
    /// The codings in which a file that never changes is not there, one bit each.
    lacking: u8,
}

impl KeptFile {
    pub(crate) fn new(file: Arc<OpenFile>) -> Self {
        Self {
            file,
            content: None,
            head: None,
            lacking: 0,
        }
    }

    /// The head of a response with the file in this coding.
    pub(crate) fn head(&self, coding: ContentCoding) -> Option<Fields> {
        let (of, head) = &**self.head.as_ref()?;
        (*of == coding).then(|| head.clone())
    }

    pub(crate) fn lacks(&self, coding: ContentCoding) -> bool {
        self.lacking & bit(coding) != 0
    }
}

fn bit(coding: ContentCoding) -> u8 {
    1 << coding as u8
}

#[derive(Debug)]
struct Kept {
    folder: Arc<FileFolder>,
    names: Vec<u8>,
    /// As the system takes it.
    path: CString,
    file: KeptFile,
    since: Instant,
}

/// The files that one worker keeps open: at most `limits.files.kept_files`.
#[derive(Debug, Default)]
pub struct KeptFiles(Vec<Kept>);

impl KeptFiles {
    /// `never_changes`: without a look whether the file is still there.
    pub(crate) fn find(
        &mut self,
        folder: &Arc<FileFolder>,
        names: &[u8],
        never_changes: bool,
    ) -> Option<KeptFile> {
        let is_it = |kept: &Kept| kept.names == names && Arc::ptr_eq(&kept.folder, folder);
        let index = self.0.iter().position(is_it)?;
        let kept = self.0.get(index)?;
        let is_there = || never_changes || kept.file.file.is_still_at(&kept.path);
        if kept.since.elapsed() < AGE && is_there() {
            return Some(kept.file.clone());
        }
        self.0.swap_remove(index);
        None
    }

    pub(crate) fn keep(
        &mut self,
        folder: &Arc<FileFolder>,
        names: &[u8],
        file: &Arc<OpenFile>,
        open: &Arc<OpenFiles>,
    ) {
        if self.0.len() >= open.most_kept() || !open.has_spare() {
            self.sweep();
        }
        if self.0.len() >= open.most_kept() || !open.has_spare() || file.count(open).is_err() {
            return;
        }
        let path = folder.root.join(OsStr::from_bytes(names));
        let Ok(path) = CString::new(path.into_os_string().into_vec()) else {
            return;
        };
        self.0.push(Kept {
            folder: Arc::clone(folder),
            names: names.to_vec(),
            path,
            file: KeptFile::new(Arc::clone(file)),
            since: Instant::now(),
        });
    }

    /// Keeps the content of a file that is kept.
    pub(crate) fn keep_content(&mut self, file: &Arc<OpenFile>, content: &Bytes) {
        if content.len() > CONTENT || !is_settled(file) {
            return;
        }
        let lengths = self.0.iter().filter_map(|kept| kept.file.content.as_ref());
        if lengths.map(Bytes::len).sum::<usize>() + content.len() > ALL_CONTENT {
            return;
        }
        if let Some(kept) = self.of(file) {
            kept.content = Some(content.clone());
        }
    }

    /// Keeps the head of a file that is kept, in this coding of the file that was requested.
    pub(crate) fn keep_head(&mut self, file: &Arc<OpenFile>, coding: ContentCoding, head: &Fields) {
        if let Some(kept) = self.of(file) {
            kept.head = Some(Arc::new((coding, head.clone())));
        }
    }

    /// Keeps that a file which never changes is not there in this coding.
    pub(crate) fn keep_lacking(&mut self, file: &Arc<OpenFile>, coding: ContentCoding) {
        if let Some(kept) = self.of(file) {
            kept.lacking |= bit(coding);
        }
    }

    fn of(&mut self, file: &Arc<OpenFile>) -> Option<&mut KeptFile> {
        let mut all = self.0.iter_mut().map(|kept| &mut kept.file);
        all.find(|kept| Arc::ptr_eq(&kept.file, file))
    }

    /// Closes what has been open for its time.
    pub fn sweep(&mut self) {
        self.0.retain(|kept| kept.since.elapsed() < AGE);
    }
}

fn is_settled(file: &OpenFile) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let (seconds, nanos) = file.facts().changed;
    now.is_ok_and(|now| now > Duration::new(seconds, nanos) + SETTLED)
}
