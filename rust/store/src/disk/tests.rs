//! The promises of the disk tier, shown on real files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::http::Fields;
use edgerouter_core::{
    cache::freshness::{Freshness, LifetimeRule},
    plan::DiskCache,
    record::frame::{DEAD, FRONT_BYTES, STATE_AT},
};
use http::{HeaderValue, StatusCode};
use smallvec::{SmallVec, smallvec};

use super::{Disk, DiskFigures, FolderError, segment};
use crate::{Content, Entry, MemoryStore, Object, PurgeFacts, Store, Variants, View};

/// A directory that is removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let number = fastrand::u64(..);
        let path = std::env::temp_dir().join(format!("edgerouter-disk-{number:016x}"));
        Self(path)
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|own| own == extension))
            .collect();
        files.sort();
        files
    }

    fn bytes(&self) -> u64 {
        // The writer may remove one meanwhile.
        let of = |path: &PathBuf| fs::metadata(path).map_or(0, |data| data.len());
        self.files("seg")
            .iter()
            .chain(&self.files("idx"))
            .map(of)
            .sum()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(path: &Path, size: u64) -> DiskCache {
    DiskCache {
        path: path.to_owned(),
        size,
        segment_bytes: None,
        queue_bytes: 64 << 20,
    }
}

/// Both tiers; the memory is too small for anything, so that everything found comes from disk.
fn open(path: &Path, size: u64) -> Store {
    let memory = Arc::new(MemoryStore::new(1 << 20, Some(0)));
    let disk = Disk::open(&settings(path, size), Arc::clone(&memory)).unwrap();
    Store::new(memory, Some(Arc::new(disk)))
}

fn object(key: &str, body: &[u8]) -> Arc<Entry> {
    let mut headers = Fields::new();
    headers.insert("x-key", HeaderValue::from_str(key).unwrap());
    let freshness = Freshness {
        lifetime: 60,
        rule: LifetimeRule::MaxAge,
        initial_age: 0,
        stored_at: 1_700_000_000,
        stale_while_revalidate: 0,
        stale_if_error: 0,
        must_revalidate: false,
        always_validate: false,
        immutable: false,
        when_disconnected: false,
    };
    let content = Content::Object(Object {
        status: StatusCode::OK,
        headers,
        freshness,
        took: 0,
        refresh_from: u32::MAX,
        length: body.len() as u64,
        slices: None,
        variants: Some(5),
        body: smallvec![Bytes::copy_from_slice(body)],
        upstream_status: None,
        set_aside: SmallVec::new(),
        has_validator: false,
    });
    let facts = PurgeFacts {
        last_purge: 9,
        viewer: Some("/asked".into()),
        tags: Box::new([1, 2]),
    };
    Arc::new(Entry::new(key.as_bytes(), content, facts))
}

fn body_of(seed: usize) -> Vec<u8> {
    (0..1_000 + seed % 500)
        .map(|i| (i * 7 + seed * 13) as u8)
        .collect()
}

fn load(store: &Store, key: &str) -> Option<Arc<Entry>> {
    let location = store.find(key.as_bytes())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(store.load(location, key.as_bytes()))
}

fn body(entry: &Arc<Entry>) -> Vec<u8> {
    entry.object().unwrap().body.concat()
}

fn figures(store: &Store) -> DiskFigures {
    store.disk().unwrap().figures()
}

/// Waits until everything has been written.
fn settle(store: &Store) {
    let until = Instant::now() + Duration::from_secs(20);
    while figures(store).waiting_bytes > 0 {
        assert!(Instant::now() < until, "the writer does not get done");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    for i in 0..100 {
        store.insert(object(&format!("key-{i}"), &body_of(i)));
    }
    let variants = Variants {
        names: smallvec![edgerouter_core::http::header::ACCEPT_ENCODING.into()],
        nonce: 77,
    };
    store.insert(Arc::new(Entry::marker(b"v", Content::Variants(variants))));
    let slice = Bytes::from(vec![7; 100_000]);
    store.insert(Arc::new(Entry::marker(b"s", Content::Slice(slice.clone()))));
    drop(store);
    let store = open(&folder.0, 8 << 20);
    assert_eq!(figures(&store).entries, 102);
    for i in 0..100 {
        let key = format!("key-{i}");
        let entry = load(&store, &key).unwrap();
        assert_eq!(body(&entry), body_of(i));
        assert_eq!(entry.object().unwrap().headers.get("x-key").unwrap(), *key);
        let PurgeFacts {
            last_purge,
            viewer,
            tags,
        } = entry.facts();
        assert_eq!(
            (last_purge, viewer.as_deref(), &tags[..]),
            (9, Some("/asked"), &[1, 2][..])
        );
    }
    let entry = load(&store, "v").unwrap();
    let View::Variants(read) = entry.view() else {
        panic!("{entry:?}")
    };
    assert_eq!(
        (&read.names[..], read.nonce),
        (
            &[edgerouter_core::http::header::ACCEPT_ENCODING.into()][..],
            77
        )
    );
    assert_eq!(load(&store, "s").unwrap().slice(), Some(&slice));
    assert_eq!(figures(&store).damaged, 0);
}

#[test]
fn what_was_removed_or_replaced_stays_so_after_a_restart_with_and_without_sidecars() {
    for without in [false, true] {
        let folder = Temporary::new();
        let store = open(&folder.0, 8 << 20);
        for round in 0..3 {
            for i in 0..50 {
                store.insert(object(&format!("key-{i}"), &body_of(i + round * 1000)));
            }
            settle(&store);
        }
        for i in 0..10 {
            assert!(store.remove(format!("key-{i}").as_bytes()));
        }
        assert!(!store.remove(b"never"));
        drop(store);
        if without {
            folder
                .files("idx")
                .iter()
                .for_each(|path| fs::remove_file(path).unwrap());
        }
        let store = open(&folder.0, 8 << 20);
        assert_eq!(figures(&store).entries, 40);
        for i in 0..50 {
            let found = load(&store, &format!("key-{i}")).map(|entry| body(&entry));
            let want = (i >= 10).then(|| body_of(i + 2000));
            assert_eq!(found, want, "key-{i}");
        }
    }
}

#[test]
fn an_entry_is_found_before_it_is_written_and_a_replaced_one_never() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    for i in 0..2_000 {
        store.insert(object("key", &body_of(i)));
        assert_eq!(body(&load(&store, "key").unwrap()), body_of(i));
    }
    store.remove(b"key");
    assert!(store.find(b"key").is_none());
    drop(store);
    assert!(open(&folder.0, 8 << 20).find(b"key").is_none());
}

#[test]
fn the_size_is_held_within_two_percent_and_the_newest_stay() {
    let folder = Temporary::new();
    let size = 8 << 20;
    let store = open(&folder.0, size);
    for i in 0..30_000 {
        store.insert(object(&format!("key-{i}"), &body_of(i)));
        if i % 500 == 0 {
            settle(&store);
            assert!(folder.bytes() <= size, "{}", folder.bytes());
        }
    }
    settle(&store);
    let (told, real) = (figures(&store).bytes, folder.bytes());
    assert!(real <= size && real >= size / 100 * 98, "{real} of {size}");
    // The active segment's sidecar is counted and not written yet.
    assert!(told >= real && told <= size, "{told} told, {real} there");
    assert_eq!(body(&load(&store, "key-29999").unwrap()), body_of(29_999));
    assert!(store.find(b"key-1").is_none());
    drop(store);
    let store = open(&folder.0, size / 2);
    settle(&store);
    let until = Instant::now() + Duration::from_secs(10);
    while folder.bytes() > size / 2 {
        assert!(Instant::now() < until, "a smaller size is not kept");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(load(&store, "key-29999").is_some());
}

#[test]
fn what_is_used_survives_what_is_not() {
    let folder = Temporary::new();
    let store = open(&folder.0, 4 << 20);
    for i in 0..20 {
        store.insert(object(&format!("hot-{i}"), &body_of(i)));
    }
    settle(&store);
    for i in 0..20_000 {
        store.insert(object(&format!("cold-{i}"), &body_of(i)));
        if i % 100 == 0 {
            settle(&store);
            for hot in 0..20 {
                assert_eq!(
                    body(&load(&store, &format!("hot-{hot}")).unwrap()),
                    body_of(hot)
                );
            }
        }
    }
    assert!(figures(&store).evicted > 10_000);
}

#[test]
fn no_flipped_bit_is_ever_served() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    for i in 0..200 {
        store.insert(object(&format!("key-{i}"), &body_of(i)));
    }
    drop(store);
    let mut random = fastrand::Rng::with_seed(5);
    for extension in ["seg", "idx"] {
        for path in folder.files(extension) {
            let mut bytes = fs::read(&path).unwrap();
            for _ in 0..3 {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
            }
            fs::write(&path, bytes).unwrap();
        }
    }
    let store = open(&folder.0, 8 << 20);
    let mut whole = 0;
    for i in 0..200 {
        let key = format!("key-{i}");
        if let Some(entry) = load(&store, &key) {
            assert_eq!(body(&entry), body_of(i), "{key}");
            assert_eq!(entry.object().unwrap().headers.get("x-key").unwrap(), *key);
            whole += 1;
        }
    }
    // A damaged record invalidates everything that it may have replaced or removed: how many those are depends on its
    // place.
    assert!(whole < 200, "{whole} of 200 are whole");
}

#[test]
fn a_torn_tail_loses_what_was_torn_and_no_more() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    for i in 0..40 {
        store.insert(object(&format!("key-{i}"), &body_of(i)));
    }
    drop(store);
    let [path] = &folder.files("seg")[..] else {
        panic!("one segment is expected")
    };
    fs::remove_file(path.with_extension("idx")).unwrap();
    let whole = fs::read(path).unwrap();
    for cut in (0..whole.len()).step_by(whole.len() / 37) {
        fs::write(path, &whole[..cut]).unwrap();
        let store = open(&folder.0, 8 << 20);
        let there = (0..40)
            .take_while(|i| {
                load(&store, &format!("key-{i}")).is_some_and(|e| body(&e) == body_of(*i))
            })
            .count() as u64;
        assert_eq!(figures(&store).entries, there, "cut at {cut}");
        drop(store);
        folder
            .files("idx")
            .iter()
            .for_each(|path| fs::remove_file(path).unwrap());
        folder
            .files("seg")
            .iter()
            .for_each(|path| fs::remove_file(path).unwrap());
    }
}

