//! The search for the file of a request, as a thread does it.

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
    confine::Confined,
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

impl Search {
    pub(crate) fn run(self, files: &Files) -> Result<Found, FileTrouble> {
        let root = Confined::root(&self.folder.root).map_err(|error| {
            if matches!(error, Errno::MFILE | Errno::NFILE) {
                return FileTrouble::Descriptors;
            }
            let folder = self.folder.root.display();
            tracing::warn!(%error, %folder, "the folder of a route cannot be opened");
            FileTrouble::Unreadable
        })?;
        let found = self.own(files, &root)?;
        if let (Found::Absent, Some(fallback), true) =
            (&found, &self.folder.fallback, self.takes_fallback)
        {
            return self.file(files, &root, fallback.as_bytes().to_vec());
        }
        Ok(found)
    }

    /// The answer for the path itself, without the fall-back.
    fn own(&self, files: &Files, root: &OwnedFd) -> Result<Found, FileTrouble> {
        if !self.path.is_folder {
            if self.path.names.is_empty() {
                return Ok(Found::Folder);
            }
            return self.file(files, root, self.path.names.clone());
        }
        if let Some(index) = &self.folder.index {
            let found = self.file(files, root, self.path.join(index))?;
            // A folder with the name of an index file is none.
            if !matches!(found, Found::Absent | Found::Folder) {
                return Ok(found);
            }
        }
        if self.folder.listing {
            self.list(files, root)
        } else {
            Ok(Found::Absent)
        }
    }

    fn file(&self, files: &Files, root: &OwnedFd, names: Vec<u8>) -> Result<Found, FileTrouble> {
        let (plain, plain_facts) = match open(&files.confined, root, &names)? {
            Opened::File(file, facts) => (file, facts),
            Opened::Folder => return Ok(Found::Folder),
            Opened::Absent => return Ok(Found::Absent),
            Opened::Refused => return Ok(Found::Refused),
        };
        let mut chosen = None;
        for coding in response::codings(&self.folder, &names, &self.accepted) {
            if coding == ContentCoding::Identity {
                chosen = Some((plain, plain_facts, coding));
                break;
            }
            let coded = [&*names, coding.extension().as_bytes()].concat();
            if let Opened::File(file, facts) = open(&files.confined, root, &coded)?
                && facts.follows(&plain_facts)
            {
                chosen = Some((file, facts, coding));
                break;
            }
        }
        let Some((file, facts, coding)) = chosen else {
            return Ok(Found::NotAcceptable);
        };
        let first = self
            .first
            .min(usize::try_from(facts.length).unwrap_or(usize::MAX));
        let start = open_file::read_at(&file, 0, first)?;
        files.figures.read(start.len());
        let rest = if start.len() as u64 == facts.length {
            None
        } else {
            let open = OpenFile::new(file, facts, &files.open, &files.threads)?;
            Some(Arc::new(open))
        };
        Ok(Found::File(FoundFile {
            names,
            facts,
            coding,
            start,
            rest,
        }))
    }

    fn list(&self, files: &Files, root: &OwnedFd) -> Result<Found, FileTrouble> {
        let opened = match files.confined.open(root, &self.path.names) {
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
}

fn open(confined: &Confined, root: &OwnedFd, names: &[u8]) -> Result<Opened, FileTrouble> {
    let file = match confined.open(root, names) {
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

/// The reason why a name was not opened. That it leads out of the folder is no reason of its own for the client.
fn failed(error: Errno) -> Result<Opened, FileTrouble> {
    match error {
        Errno::ACCESS | Errno::PERM => Ok(Opened::Refused),
        Errno::MFILE | Errno::NFILE => Err(FileTrouble::Descriptors),
        Errno::IO | Errno::STALE | Errno::NOMEM => Err(FileTrouble::Unreadable),
        // Absent, a file as a folder, out of the folder, too many links, too long, a socket.
        _ => Ok(Opened::Absent),
    }
}
