//! The promises of the disk tier, shown on real files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod damage;
mod folder;
mod restart;
mod size;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::{
    cache::freshness::{Freshness, LifetimeRule},
    http::Fields,
    plan::DiskCache,
};
use http::{HeaderValue, StatusCode};
use smallvec::{SmallVec, smallvec};

use super::{Disk, DiskFigures};
use crate::{Content, Entry, MemoryStore, Object, PurgeFacts, Store};

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

    /// Removes the files of a kind.
    fn remove(&self, extension: &str) {
        for path in self.files(extension) {
            fs::remove_file(path).unwrap();
        }
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

/// A store of 8 MiB with `key-0`, `key-1` and so on, and a body of its own for each.
fn filled(folder: &Temporary, entries: usize) -> Store {
    let store = open(&folder.0, 8 << 20);
    for i in 0..entries {
        store.insert(object(&format!("key-{i}"), &body_of(i)));
    }
    store
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
