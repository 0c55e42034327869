//! The search for the file of a request: by a worker among what the kernel has at hand, or by a thread, which may wait.

use std::{
    cell::{OnceCell, RefCell},
    ffi::OsStr,
    fs::File,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    sync::Arc,
};

use bytes::Bytes;
use edgerouter_core::{
    files::{FileFacts, FilePath, listing::ListedName, path::is_servable, response},
    http::{Fields, coding::ContentCoding, header, vary},
    plan::FileFolder,
};
use rustix::{
    fs::{Dir, FileType},
    io::Errno,
};

use super::{
    FileTrouble, Files,
    confine::Patience,
    kept::{KeptFile, KeptFiles},
    open_file::{OpenFile, Seen},
};

/// Searches for one request, if the file is written to during each.
const TRIES: usize = 4;

/// A request, as far as the search depends on it.
#[derive(Debug)]
pub struct Search {
    /// The folder of the route.
    pub folder: Arc<FileFolder>,
    /// The path in it.
    pub path: FilePath,
    /// The codings that the request accepts, the one that the client likes best first.
    pub accepted: Vec<ContentCoding>,
    /// The fall-back of the folder may answer.
    pub takes_fallback: bool,
    /// Bytes at the beginning of the file that are read at once; 0: none.
    pub first: usize,
    /// Unix seconds.
    pub now: u64,
}

/// The result of a search.
#[derive(Debug)]
pub enum Found {
    /// The file is open, or read already.
    File(FoundFile),
    /// The path is that of a folder, and lacks the `/` at its end.
    Folder,
    /// The names in a folder. `complete`: false if it has more of them.
    Names {
        /// In no order.
        names: Vec<ListedName>,
        /// All of them.
        complete: bool,
    },
    /// There is none, or none that may be served.
    Absent,
    /// The system does not let the edge read it.
    Refused,
    /// It is there, and in no coding that the request accepts.
    NotAcceptable,
}

/// A file that was found.
#[derive(Debug)]
pub struct FoundFile {
    /// The head of a 200 with it.
    pub head: Fields,
    /// Of the file in the coding that was chosen.
    pub facts: FileFacts,
    /// Its first bytes.
    pub start: Bytes,
    /// `None`: `start` is all of it.
    pub rest: Option<Arc<OpenFile>>,
}

/// Kinds of things that a name stands for.
enum Opened {
    File(KeptFile),
    Folder,
    Absent,
    Refused,
}

/// Why a search has found neither the file nor that there is none.
enum Stop {
    /// A worker would have to wait: a thread does it instead.
    WouldWait,
    Trouble(FileTrouble),
}

impl From<FileTrouble> for Stop {
    fn from(trouble: FileTrouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// One run of a search.
struct Run<'s> {
    search: &'s Search,
    files: &'s Files,
    root: OnceCell<OwnedFd>,
    /// The files that the worker keeps open; `None` on a thread, which may wait.
    kept: Option<&'s RefCell<KeptFiles>>,
    /// False: no memory was drawn for content, and no file is opened.
    reads: bool,
}

impl Search {
    /// On a thread.
    pub(crate) fn run(&self, files: &Files) -> Result<Found, FileTrouble> {
        self.run_with(files, None, true).map_err(|stop| match stop {
            Stop::WouldWait => FileTrouble::Unreadable,
            Stop::Trouble(trouble) => trouble,
        })
    }

    /// On a worker; `None`: the kernel would have to wait for something.
    pub(crate) fn at_hand(
        &self,
        files: &Files,
        kept: &RefCell<KeptFiles>,
    ) -> Option<Result<Found, FileTrouble>> {
        match self.run_with(files, Some(kept), true) {
            Ok(found) => Some(Ok(found)),
            Err(Stop::Trouble(trouble)) => Some(Err(trouble)),
            Err(Stop::WouldWait) => None,
        }
    }

