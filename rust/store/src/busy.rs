//! Keys whose origin has just answered 503 with `Retry-After`.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use http::HeaderValue;
use parking_lot::Mutex;

/// Number of keys. Each is forgotten after a second; requests for keys beyond this go to the origin as usual.
const MOST: usize = 4096;

/// By the hash of the key: two keys that share one are treated alike.
#[derive(Debug, Default)]
pub(crate) struct BusyKeys {
    /// Number of keys: while it is 0, the lock is not taken.
    some: AtomicUsize,
    keys: Mutex<HashMap<u64, Pause>>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    retry_after: HeaderValue,
}

impl BusyKeys {
    pub(crate) fn spare(&self, key: u64, pause: Duration, retry_after: HeaderValue) {
        let now = Instant::now();
        let mut keys = self.keys.lock();
        if keys.len() >= MOST {
            keys.retain(|_, pause| pause.until > now);
        }
        if keys.len() < MOST || keys.contains_key(&key) {
            let until = now + pause;
            keys.insert(key, Pause { until, retry_after });
        }
        self.some.store(keys.len(), Ordering::Relaxed);
    }

    /// The `Retry-After` of a key whose origin must not be contacted now.
    pub(crate) fn retry_after(&self, key: impl FnOnce() -> u64) -> Option<HeaderValue> {
        if self.some.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let key = key();
        let mut keys = self.keys.lock();
        let pause = keys.get(&key)?;
        if pause.until > Instant::now() {
            return Some(pause.retry_after.clone());
        }
        keys.remove(&key);
        self.some.store(keys.len(), Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bounded_and_forgotten() {
        let busy = BusyKeys::default();
        let value = || HeaderValue::from_static("1");
        busy.spare(1, Duration::ZERO, value());
        assert_eq!(busy.retry_after(|| 1), None);
        assert_eq!(busy.some.load(Ordering::Relaxed), 0);
        for key in 0..2 * MOST as u64 {
            busy.spare(key, Duration::from_secs(60), value());
        }
        assert_eq!(busy.keys.lock().len(), MOST);
        assert_eq!(busy.retry_after(|| 7), Some(value()));
        assert_eq!(busy.retry_after(|| 2 * MOST as u64), None);
    }
}