#[test]
fn a_removal_that_cannot_be_appended_is_made_in_place_and_outlives_a_restart() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    for i in 0..10 {
        store.insert(object(&format!("key-{i}"), &body_of(i)));
    }
    drop(store);
    let [path] = &folder.files("seg")[..] else {
        panic!("one segment is expected")
    };
    let seed = open(&folder.0, 8 << 20).disk().unwrap().inner.folder.seed;
    let (_, contents) = segment::read_sidecar(&folder.0, 0, seed).unwrap();
    let line = contents.lines()[3];
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let at = u64::from(line.offset) + edgerouter_core::record::frame::STATE_AT;
    file.write_all_at(&[edgerouter_core::record::frame::DEAD], at)
        .unwrap();
    for without in [false, true] {
        if without {
            folder
                .files("idx")
                .iter()
                .for_each(|path| fs::remove_file(path).unwrap());
        }
        let store = open(&folder.0, 8 << 20);
        assert!(load(&store, "key-3").is_none());
        assert!(load(&store, "key-4").is_some());
    }
}

#[test]
fn a_scan_sees_what_is_there_and_remove_where_takes_it() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    for i in 0..300 {
        store.insert(object(&format!("key-{i}"), &body_of(i)));
    }
    store.remove(b"key-7");
    let disk = Arc::clone(store.disk().unwrap());
    let seen = |disk: &Disk| {
        let mut keys = Vec::new();
        disk.scan(|meta| keys.push(String::from_utf8(meta.key.to_vec()).unwrap()));
        keys.sort();
        keys
    };
    settle(&store);
    assert_eq!(seen(&disk).len(), 299);
    let (entries, bytes) = disk.remove_where(|meta| meta.key.starts_with(b"key-1"));
    assert_eq!(entries, 111);
    assert!(bytes > 111_000);
    assert_eq!(seen(&disk).len(), 188);
    drop((store, disk));
    let store = open(&folder.0, 8 << 20);
    assert_eq!(seen(store.disk().unwrap()).len(), 188);
    assert!(store.find(b"key-12").is_none());
}

