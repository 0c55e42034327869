//! Opening a path beneath a folder, so that nothing in it leads out: not `..`, not a link, not a folder that is moved
//! while its names are looked up.
//!
//! The kernel does it where it has `openat2` (Linux 5.6). Where it refuses that call, each name is opened by itself,
//! and links are followed by hand. Links that stay beneath the folder are followed either way, absolute ones never.
//!
//! A worker opens only what the kernel finds among the names that it has at hand, on a file system of this machine:
//! [`Patience::AtHand`]. Anything else is `EAGAIN` to it, and a thread opens it.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, readlinkat, statat},
    io::{Errno, Result},
};

/// Links in one path, as many as Linux follows.
const MOST_LINKS: usize = 40;
/// `openat2` gives up if something is renamed meanwhile. After so many tries the names are opened one by one.
#[cfg(target_os = "linux")]
const TRIES: usize = 4;

/// A file is opened without waiting for it: not for the writer of a pipe, nor for a line of a terminal.
pub(crate) const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
/// A folder whose names are listed.
const LIST: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// A folder on the way: it need not be readable, and nothing is opened for it.
#[cfg(target_os = "linux")]
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const FOLDER: OFlags = LIST;

/// The wait for a disk or a server that opening may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it takes: on a thread.
    Waits,
    /// Not at all: on a worker.
    AtHand,
}

/// How paths are opened.
#[derive(Debug, Default)]
pub(crate) struct Confined {
    /// The kernel has refused `openat2`.
    by_name: AtomicBool,
}

impl Confined {
    /// Opens the folder itself. Its path is the owner's and may lead through links.
    pub(crate) fn root(&self, path: &Path, patience: Patience) -> Result<OwnedFd> {
        match patience {
            Patience::Waits => openat(CWD, path, FOLDER, Mode::empty()),
            #[cfg(target_os = "linux")]
            Patience::AtHand if !self.by_name.load(Ordering::Relaxed) => root_at_hand(path),
            Patience::AtHand => Err(Errno::AGAIN),
        }
    }

    /// True if the kernel has at hand that a path leads nowhere, from the root of the system on: then no way to the
    /// same file that stays in a folder leads anywhere either.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_absent(&self, path: &Path) -> bool {
        use rustix::fs::{ResolveFlags, openat2};
        let flags = OFlags::PATH.union(OFlags::CLOEXEC);
        let look = || openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED);
        !self.by_name.load(Ordering::Relaxed) && look().is_err_and(|error| error == Errno::NOENT)
    }

    /// Other systems do not say.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn is_absent(&self, _path: &Path) -> bool {
        false
    }

    /// Opens `names` beneath `root`, for reading.
    pub(crate) fn open(&self, root: &OwnedFd, names: &[u8], patience: Patience) -> Result<OwnedFd> {
        match patience {
            Patience::Waits => self.open_waiting(root, names),
            #[cfg(target_os = "linux")]
            Patience::AtHand => open_at_hand(root, names),
            #[cfg(not(target_os = "linux"))]
            Patience::AtHand => Err(Errno::AGAIN),
        }
    }

    fn open_waiting(&self, root: &OwnedFd, names: &[u8]) -> Result<OwnedFd> {
        if names.is_empty() {
            return openat(root, c".", LIST, Mode::empty());
        }
        #[cfg(target_os = "linux")]
        if !self.by_name.load(Ordering::Relaxed) {
            match by_kernel(root, names) {
                Err(Errno::NOSYS | Errno::PERM) => {
                    // A sandbox without the call answers EPERM to all its uses; a file that may not be opened, EACCES.
                    self.by_name.store(true, Ordering::Relaxed);
                }
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
        by_name(root, names)
    }
}

#[cfg(target_os = "linux")]
fn by_kernel(root: &OwnedFd, names: &[u8]) -> Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..TRIES {
        match openat2(root, names, FILE, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    openat2(root, names, FILE, Mode::empty(), resolve)
}

/// Opens the folder, if its names are at hand and its file system needs no server.
#[cfg(target_os = "linux")]
fn root_at_hand(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, fstatfs, openat2};
    let root = openat2(CWD, path, FOLDER, Mode::empty(), ResolveFlags::CACHED);
    let root = root.map_err(at_hand)?;
    if LOCAL.contains(&u64::try_from(fstatfs(&root)?.f_type).unwrap_or_default()) {
        Ok(root)
    } else {
        Err(Errno::AGAIN)
    }
}

/// Opens `names`, if they are at hand on the file system of `root`.
#[cfg(target_os = "linux")]
fn open_at_hand(root: &OwnedFd, names: &[u8]) -> Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    if names.is_empty() {
        return Err(Errno::AGAIN);
    }
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV
        | ResolveFlags::CACHED;
    openat2(root, names, FILE, Mode::empty(), resolve).map_err(at_hand)
}

