//! The folder of accounts, keys and certificates. Processes share it: a file is replaced as a whole, and an order holds
//! a lock.
//!
//! A key and its chain are one file, so that no process ever reads two that do not belong together.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use edgerouter_core::acme::{is_token, normalised_name};
use edgerouter_telemetry::regular;

use crate::issued::Challenge;

/// Largest file that is read.
const LARGEST: u64 = 1 << 20;
/// Age from which the file of a token, and one that is not written to its end, is left over from a process that ended.
const STALE: Duration = Duration::from_secs(3_600);

/// The end of the name of a file that is being written.
const NEW: &str = ".new";
/// The end of the name of a file by which the room for an account is tried.
const ROOM_ENDING: &str = ".room";

/// A folder, made when something is first stored in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Storage(PathBuf);

/// A lock on a certificate or an account, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Locked {
    _file: File,
}

/// A file as it was last seen: changed if another process has replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Storage {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn certificate(&self, name: &str) -> PathBuf {
        // An underscore is in no name, so this is no other's file.
        let file = match name.strip_prefix("*.") {
            Some(rest) => format!("_wildcard.{rest}.pem"),
            None => format!("{name}.pem"),
        };
        self.0.join("certificates").join(file)
    }

    fn account(&self, name: &str) -> PathBuf {
        self.0.join("accounts").join(format!("{name}.json"))
    }

    /// `None` for texts that would lead elsewhere.
    fn challenge(&self, challenge: &Challenge) -> Option<PathBuf> {
        let file = match challenge {
            Challenge::Token(token) => is_token(token).then(|| token.to_string())?,
            // A dot is in no token.
            Challenge::Handshake(name) => format!("tls.{}", normalised_name(name).ok()?),
        };
        Some(self.0.join("challenges").join(file))
    }

    /// The key and chain of a name with the stamp of their file; `None`: there are none.
    pub(crate) fn read_certificate(&self, name: &str) -> io::Result<Option<(Vec<u8>, Stamp)>> {
        read(&self.certificate(name))
    }

    /// The stamp of a name's file.
    pub(crate) fn stamp(&self, name: &str) -> Option<Stamp> {
        fs::metadata(self.certificate(name))
            .ok()
            .map(|it| stamp(&it))
    }

    pub(crate) fn write_certificate(&self, name: &str, pem: &[u8]) -> io::Result<()> {
        replace(&self.certificate(name), pem)
    }

    pub(crate) fn read_account(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(read(&self.account(name))?.map(|(bytes, _)| bytes))
    }

    pub(crate) fn write_account(&self, name: &str, json: &[u8]) -> io::Result<()> {
        replace(&self.account(name), json)
    }

    /// Fails if there is no room for an account.
    pub(crate) fn try_account(&self, name: &str) -> io::Result<()> {
        const ROOM: usize = 4_096;
        let mut path = self.account(name).into_os_string();
        path.push(ROOM_ENDING);
        let path = PathBuf::from(path);
        let tried = replace(&path, &[b' '; ROOM]);
        let _ = fs::remove_file(path);
        tried
    }

    /// Keeps the account of which an issuer knows nothing any more under another name.
    pub(crate) fn retire_account(&self, name: &str) -> io::Result<()> {
        let path = self.account(name);
        fs::rename(&path, path.with_extension("json.gone"))
    }

    /// The key authorization that a process has stored for a challenge.
    pub(crate) fn read_proof(&self, challenge: &Challenge) -> Option<String> {
        let path = self.challenge(challenge)?;
        let written = fs::metadata(&path).and_then(|it| it.modified()).ok()?;
        if is_stale(written) {
            return None;
        }
        String::from_utf8(read(&path).ok()??.0).ok()
    }

    pub(crate) fn write_proof(&self, challenge: &Challenge, authorization: &str) -> io::Result<()> {
        match self.challenge(challenge) {
            Some(path) => replace(&path, authorization.as_bytes()),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(crate) fn remove_proof(&self, challenge: &Challenge) {
        if let Some(path) = self.challenge(challenge) {
            let _ = fs::remove_file(path);
        }
    }

    /// Removes tokens, and files that were not written to their end, that processes which ended have left. The latter
    /// may hold keys.
    pub(crate) fn sweep(&self) {
        for folder in ["accounts", "certificates", "challenges"] {
            let Ok(files) = fs::read_dir(self.0.join(folder)) else {
                continue;
            };
            for file in files.flatten() {
                let is_left = folder == "challenges" || is_unfinished(&file.file_name());
                let written = file.metadata().and_then(|it| it.modified());
                if is_left && written.is_ok_and(is_stale) {
                    let _ = fs::remove_file(file.path());
                }
            }
        }
    }

    /// The lock of a certificate or an account; `None`: another process has it. It ends with the process, however that
    /// ends.
    pub(crate) fn lock(&self, name: &str) -> io::Result<Option<Locked>> {
        let folder = self.0.join("locks");
        make_folder(&folder)?;
        let name = name
            .strip_prefix("*.")
            .map_or_else(|| name.to_owned(), |rest| format!("_wildcard.{rest}"));
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(format!("{name}.lock")))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Locked { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// True for a name that `replace` gives, or `try_account`.
fn is_unfinished(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        (name.starts_with('.') && name.ends_with(NEW)) || name.ends_with(ROOM_ENDING)
    })
}

fn is_stale(written: SystemTime) -> bool {
    written.elapsed().is_ok_and(|age| age > STALE)
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    }
}