/// The byte at which a key's newest record begins in a segment's file.
fn place_of(bytes: &[u8], key: &str) -> usize {
    let begins = |at: usize| bytes[at..].starts_with(b"edR1");
    (0..bytes.len() - FRONT_BYTES)
        .rev()
        .find(|&at| begins(at) && bytes[at + FRONT_BYTES..].starts_with(key.as_bytes()))
        .unwrap()
}

#[test]
fn a_damaged_removal_or_replacement_brings_nothing_older_back() {
    for (victim, whole_sidecar) in [("removal", false), ("other", false), ("other", true)] {
        let folder = Temporary::new();
        let store = open(&folder.0, 8 << 20);
        for name in ["removed", "replaced", "kept"] {
            store.insert(object(name, name.as_bytes()));
        }
        settle(&store);
        drop(store);
        // Another segment: its records hide those of the first one.
        let store = open(&folder.0, 8 << 20);
        store.remove(b"removed");
        store.insert(object("replaced", b"another body"));
        store.insert(object("other", b"x"));
        store.insert(object("last", b"y"));
        settle(&store);
        drop(store);
        let segment = folder.files("seg").pop().unwrap();
        let sidecar = folder.files("idx").pop().unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        // The removal has no key, and comes first.
        let at = if victim == "removal" {
            0
        } else {
            place_of(&bytes, victim)
        };
        bytes[at + 40] ^= 1;
        fs::write(&segment, &bytes).unwrap();
        if !whole_sidecar {
            fs::remove_file(&sidecar).unwrap();
        }
        for _ in 0..2 {
            let store = open(&folder.0, 8 << 20);
            assert!(
                load(&store, "removed").is_none(),
                "{victim} {whole_sidecar}"
            );
            let replaced = load(&store, "replaced");
            if let Some(entry) = &replaced {
                assert_eq!(body(entry), b"another body");
            }
            assert!(
                load(&store, "last").is_some(),
                "what is behind the damage is sure"
            );
            // With a whole sidecar nothing is in doubt.
            assert_eq!(load(&store, "kept").is_some(), whole_sidecar);
            assert_eq!(replaced.is_some(), whole_sidecar || victim == "removal");
            assert!(load(&store, "other").is_none() || victim == "removal");
        }
    }
}

