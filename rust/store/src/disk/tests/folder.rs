//! The folder, its owner, and files in it that are not the edge's.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::disk::FolderError;

#[test]
fn a_directory_has_one_owner_and_only_that_one_may_read_it() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    store.insert(object("key", b"body"));
    settle(&store);
    let memory = Arc::new(MemoryStore::new(1 << 20, None));
    let refused = Disk::open(&settings(&folder.0, 8 << 20), Arc::clone(&memory)).unwrap_err();
    assert!(matches!(refused, FolderError::Locked(_)), "{refused}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.0), 0o700);
    for entry in fs::read_dir(&folder.0).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
    drop(store);
    assert!(Disk::open(&settings(&folder.0, 8 << 20), memory).is_ok());
}

#[test]
fn files_of_others_are_left_alone() {
    let folder = Temporary::new();
    drop(open(&folder.0, 8 << 20));
    for name in ["notes.txt", "1.seg", "0000000g.seg"] {
        fs::write(folder.0.join(name), "mine").unwrap();
    }
    fs::remove_file(folder.0.join("seed")).unwrap();
    let store = filled(&folder, 10_000);
    drop(store);
    for name in ["notes.txt", "1.seg", "0000000g.seg"] {
        assert_eq!(fs::read(folder.0.join(name)).unwrap(), b"mine");
    }
}

#[test]
fn another_directorys_segments_are_not_believed() {
    let (one, other) = (Temporary::new(), Temporary::new());
    let store = open(&one.0, 8 << 20);
    store.insert(object("key", b"of another edge"));
    drop(store);
    drop(open(&other.0, 8 << 20));
    for path in one.files("seg").iter().chain(&one.files("idx")) {
        fs::copy(path, other.0.join(path.file_name().unwrap())).unwrap();
    }
    let store = open(&other.0, 8 << 20);
    assert_eq!(figures(&store).entries, 0);
    assert!(load(&store, "key").is_none());
}
