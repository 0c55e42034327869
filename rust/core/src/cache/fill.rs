//! Decides whether a range request has slices of a large object fetched and stored, or gets the requested bytes only.
//!
//! A slice costs the origin up to its whole size, whatever part of it was requested: a client that requests one byte of
//! each of many objects has the origin send a thousand times what it receives (RFC 9110 §17.15). So an object is filled
//! at the second request for it, and no address makes the origin send much more than it takes itself. Both are
//! remembered in tables of a fixed size; a forgotten row costs one more request that stores nothing, and is never
//! wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::outcome::Detail;

/// When range requests fill the slices of an object: the policy's `fill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fill {
    /// From the second request for an object within [`REMEMBERED`] on.
    #[default]
    Second,
    /// From the first request on.
    First,
    /// A range request stores nothing.
    Never,
}

impl Fill {
    /// Spelling in the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::First => "first",
            Self::Never => "never",
        }
    }
}

/// How long a first request is remembered, in seconds.
pub const REMEMBERED: u32 = 600;

/// Why a request stores no slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFilled {
    /// The policy's `fill` is `never`.
    Never,
    /// It is the first one.
    First,
    /// The address has had the origin send too much.
    Bound,
    /// The request has `no-store` (RFC 9111 §5.2.1.5).
    NoStore,
    /// The request has credentials, and the stored response does not permit sharing (RFC 9111 §3.5).
    Authorization,
}

impl From<NotFilled> for Detail {
    fn from(why: NotFilled) -> Self {
        match why {
            NotFilled::Never => Self::FillNever,
            NotFilled::First => Self::FillSecond,
            NotFilled::Bound => Self::FillBound,
            NotFilled::NoStore => Self::RequestNoStore,
            NotFilled::Authorization => Self::Authorization,
        }
    }
}

/// True if the slices that a range request needs are fetched. `again`: the object is known, or was requested before;
/// `within`: the bound of the client's address leaves room. Each is called only if it matters.
pub fn decide(
    fill: Fill,
    again: impl FnOnce() -> bool,
    within: impl FnOnce() -> bool,
) -> Result<(), NotFilled> {
    match fill {
        Fill::Never => return Err(NotFilled::Never),
        Fill::Second if !again() => return Err(NotFilled::First),
        Fill::First | Fill::Second => {}
    }
    if within() {
        Ok(())
    } else {
        Err(NotFilled::Bound)
    }
}

/// The keys that were requested recently: a fingerprint and a time in each place, no key.
#[derive(Debug)]
pub struct Sketch {
    places: Box<[AtomicU64]>,
}

/// Places that one key may take.
const WAYS: usize = 4;

