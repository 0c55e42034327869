//! Keys of tickets and stores of sessions: one of each for a TLS policy, shared by the workers and kept across plans.
//!
//! A session proves what its first handshake proved. Another policy must not accept it, or a client would get past the
//! terms of that policy: each has keys of its own, found by a digest of everything that the policy says.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
};

use super::{stored::ValidSessions, tickets::RotatingTickets};

/// Digest of a TLS policy (SHA-256).
pub(super) type PolicyDigest = [u8; 32];

/// The keys of the policies of one plan.
#[derive(Debug, Default)]
pub(super) struct Resumptions {
    known: Vec<(PolicyDigest, Resumption)>,
}

/// Resumption of sessions of one policy.
#[derive(Debug, Clone)]
pub(super) struct Resumption {
    /// Keys that change every 6 hours; the one before stays valid as long again.
    pub(super) tickets: Arc<dyn ProducesTickets>,
    /// For clients of TLS 1.2 without tickets.
    pub(super) sessions: Arc<dyn StoresServerSessions>,
    most_sessions: usize,
}

impl Resumptions {
    /// The resumption of a policy: of this plan, of the plan before, or a new one.
    pub(super) fn of(
        &mut self,
        digest: PolicyDigest,
        before: Option<&Self>,
        most_sessions: usize,
    ) -> Result<Resumption, rustls::Error> {
        if let Some(known) = self.find(&digest) {
            return Ok(known.clone());
        }
        let made = match before.and_then(|before| before.find(&digest)) {
            Some(known) if known.most_sessions == most_sessions => known.clone(),
            Some(known) => Resumption {
                tickets: Arc::clone(&known.tickets),
                ..Resumption::new(most_sessions)?
            },
            None => Resumption::new(most_sessions)?,
        };
        self.known.push((digest, made.clone()));
        Ok(made)
    }

    fn find(&self, digest: &PolicyDigest) -> Option<&Resumption> {
        let mut known = self.known.iter();
        known.find(|(of, _)| of == digest).map(|(_, known)| known)
    }
}

impl Resumption {
    fn new(most_sessions: usize) -> Result<Self, rustls::Error> {
        Ok(Self {
            tickets: Arc::new(RotatingTickets::new(unix_now)?),
            sessions: match most_sessions {
                0 => Arc::new(NoServerSessionStorage {}),
                most => Arc::new(ValidSessions(ServerSessionMemoryCache::new(most))),
            },
            most_sessions,
        })
    }
}

pub(super) fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_policy_keeps_its_keys_across_plans_and_shares_them_with_no_other() {
        let (mut first, mut second) = (Resumptions::default(), Resumptions::default());
        let ours = first.of([1; 32], None, 16).unwrap();
        let again = first.of([1; 32], None, 16).unwrap();
        let kept = second.of([1; 32], Some(&first), 16).unwrap();
        let resized = second.of([1; 32], Some(&first), 16).unwrap();
        let others = second.of([2; 32], Some(&first), 16).unwrap();
        for same in [&again, &kept, &resized] {
            assert!(Arc::ptr_eq(&ours.tickets, &same.tickets));
            assert!(Arc::ptr_eq(&ours.sessions, &same.sessions));
        }
        let ticket = ours.tickets.encrypt(b"session").unwrap();
        assert_eq!(
            kept.tickets.decrypt(&ticket).as_deref(),
            Some(&b"session"[..])
        );
        assert_eq!(others.tickets.decrypt(&ticket), None);
        assert!(!Arc::ptr_eq(&ours.sessions, &others.sessions));
    }
}