/// The kernel does not know the call (`NOSYS`, or `PERM` in a sandbox) or its flag (`INVAL`, before Linux 5.12), or the
/// path leads to another file system or out of the folder (`XDEV`): a thread finds out which.
#[cfg(target_os = "linux")]
fn at_hand(error: Errno) -> Errno {
    match error {
        Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::XDEV => Errno::AGAIN,
        error => error,
    }
}

/// Numbers of file systems on which opening and `stat` need no server: ext2 to ext4, XFS, Btrfs, F2FS, tmpfs, ramfs and
/// overlayfs (`statfs(2)`).
#[cfg(target_os = "linux")]
const LOCAL: [u64; 7] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x0102_1994,
    0x8584_58f6,
    0x794c_7630,
];

/// Each name is opened in the folder before it, and none of them as a link: what a name stands for cannot change
/// between the look and the opening.
fn by_name(root: &OwnedFd, names: &[u8]) -> Result<OwnedFd> {
    let mut left: VecDeque<Vec<u8>> = split(names).collect();
    // The folders on the way, to return to by `..` in a link: never above the first.
    let mut way: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let here = way.last().map_or(root.as_fd(), AsFd::as_fd);
        match &*name {
            b"." => continue,
            b".." => {
                way.pop().ok_or(Errno::XDEV)?;
                continue;
            }
            _ => {}
        }
        let last = left.is_empty();
        let flags = if last { FILE } else { FOLDER };
        match openat(here, &*name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(opened) if last => return Ok(opened),
            Ok(opened) => way.push(opened),
            // A link is ELOOP as a file and ENOTDIR as a folder.
            Err(error @ (Errno::LOOP | Errno::NOTDIR)) => {
                let stat = statat(here, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                    return Err(error);
                }
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = readlinkat(here, &*name, Vec::new())?.into_bytes();
                if target.first() == Some(&b'/') {
                    return Err(Errno::XDEV);
                }
                for name in split(&target).rev() {
                    left.push_front(name);
                }
            }
            Err(error) => return Err(error),
        }
    }
    // The path ends in a folder that was returned to.
    let here = way.last().map_or(root.as_fd(), AsFd::as_fd);
    openat(here, c".", LIST, Mode::empty())
}

