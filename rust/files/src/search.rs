//! The search for the file of a request: by a worker among what the kernel has at hand, or by a thread, which may wait.

use std::{fs::File, os::fd::OwnedFd, sync::Arc};

use bytes::Bytes;
use edgerouter_core::{
    files::{FileFacts, FilePath, listing::ListedName, path::is_hidden, response},
    http::coding::ContentCoding,
    plan::FileFolder,
};
use rustix::{fs::Dir, io::Errno};

use super::{
    FileTrouble, Files,
    confine::Patience,
    open_file::{self, OpenFile},
};

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
    /// Its path in the folder, which may be that of the index file or the fall-back.
    pub names: Vec<u8>,
    /// Of the file in this coding.
    pub facts: FileFacts,
    /// The coding of its content.
    pub coding: ContentCoding,
    /// Its first bytes.
    pub start: Bytes,
    /// `None`: `start` is all of it.
    pub rest: Option<Arc<OpenFile>>,
}

/// Kinds of things that a name stands for.
enum Opened {
    File(File, FileFacts),
    Folder,
    Absent,
    Refused,
}

/// One run of a search.
struct Run<'s> {
    search: &'s Search,
    files: &'s Files,
    root: OwnedFd,
    patience: Patience,
}

impl Search {
    /// On a thread.
    pub(crate) fn run(&self, files: &Files) -> Result<Found, FileTrouble> {
        self.run_with(files, Patience::Waits)
    }

    /// On a worker; `None`: the kernel would have to wait for something.
    pub(crate) fn at_hand(&self, files: &Files) -> Option<Result<Found, FileTrouble>> {
        let found = self.run_with(files, Patience::AtHand);
        (!matches!(found, Err(FileTrouble::WouldWait))).then_some(found)
    }

    fn run_with(&self, files: &Files, patience: Patience) -> Result<Found, FileTrouble> {
        let root = files.confined.root(&self.folder.root, patience);
        let root = root.map_err(|error| match error {
            Errno::MFILE | Errno::NFILE => FileTrouble::Descriptors,
            _ if patience == Patience::AtHand => FileTrouble::WouldWait,
            error => {
                let folder = self.folder.root.display();
                tracing::warn!(%error, %folder, "the folder of a route cannot be opened");
                FileTrouble::Unreadable
            }
        })?;
        let run = Run {
            search: self,
            files,
            root,
            patience,
        };
        let found = run.own()?;
        if let (Found::Absent, Some(fallback), true) =
            (&found, &self.folder.fallback, self.takes_fallback)
        {
            return run.file(fallback.as_bytes().to_vec());
        }
        Ok(found)
    }
}

impl Run<'_> {
    /// The answer for the path itself, without the fall-back.
    fn own(&self) -> Result<Found, FileTrouble> {
        let Search { path, folder, .. } = self.search;
        if !path.is_folder {
            if path.names.is_empty() {
                return Ok(Found::Folder);
            }
            return self.file(path.names.clone());
        }
        if let Some(index) = &folder.index {
            let found = self.file(path.join(index))?;
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

    fn file(&self, names: Vec<u8>) -> Result<Found, FileTrouble> {
        let (search, files) = (self.search, self.files);
        let (plain, plain_facts) = match self.open(&names)? {
            Opened::File(file, facts) => (file, facts),
            Opened::Folder => return Ok(Found::Folder),
            Opened::Absent => return Ok(Found::Absent),
            Opened::Refused => return Ok(Found::Refused),
        };
        let mut chosen = None;
        for coding in response::codings(&search.folder, &names, &search.accepted) {
            if coding == ContentCoding::Identity {
                chosen = Some((plain, plain_facts, coding));
                break;
            }
            let coded = [&*names, coding.extension().as_bytes()].concat();
            if let Opened::File(file, facts) = self.open(&coded)?
                && facts.follows(&plain_facts)
            {
                chosen = Some((file, facts, coding));
                break;
            }
        }
        let Some((file, facts, coding)) = chosen else {
            return Ok(Found::NotAcceptable);
        };
        let length = usize::try_from(facts.length).unwrap_or(usize::MAX);
        let start = match self.patience {
            Patience::Waits => open_file::read_at(&file, 0, search.first.min(length))?,
            Patience::AtHand if length <= search.first => {
                open_file::read_at_hand(&file, 0, length)?.ok_or(FileTrouble::WouldWait)?
            }
            // It may go from the page cache into the socket.
            Patience::AtHand => Bytes::new(),
        };
        files.figures.read(start.len());
        let rest = if start.len() as u64 == facts.length {
            None
        } else {
            Some(Arc::new(files.opened(file, facts, self.patience)?))
        };
        Ok(Found::File(FoundFile {
            names,
            facts,
            coding,
            start,
            rest,
        }))
    }

    fn list(&self) -> Result<Found, FileTrouble> {
        if self.patience == Patience::AtHand {
            return Err(FileTrouble::WouldWait);
        }
        let files = self.files;
        let names = &self.search.path.names;
        let opened = match files.confined.open(&self.root, names, self.patience) {
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
            if is_hidden(name) {
                continue;
            }
            if names.len() >= most {
                return Ok(Found::Names {
                    names,
                    complete: false,
                });
            }
            names.push(ListedName {
                name: name.to_vec(),
                is_folder: entry.file_type().is_dir(),
            });
        }
        Ok(Found::Names {
            names,
            complete: true,
        })
    }

    fn open(&self, names: &[u8]) -> Result<Opened, FileTrouble> {
        let opened = self.files.confined.open(&self.root, names, self.patience);
        let file = match opened {
            Ok(opened) => File::from(opened),
            Err(error) => return failed(error),
        };
        Ok(match open_file::facts(&file)? {
            Some(facts) => Opened::File(file, facts),
            None if file.metadata().is_ok_and(|metadata| metadata.is_dir()) => Opened::Folder,
            // A pipe, a device: nothing was waited for, and nothing is read.
            None => Opened::Absent,
        })
    }
}

/// The reason why a name was not opened. That it leads out of the folder is no reason of its own for the client.
fn failed(error: Errno) -> Result<Opened, FileTrouble> {
    match error {
        Errno::ACCESS | Errno::PERM => Ok(Opened::Refused),
        Errno::MFILE | Errno::NFILE => Err(FileTrouble::Descriptors),
        Errno::IO | Errno::STALE | Errno::NOMEM => Err(FileTrouble::Unreadable),
        Errno::AGAIN => Err(FileTrouble::WouldWait),
        // Absent, a file as a folder, out of the folder, too many links, too long, a socket.
        _ => Ok(Opened::Absent),
    }
}
