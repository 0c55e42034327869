//! Flipped bits, torn files and records that were removed in place.

use std::os::unix::fs::FileExt as _;

use edgerouter_core::record::frame::{DEAD, FRONT_BYTES, STATE_AT};

use super::*;
use crate::disk::segment;

#[test]
fn no_flipped_bit_is_ever_served() {
    let folder = Temporary::new();
    let store = filled(&folder, 200);
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
    let store = filled(&folder, 40);
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
        folder.remove("idx");
        folder.remove("seg");
    }
}

#[test]
fn a_removal_that_cannot_be_appended_is_made_in_place_and_outlives_a_restart() {
    let folder = Temporary::new();
    let store = filled(&folder, 10);
    drop(store);
    let [path] = &folder.files("seg")[..] else {
        panic!("one segment is expected")
    };
    let seed = open(&folder.0, 8 << 20).disk().unwrap().inner.folder.seed;
    let (_, contents) = segment::read_sidecar(&folder.0, 0, seed).unwrap();
    let line = contents.lines()[3];
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let at = u64::from(line.offset) + STATE_AT;
    file.write_all_at(&[DEAD], at).unwrap();
    for without in [false, true] {
        if without {
            folder.remove("idx");
        }
        let store = open(&folder.0, 8 << 20);
        assert!(load(&store, "key-3").is_none());
        assert!(load(&store, "key-4").is_some());
    }
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
    let store = filled(&folder, 20);
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