    /// On a worker, among the files that it keeps open; `None`: something has to be opened or read.
    pub(crate) fn among(&self, files: &Files, kept: &RefCell<KeptFiles>) -> Option<Found> {
        self.run_with(files, Some(kept), false).ok()
    }

    fn run_with(
        &self,
        files: &Files,
        kept: Option<&RefCell<KeptFiles>>,
        reads: bool,
    ) -> Result<Found, Stop> {
        settled(|| self.run_once(files, kept, reads))
    }

    fn run_once(
        &self,
        files: &Files,
        kept: Option<&RefCell<KeptFiles>>,
        reads: bool,
    ) -> Result<Found, Stop> {
        let run = Run {
            search: self,
            files,
            root: OnceCell::new(),
            kept,
            reads,
        };
        let found = run.own()?;
        if let (Found::Absent, Some(fallback), true) =
            (&found, &self.folder.fallback, self.takes_fallback)
        {
            let mut found = run.file(fallback.as_bytes().to_vec())?;
            if let Found::File(file) = &mut found {
                // A script at the same URL gets a 404.
                vary::add(&mut file.head, header::ACCEPT);
            }
            return Ok(found);
        }
        Ok(found)
    }
}

impl Run<'_> {
    fn patience(&self) -> Patience {
        match self.kept {
            Some(_) => Patience::AtHand,
            None => Patience::Waits,
        }
    }

