//! Entries that are found, before they are written and after a restart.

use super::*;
use crate::{Variants, View};

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let folder = Temporary::new();
    let store = filled(&folder, 100);
    let names = smallvec![edgerouter_core::http::header::ACCEPT_ENCODING.into()];
    let variants = Variants::new(names, 77);
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
            folder.remove("idx");
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
fn a_scan_sees_what_is_there_and_remove_where_takes_it() {
    let folder = Temporary::new();
    let store = filled(&folder, 300);
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