#[test]
fn a_write_that_was_cut_off_costs_nothing_older() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    for i in 0..20 {
        store.insert(object(&format!("key-{i}"), &body_of(i)));
    }
    settle(&store);
    drop(store);
    let (segment, sidecar) = (
        folder.files("seg").pop().unwrap(),
        folder.files("idx").pop().unwrap(),
    );
    let whole = fs::read(&segment).unwrap();
    let last = place_of(&whole, "key-19");
    for cut in (last..whole.len()).step_by(7) {
        let _ = fs::remove_file(&sidecar);
        fs::write(&segment, &whole[..cut]).unwrap();
        let store = open(&folder.0, 8 << 20);
        assert_eq!(
            figures(&store).entries,
            19,
            "cut at {cut} of {}",
            whole.len()
        );
    }
    // The traces of a probe or a power failure.
    for cut in [last, last + 8, last + 60, last + 100] {
        let _ = fs::remove_file(&sidecar);
        fs::write(&segment, [&whole[..cut], &[0; 5_000]].concat()).unwrap();
        assert_eq!(
            figures(&open(&folder.0, 8 << 20)).entries,
            19,
            "zeros from {cut}"
        );
    }
}

#[test]
fn a_segment_that_was_cut_off_under_its_sidecar_hides_what_it_hid() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    store.insert(object("replaced", b"old"));
    store.insert(object("kept", b"kept"));
    settle(&store);
    drop(store);
    let store = open(&folder.0, 8 << 20);
    store.insert(object("first", b"first"));
    store.insert(object("replaced", b"new"));
    settle(&store);
    drop(store);
    let segment = folder.files("seg").pop().unwrap();
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..place_of(&bytes, "replaced") + 20]).unwrap();
    let store = open(&folder.0, 8 << 20);
    assert!(load(&store, "replaced").is_none());
    assert!(load(&store, "kept").is_some() && load(&store, "first").is_some());
}

#[test]
fn a_record_that_was_removed_in_place_stays_so_whatever_bit_of_that_flips() {
    let folder = Temporary::new();
    let store = open(&folder.0, 8 << 20);
    store.insert(object("key", b"body"));
    settle(&store);
    drop(store);
    let segment = folder.files("seg").pop().unwrap();
    let whole = fs::read(&segment).unwrap();
    for bit in 0..8 {
        let mut dead = whole.clone();
        dead[STATE_AT as usize] = DEAD ^ (1 << bit);
        fs::write(&segment, dead).unwrap();
        let store = open(&folder.0, 8 << 20);
        assert!(load(&store, "key").is_none(), "bit {bit}");
    }
}

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
    let store = open(&folder.0, 8 << 20);
    for i in 0..10_000 {
        store.insert(object(&format!("key-{i}"), &body_of(i)));
    }
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