    /// The folder, opened for this search once something in it has to be.
    fn root(&self) -> Result<&OwnedFd, Stop> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let path = &self.search.folder.root;
        let opened = self.files.confined.root(path, self.patience());
        let root = opened.map_err(|error| match error {
            Errno::MFILE | Errno::NFILE => Stop::Trouble(FileTrouble::Descriptors),
            _ if self.kept.is_some() => Stop::WouldWait,
            error => {
                let folder = path.display();
                tracing::warn!(%error, %folder, "the folder of a route cannot be opened");
                Stop::Trouble(FileTrouble::Unreadable)
            }
        })?;
        Ok(self.root.get_or_init(|| root))
    }

    /// The answer for the path itself, without the fall-back.
    fn own(&self) -> Result<Found, Stop> {
        let Search { path, folder, .. } = self.search;
        if !path.is_folder {
            if path.names.is_empty() {
                return Ok(Found::Folder);
            }
            return self.file(path.names.clone());
        }
        if let Some(index) = &folder.index {
            let found = self.file(path.join(index.as_bytes()))?;
            // A folder with the name of an index file is none.
            if !matches!(found, Found::Absent | Found::Folder) {
                return Ok(found);
            }
        }
        if folder.listing {
            self.list()
        } else {
            Ok(Found::Absent)
        }
    }

    fn file(&self, names: Vec<u8>) -> Result<Found, Stop> {
        let search = self.search;
        let never_changes = response::never_changes(&search.folder, &names);
        let plain = match self.open(&names, never_changes)? {
            Opened::File(plain) => plain,
            Opened::Folder => return Ok(Found::Folder),
            Opened::Absent => return Ok(Found::Absent),
            Opened::Refused => return Ok(Found::Refused),
        };
        let mut chosen = None;
        for coding in response::codings(&search.folder, &names, &search.accepted) {
            if coding == ContentCoding::Identity {
                chosen = Some((plain, coding));
                break;
            }
            if plain.lacks(coding) {
                continue;
            }
            let coded = [&*names, coding.extension().as_bytes()].concat();
            match self.open_coded(&coded, never_changes)? {
                Opened::File(coded) if coded.file.facts().follows(plain.file.facts()) => {
                    chosen = Some((coded, coding));
                    break;
                }
                Opened::Absent if never_changes => {
                    if let Some(kept) = self.kept {
                        kept.borrow_mut().keep_lacking(&plain.file, coding);
                    }
                }
                _ => {}
            }
        }
        let Some((chosen, coding)) = chosen else {
            return Ok(Found::NotAcceptable);
        };
        let start = self.start(&chosen)?;
        let head = self.head(&names, &chosen, coding);
        let facts = *chosen.file.facts();
        let is_whole = start.len() as u64 == facts.length;
        if !is_whole {
            chosen.file.count(&self.files.open)?;
        }
        Ok(Found::File(FoundFile {
            head,
            facts,
            start,
            rest: (!is_whole).then_some(chosen.file),
        }))
    }

    /// The head of a response with the file at `names` in a coding.
    fn head(&self, names: &[u8], chosen: &KeptFile, coding: ContentCoding) -> Fields {
        if let Some(head) = chosen.head(coding) {
            return head;
        }
        let Search { folder, now, .. } = self.search;
        let facts = chosen.file.facts();
        let head = response::head(folder, names, facts, coding, *now);
        if let Some(kept) = self.kept.filter(|_| facts.is_settled(*now)) {
            kept.borrow_mut().keep_head(&chosen.file, coding, &head);
        }
        head
    }

    /// The first bytes of the file, as many as are wanted at once.
    fn start(&self, chosen: &KeptFile) -> Result<Bytes, Stop> {
        let file = &chosen.file;
        let length = usize::try_from(file.facts().length).unwrap_or(usize::MAX);
        let first = self.search.first;
        let start = match (self.kept, &chosen.content) {
            (None, _) => file.read(0, first.min(length))?,
            (Some(_), Some(content)) if length <= first => return Ok(content.clone()),
            (Some(_), None) if length <= first && !self.reads => return Err(Stop::WouldWait),
            (Some(kept), _) if length <= first => {
                let content = file.read_at_hand(0, length)?.ok_or(Stop::WouldWait)?;
                kept.borrow_mut().keep_content(file, &content);
                content
            }
            // It may go from the page cache into the socket.
            (Some(_), _) => Bytes::new(),
        };
        self.files.figures.read(start.len());
        Ok(start)
    }

    fn list(&self) -> Result<Found, Stop> {
        if self.kept.is_some() {
            return Err(Stop::WouldWait);
        }
        let files = self.files;
        let names = &self.search.path.names;
        let opened = match files.confined.open(self.root()?, names, self.patience()) {
            Ok(opened) => opened,
            Err(error) => {
                return Ok(match failed(error)? {
                    Opened::Refused => Found::Refused,
                    _ => Found::Absent,
                });
            }
        };
        // A file whose path ends with a `/` that it should not have.
        let opened = File::from(opened);
        if !opened.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(Found::Absent);
        }
        let folder = Dir::new(opened).map_err(|_| FileTrouble::Unreadable)?;
        let most = files.listed.load(std::sync::atomic::Ordering::Relaxed);
        let mut names = Vec::new();
        for entry in folder {
            let entry = entry.map_err(|_| FileTrouble::Unreadable)?;
            let name = entry.file_name().to_bytes();
            if !is_servable(name) {
                continue;
            }
            if names.len() >= most {
                return Ok(Found::Names {
                    names,
                    complete: false,
                });
            }
            if let Some(is_folder) = self.is_folder(name, entry.file_type())? {
                names.push(ListedName {
                    name: name.to_vec(),
                    is_folder,
                });
            }
        }
        Ok(Found::Names {
            names,
            complete: true,
        })
    }

    /// True for a folder; `None` for what a request for this name would not find: a pipe, a link that leads nowhere or
    /// out.
    fn is_folder(&self, name: &[u8], kind: FileType) -> Result<Option<bool>, Stop> {
        match kind {
            FileType::RegularFile => Ok(Some(false)),
            FileType::Directory => Ok(Some(true)),
            // Some file systems do not say which kind a name has.
            FileType::Symlink | FileType::Unknown => {
                Ok(match self.open(&self.search.path.join(name), false)? {
                    Opened::Folder => Some(true),
                    Opened::File(_) | Opened::Refused => Some(false),
                    Opened::Absent => None,
                })
            }
            _ => Ok(None),
        }
    }

    /// `never_changes`: one that is kept is used without another look.
    fn open(&self, names: &[u8], never_changes: bool) -> Result<Opened, Stop> {
        match self.kept_file(names, never_changes) {
            Some(file) => Ok(Opened::File(file)),
            None => self.open_anew(names),
        }
    }

    /// A coding of a file. Most files have none, and of a file that is kept that costs one look for each: the folder is
    /// opened only for what is there.
    fn open_coded(&self, names: &[u8], never_changes: bool) -> Result<Opened, Stop> {
        if let Some(file) = self.kept_file(names, never_changes) {
            return Ok(Opened::File(file));
        }
        let path = || self.search.folder.root.join(OsStr::from_bytes(names));
        let plain_is_kept = self.kept.is_some() && self.root.get().is_none();
        if plain_is_kept && self.files.confined.is_absent(&path()) {
            return Ok(Opened::Absent);
        }
        self.open_anew(names)
    }

    fn kept_file(&self, names: &[u8], never_changes: bool) -> Option<KeptFile> {
        let mut kept = self.kept?.borrow_mut();
        kept.find(&self.search.folder, names, never_changes)
    }

    fn open_anew(&self, names: &[u8]) -> Result<Opened, Stop> {
        if !self.reads {
            return Err(Stop::WouldWait);
        }
        let (files, folder) = (self.files, &self.search.folder);
        let opened = files.confined.open(self.root()?, names, self.patience());
        let file = match opened {
            Ok(opened) => File::from(opened),
            Err(error) => return failed(error),
        };
        let Some(seen) = Seen::regular(&file)? else {
            let is_folder = file.metadata().is_ok_and(|metadata| metadata.is_dir());
            // A pipe, a device: nothing was waited for, and nothing is read.
            return Ok(if is_folder {
                Opened::Folder
            } else {
                Opened::Absent
            });
        };
        let file = Arc::new(OpenFile::new(file, seen, self.patience(), &files.threads));
        if let Some(kept) = self.kept {
            kept.borrow_mut().keep(folder, names, &file, &files.open);
        }
        Ok(Opened::File(KeptFile::new(file)))
    }
}