impl Sketch {
    /// For `places` keys, 8 bytes each.
    pub fn new(places: usize) -> Self {
        let places = places.max(WAYS).next_power_of_two();
        Self {
            places: (0..places).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Notes a key, by its hash, and says whether it was noted within [`REMEMBERED`] before. Of two at once one
    /// may be called the first, or both.
    pub fn seen(&self, hash: u64, now: u64) -> bool {
        // 0 is an empty place.
        let now = (now as u32).max(1);
        let print = (hash >> 32) as u32;
        let value = u64::from(print) << 32 | u64::from(now);
        let buckets = self.places.len() / WAYS;
        let start = (hash as usize % buckets) * WAYS;
        let Some(bucket) = self.places.get(start..start + WAYS) else {
            return false;
        };
        let mut oldest: Option<(&AtomicU64, u32)> = None;
        for place in bucket {
            let there = place.load(Ordering::Relaxed);
            let (known, at) = ((there >> 32) as u32, there as u32);
            if known == print && at != 0 {
                place.store(value, Ordering::Relaxed);
                return now.saturating_sub(at) <= REMEMBERED;
            }
            if oldest.is_none_or(|(_, least)| at < least) {
                oldest = Some((place, at));
            }
        }
        if let Some((place, _)) = oldest {
            place.store(value, Ordering::Relaxed);
        }
        false
    }
}

/// Bytes that addresses have had origins send for slices, and bytes that they took themselves, this minute.
#[derive(Debug)]
pub struct Accounts {
    accounts: Box<[Amounts]>,
}

/// The number of a minute in the upper third, an amount in KiB below.
#[derive(Debug, Default)]
struct Amounts {
    fetched: AtomicU64,
    sent: AtomicU64,
}

/// Bytes that may be fetched for each that an address takes.
pub const FACTOR: u64 = 16;

const KIB_BITS: u32 = 40;
const KIB: u64 = (1 << KIB_BITS) - 1;

impl Accounts {
    /// Addresses that share a place share an account: the bound holds for both of them together.
    pub fn new(places: usize) -> Self {
        Self {
            accounts: (0..places.max(1)).map(|_| Amounts::default()).collect(),
        }
    }

    fn of(&self, hash: u64) -> Option<&Amounts> {
        self.accounts
            .get(hash as usize % self.accounts.len().max(1))
    }

    /// Takes `bytes` on the account where the bound leaves room: [`FACTOR`] times what was sent and `grant` bytes more
    /// a minute.
    pub fn fetch(&self, hash: u64, bytes: u64, grant: u64, now: u64) -> bool {
        let Some(account) = self.of(hash) else {
            return false;
        };
        let minute = minute(now);
        let sent = amount(account.sent.load(Ordering::Relaxed), minute);
        let most = sent
            .saturating_mul(FACTOR)
            .saturating_add(grant.div_ceil(1024));
        let fetched = amount(account.fetched.load(Ordering::Relaxed), minute);
        let after = fetched.saturating_add(bytes.div_ceil(1024));
        if after > most {
            return false;
        }
        account
            .fetched
            .store(minute << KIB_BITS | after.min(KIB), Ordering::Relaxed);
        true
    }

    /// Adds to the account the bytes of a range that the address received.
    pub fn sent(&self, hash: u64, bytes: u64, now: u64) {
        if let Some(account) = self.of(hash) {
            let minute = minute(now);
            let sent = amount(account.sent.load(Ordering::Relaxed), minute);
            let after = sent.saturating_add(bytes / 1024);
            account
                .sent
                .store(minute << KIB_BITS | after.min(KIB), Ordering::Relaxed);
        }
    }
}

fn minute(now: u64) -> u64 {
    (now / 60) & ((1 << (64 - KIB_BITS)) - 1)
}

/// The amount of an account, if it is of this minute.
fn amount(account: u64, minute: u64) -> u64 {
    if account >> KIB_BITS == minute {
        account & KIB
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_says_who_fills() {
        for (fill, again, within, want) in [
            (Fill::First, false, true, Ok(())),
            (Fill::First, true, false, Err(NotFilled::Bound)),
            (Fill::Second, false, true, Err(NotFilled::First)),
            (Fill::Second, true, true, Ok(())),
            (Fill::Second, true, false, Err(NotFilled::Bound)),
            (Fill::Never, true, true, Err(NotFilled::Never)),
        ] {
            assert_eq!(decide(fill, || again, || within), want, "{fill:?}");
        }
        // A request that fills nothing anyway is charged nothing.
        let asked = std::cell::Cell::new(0);
        let charged = || {
            asked.set(asked.get() + 1);
            true
        };
        assert_eq!(decide(Fill::Never, || true, charged), Err(NotFilled::Never));
        assert_eq!(
            decide(Fill::Second, || false, charged),
            Err(NotFilled::First)
        );
        assert_eq!(asked.get(), 0);
    }

    #[test]
    fn a_key_is_known_for_ten_minutes_from_its_last_use() {
        let sketch = Sketch::new(64);
        let key = 0x1234_5678_9abc_def0;
        for (now, want) in [
            (1000, false),
            (1000, true),
            (1600, true),
            (2201, false),
            (2202, true),
        ] {
            assert_eq!(sketch.seen(key, now), want, "at {now}");
        }
        assert!(
            !sketch.seen(key ^ (1 << 40), 2202),
            "another key of the same bucket"
        );
    }

    #[test]
    fn a_flood_of_keys_makes_others_forgotten_and_nothing_known() {
        let sketch = Sketch::new(64);
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        assert!((1..100_000).all(|n| !sketch.seen(hash(n), 1000)));
        assert_eq!(sketch.places.len(), 64);
    }

    #[test]
    fn an_address_may_have_fetched_what_it_takes_sixteen_times_and_a_grant_a_minute() {
        let accounts = Accounts::new(8);
        let (mib, address) = (1 << 20, 5);
        assert_eq!(
            (0..20)
                .filter(|_| accounts.fetch(address, mib, 8 * mib, 600))
                .count(),
            8
        );
        accounts.sent(address, mib / 8, 601);
        assert_eq!(
            (0..20)
                .filter(|_| accounts.fetch(address, mib, 8 * mib, 602))
                .count(),
            2
        );
        assert!(
            accounts.fetch(address + 1, mib, 8 * mib, 602),
            "another address has its own"
        );
        assert_eq!(
            (0..20)
                .filter(|_| accounts.fetch(address, mib, 8 * mib, 660))
                .count(),
            8
        );
        assert!(!accounts.fetch(address, 1, 0, 720), "no grant");
        accounts.sent(address, u64::MAX, 720);
        assert!(accounts.fetch(address, 1 << 50, 0, 720));
    }
}
