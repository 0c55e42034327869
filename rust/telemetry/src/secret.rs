//! Unpredictable numbers: requests' ids in error pages, boundaries of multipart content.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// Numbers that no outsider can predict: a count, hashed under keys from the operating system.
#[derive(Debug, Default)]
pub struct SecretNumbers {
    keys: [RandomState; 2],
    drawn: AtomicU64,
}

impl SecretNumbers {
    /// A new number, which no outsider can derive from earlier ones.
    pub fn unguessable(&self) -> u128 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        self.keys.iter().fold(0, |number, key| {
            number << 64 | u128::from(key.hash_one(drawn))
        })
    }
}