/// Searches again while the file is written to between the look at it and the reading of its beginning: nothing of it
/// was sent yet, so any of its versions may be.
fn settled<T>(mut search: impl FnMut() -> Result<T, Stop>) -> Result<T, Stop> {
    for _ in 1..TRIES {
        match search() {
            Err(Stop::Trouble(FileTrouble::Changed)) => {}
            found => return found,
        }
    }
    search()
}

/// The reason why a name was not opened. That it leads out of the folder is no reason of its own for the client.
fn failed(error: Errno) -> Result<Opened, Stop> {
    match error {
        Errno::ACCESS | Errno::PERM => Ok(Opened::Refused),
        Errno::MFILE | Errno::NFILE => Err(FileTrouble::Descriptors.into()),
        Errno::IO | Errno::STALE | Errno::NOMEM => Err(FileTrouble::Unreadable.into()),
        Errno::AGAIN => Err(Stop::WouldWait),
        // Absent, a file as a folder, out of the folder, too many links, too long, a socket.
        _ => Ok(Opened::Absent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_to_while_it_is_read_is_searched_again_a_few_times() {
        for (changes, want) in [(0, true), (1, true), (TRIES - 1, true), (TRIES, false)] {
            let mut tries = 0;
            let found = settled(|| {
                tries += 1;
                match tries {
                    again if again <= changes => Err(FileTrouble::Changed.into()),
                    _ => Ok(()),
                }
            });
            assert_eq!(found.is_ok(), want, "{changes}");
            assert_eq!(tries, (changes + 1).min(TRIES));
        }
    }

    #[test]
    fn any_other_trouble_ends_the_search() {
        for trouble in [FileTrouble::Descriptors, FileTrouble::Unreadable] {
            let mut tries = 0;
            let found: Result<(), Stop> = settled(|| {
                tries += 1;
                Err(trouble.into())
            });
            assert!(found.is_err());
            assert_eq!(tries, 1);
        }
    }
}
