//! Keys of session tickets that change with the clock.
//!
//! A ticket is made with the newest key. The one before stays valid as long again, so that a client can resume for
//! `ROTATION` at least and twice that at most; a key that leaks opens no sessions older than that (RFC 5077 §5.5).

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use rustls::{Error, crypto::aws_lc_rs::Ticketer, server::ProducesTickets};

use super::stored::has_ended;

/// Seconds for which a key makes tickets.
pub(super) const ROTATION: u64 = 6 * 60 * 60;

/// Longest session that gets a ticket. One has the certificates of its client in it, which may be 64 KiB: the ticket
/// would be longer than a message of TLS can say, and clients refuse that; and each handshake sends two.
const LONGEST: usize = 16 << 10;

/// The keys, newest first.
pub(super) struct RotatingTickets {
    keys: Mutex<Keys>,
    /// Unix seconds.
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for RotatingTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotatingTickets").finish_non_exhaustive()
    }
}

struct Keys {
    newest: Arc<dyn ProducesTickets>,
    before: Option<Arc<dyn ProducesTickets>>,
    /// When the newest was made.
    since: u64,
}

impl RotatingTickets {
    pub(super) fn new(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Result<Self, Error> {
        Ok(Self {
            keys: Mutex::new(Keys {
                newest: Ticketer::new()?,
                before: None,
                since: clock(),
            }),
            clock: Box::new(clock),
        })
    }

    /// The keys of now. A key is made only when one is used: nothing changes while no client comes.
    fn now(&self) -> (Arc<dyn ProducesTickets>, Option<Arc<dyn ProducesTickets>>) {
        let now = (self.clock)();
        let mut keys = self.keys.lock();
        // A clock that was set back begins a new period.
        let age = now.checked_sub(keys.since).unwrap_or(ROTATION);
        if age >= ROTATION {
            // Without randomness the old key goes on for this handshake.
            if let Ok(newest) = Ticketer::new() {
                let last = std::mem::replace(&mut keys.newest, newest);
                keys.before = (age < 2 * ROTATION).then_some(last);
                // Periods follow one another: a late use does not lengthen the life of the key before.
                keys.since = now - age % ROTATION;
            }
        }
        (Arc::clone(&keys.newest), keys.before.clone())
    }
}

impl ProducesTickets for RotatingTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(2 * ROTATION).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > LONGEST {
            return None;
        }
        self.now().0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (newest, before) = self.now();
        let session = newest.decrypt(cipher).or_else(|| before?.decrypt(cipher))?;
        (!has_ended(&session, (self.clock)())).then_some(session)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const START: u64 = 1_800_000_000;

    fn tickets() -> (RotatingTickets, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(START));
        let own = Arc::clone(&time);
        let tickets = RotatingTickets::new(move || own.load(Ordering::Relaxed)).unwrap();
        (tickets, time)
    }

    #[test]
    fn a_ticket_is_valid_for_one_rotation_at_least_and_two_at_most() {
        for (made, used, valid) in [
            (0, 0, true),
            (0, ROTATION - 1, true),
            (0, ROTATION, true),
            (ROTATION - 1, 2 * ROTATION - 2, true),
            (0, 2 * ROTATION - 1, true),
            (0, 2 * ROTATION, false),
            (ROTATION - 1, 2 * ROTATION, false),
            (0, 10 * ROTATION, false),
        ] {
            let (tickets, time) = tickets();
            time.store(START + made, Ordering::Relaxed);
            let ticket = tickets.encrypt(b"session").unwrap();
            time.store(START + used, Ordering::Relaxed);
            let found = tickets.decrypt(&ticket);
            assert_eq!(found.is_some(), valid, "made at {made}, used at {used}");
        }
    }

    #[test]
    fn a_session_with_large_certificates_gets_no_ticket() {
        let (tickets, _) = tickets();
        assert!(tickets.encrypt(&vec![0; LONGEST]).is_some());
        assert!(tickets.encrypt(&vec![0; LONGEST + 1]).is_none());
    }

    #[test]
    fn clients_that_come_all_the_time_do_not_keep_a_key() {
        let (tickets, time) = tickets();
        let first = tickets.encrypt(b"session").unwrap();
        for hour in 0..=24 {
            time.store(START + hour * 3_600, Ordering::Relaxed);
            let own = tickets.encrypt(b"session").unwrap();
            assert!(tickets.decrypt(&own).is_some());
            assert_eq!(tickets.decrypt(&first).is_some(), hour < 12, "{hour}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_changes_the_key_and_keeps_no_old_one_for_longer() {
        let (tickets, time) = tickets();
        let first = tickets.encrypt(b"session").unwrap();
        time.store(START - 1_000_000, Ordering::Relaxed);
        assert!(tickets.decrypt(&first).is_some());
        time.fetch_add(ROTATION, Ordering::Relaxed);
        assert!(tickets.decrypt(&first).is_none());
    }
}