fn split(names: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    let each = names.split(|&byte| byte == b'/');
    each.filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        fs,
        io::Read,
        os::unix::fs::symlink,
        path::PathBuf,
        sync::{Arc, atomic::AtomicUsize},
    };

    use super::*;

    static FOLDERS: AtomicUsize = AtomicUsize::new(0);

    /// A folder of its own for each test, with a secret beside the served folder.
    struct Site {
        top: PathBuf,
        root: PathBuf,
    }

    impl Drop for Site {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.top);
        }
    }

    fn site() -> Site {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let top = std::env::temp_dir().join(format!("edge-files-{}-{number}", std::process::id()));
        let root = top.join("site");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::create_dir(top.join("siteX")).unwrap();
        for (name, text) in [
            ("site/a.txt", "a"),
            ("site/sub/b.txt", "b"),
            ("site/sub/deep/c.txt", "c"),
            ("secret.txt", "secret"),
            ("siteX/secret.txt", "secret"),
        ] {
            fs::write(top.join(name), text).unwrap();
        }
        for (target, name) in [
            ("a.txt", "to-a"),
            ("sub", "to-sub"),
            ("../a.txt", "sub/up"),
            ("./deep/../../sub//b.txt", "sub/round"),
            ("..", "sub/deep/parent"),
            ("to-a", "to-to-a"),
            ("../secret.txt", "out"),
            ("..", "top"),
            ("../..", "sub/far"),
            ("../siteX", "twin"),
            ("loop", "loop"),
            ("missing", "dangling"),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        symlink(top.join("secret.txt"), root.join("absolute")).unwrap();
        symlink(root.join("a.txt"), root.join("absolute-inside")).unwrap();
        symlink("/", root.join("slash")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
        Site { top, root }
    }

    /// The ways to open: by the kernel, and name by name.
    fn ways() -> [Confined; 2] {
        let by_name = Confined::default();
        by_name.by_name.store(true, Ordering::Relaxed);
        [Confined::default(), by_name]
    }

    fn read(confined: &Confined, root: &Path, names: &str) -> std::result::Result<String, Errno> {
        let root = confined.root(root, Patience::Waits)?;
        let opened = confined.open(&root, names.as_bytes(), Patience::Waits)?;
        let mut file = fs::File::from(opened);
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(text)
    }

    #[test]
    fn files_and_links_beneath_the_folder_are_opened() {
        let site = site();
        for confined in ways() {
            for (names, text) in [
                ("a.txt", "a"),
                ("sub/b.txt", "b"),
                ("sub/deep/c.txt", "c"),
                ("to-a", "a"),
                ("to-to-a", "a"),
                ("to-sub/b.txt", "b"),
                ("sub/up", "a"),
                ("sub/round", "b"),
                ("sub/deep/parent/b.txt", "b"),
            ] {
                let read = read(&confined, &site.root, names);
                assert_eq!(read.as_deref(), Ok(text), "{names} {confined:?}");
            }
        }
    }

    #[test]
    fn nothing_outside_the_folder_is_opened() {
        let site = site();
        for confined in ways() {
            for names in [
                "out",
                "top/secret.txt",
                "top/site/a.txt",
                "sub/far/secret.txt",
                "twin/secret.txt",
                "absolute",
                "absolute-inside",
                "slash/etc/passwd",
                "magic",
                "loop",
                "dangling",
                "../secret.txt",
                "sub/../../secret.txt",
                "a.txt/b",
                "missing",
            ] {
                let read = read(&confined, &site.root, names);
                assert!(read.is_err(), "{names} {confined:?} gave {read:?}");
            }
        }
    }

    #[test]
    fn a_folder_that_becomes_a_link_while_it_is_opened_leads_nowhere() {
        let site = site();
        let stop = Arc::new(AtomicBool::new(false));
        let (root, stopped) = (site.root.clone(), Arc::clone(&stop));
        // `flip` is a folder with a harmless file and a link out of the site, in turn.
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/secret.txt"), "harmless").unwrap();
        symlink("..", root.join("link")).unwrap();
        let turning = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for from in ["real", "link"] {
                    let _ = fs::rename(root.join(from), root.join("flip"));
                    let _ = fs::rename(root.join("flip"), root.join(from));
                }
            }
        });
        let mut harmless = 0;
        for confined in ways() {
            for _ in 0..20_000 {
                if let Ok(text) = read(&confined, &site.root, "flip/secret.txt") {
                    assert_eq!(text, "harmless");
                    harmless += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        turning.join().unwrap();
        assert!(harmless > 0);
    }

    #[test]
    fn a_worker_opens_what_a_thread_opens_or_leaves_it_to_one() {
        let site = site();
        let confined = Confined::default();
        let open = |names: &str, patience| {
            let root = confined.root(&site.root, patience)?;
            confined.open(&root, names.as_bytes(), patience).map(drop)
        };
        let mut at_hand = 0;
        for names in [
            "a.txt",
            "sub/b.txt",
            "to-a",
            "sub/up",
            "sub/round",
            "missing",
            "a.txt/b",
            "out",
            "top/secret.txt",
            "absolute",
            "magic",
            "loop",
            "../secret.txt",
            "",
        ] {
            let waited = open(names, Patience::Waits);
            match open(names, Patience::AtHand) {
                Err(Errno::AGAIN) => {}
                found => {
                    assert_eq!(found, waited, "{names}");
                    at_hand += usize::from(found.is_ok());
                }
            }
        }
        // The names were looked up a moment before.
        assert!(at_hand > 0);
    }
}