fn read(path: &Path) -> io::Result<Option<(Vec<u8>, Stamp)>> {
    // Before its bytes: a file that changes in between is read again.
    let read =
        fs::metadata(path).and_then(|found| Ok((regular::read(path, LARGEST)?, stamp(&found))));
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file that only this user may read, in place of the one before: whole, or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let fresh = folder.join(format!(".{}.{number}{NEW}", std::process::id()));
    // One that a process of the same number has left.
    let _ = fs::remove_file(&fresh);
    let written = (|| {
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("edgerouter-acme-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn keys_are_readable_for_the_user_only_and_replaced_as_a_whole() {
        let folder = folder("keys");
        let storage = Storage::new(&folder);
        assert!(storage.read_certificate("a.example").unwrap().is_none());
        storage.write_certificate("a.example", b"one").unwrap();
        let (one, before) = storage.read_certificate("a.example").unwrap().unwrap();
        storage.write_certificate("a.example", b"two").unwrap();
        let (two, after) = storage.read_certificate("a.example").unwrap().unwrap();
        assert_eq!((&*one, &*two), (&b"one"[..], &b"two"[..]));
        assert!(before != after && storage.stamp("a.example") == Some(after));
        storage.write_certificate("*.example", b"wild").unwrap();
        for (path, mode) in [
            ("certificates/a.example.pem", 0o600),
            ("certificates/_wildcard.example.pem", 0o600),
            ("certificates", 0o700),
        ] {
            let found = fs::metadata(folder.join(path))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(found & 0o777, mode, "{path}");
        }
        assert_eq!(
            fs::read_dir(folder.join("certificates")).unwrap().count(),
            2
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_lock_is_one_holders_at_a_time() {
        let folder = folder("locks");
        let storage = Storage::new(&folder);
        let first = storage.lock("a.example").unwrap();
        assert!(first.is_some() && storage.lock("a.example").unwrap().is_none());
        assert!(storage.lock("b.example").unwrap().is_some());
        drop(first);
        assert!(storage.lock("a.example").unwrap().is_some());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_token_is_read_while_it_is_live_and_never_from_another_path() {
        let folder = folder("tokens");
        let storage = Storage::new(&folder);
        let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
        let challenge = Challenge::Token(token.into());
        assert_eq!(storage.read_proof(&challenge), None);
        storage.write_proof(&challenge, "answer").unwrap();
        assert_eq!(storage.read_proof(&challenge).as_deref(), Some("answer"));
        let elsewhere = format!("../challenges/{token}");
        for other in [
            Challenge::Token(elsewhere.as_str().into()),
            Challenge::Handshake(elsewhere.into()),
        ] {
            assert_eq!(storage.read_proof(&other), None);
            assert!(storage.write_proof(&other, "").is_err());
        }
        let handshake = Challenge::Handshake("a.example".into());
        storage.write_proof(&handshake, "shown").unwrap();
        assert_eq!(storage.read_proof(&handshake).as_deref(), Some("shown"));
        storage.remove_proof(&handshake);
        assert_eq!(storage.read_proof(&handshake), None);
        let old = SystemTime::now() - STALE - Duration::from_secs(1);
        let file = File::options()
            .write(true)
            .open(folder.join("challenges").join(token))
            .unwrap();
        file.set_modified(old).unwrap();
        assert_eq!(storage.read_proof(&challenge), None);
        storage.sweep();
        assert_eq!(fs::read_dir(folder.join("challenges")).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_a_process_did_not_write_to_its_end_is_removed_when_it_is_old() {
        let folder = folder("left");
        let storage = Storage::new(&folder);
        storage.write_certificate("a.example", b"kept").unwrap();
        storage.write_account("issuer", b"kept").unwrap();
        let files = [
            ("certificates/.17.0.new", true),
            ("certificates/.18.1.new", false),
            ("certificates/by-hand.new", true),
            ("accounts/.17.3.new", true),
            ("accounts/issuer.json.room", true),
        ];
        for (name, old) in files {
            let file = File::create(folder.join(name)).unwrap();
            let age = STALE + Duration::from_secs(1);
            if old {
                file.set_modified(SystemTime::now() - age).unwrap();
            }
        }
        storage.sweep();
        let mut left: Vec<_> = ["accounts", "certificates"]
            .iter()
            .flat_map(|of| fs::read_dir(folder.join(of)).unwrap())
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [".18.1.new", "a.example.pem", "by-hand.new", "issuer.json"]
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
        let folder = folder("pipe");
        let storage = Storage::new(&folder);
        storage.write_certificate("a.example", b"kept").unwrap();
        let path = folder.join("certificates/b.example.pem");
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
        let error = storage.read_certificate("b.example").unwrap_err();
        assert_eq!(error.to_string(), "it is a pipe; name a regular file");
        fs::remove_dir_all(folder).unwrap();
    }
}
