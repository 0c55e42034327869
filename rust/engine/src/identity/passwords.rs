//! Passwords of Basic authentication: threads that verify them, and those that were verified.
//!
//! A hash takes long on purpose, so no worker computes one. Verified credentials are remembered by a keyed hash for
//! some minutes; nothing else of them is kept.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use edgerouter_core::guard::{
    basic::{BasicPolicy, Credentials},
    rate::{RateBy, RateLimit},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Threads that verify; each hash may take 64 MiB.
const THREADS: usize = 2;
/// Passwords that wait for a thread.
const QUEUE: usize = 64;
/// Time for one, its wait included.
const WAIT: Duration = Duration::from_secs(10);
/// Credentials that are remembered, and for how many seconds.
const REMEMBERED: usize = 10_000;
const SECONDS: u64 = 300;

/// Passwords that are verified and those that were.
#[derive(Debug)]
pub(crate) struct Passwords {
    /// `None`: there is no randomness, and nothing is remembered.
    key: Option<hmac::Key>,
    /// Until when (Unix seconds) they count, by keyed hash.
    remembered: Mutex<HashMap<[u8; 32], u64>>,
    /// To the threads, which start with the first password.
    queue: OnceLock<SyncSender<Job>>,
    /// Wrong passwords of one client.
    pub(crate) failures: RateLimit,
}

#[derive(Debug)]
struct Job {
    policy: Arc<BasicPolicy>,
    credentials: Credentials,
    result: oneshot::Sender<bool>,
}

/// As many passwords wait as may, or this one has waited too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

impl Default for Passwords {
    fn default() -> Self {
        Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            remembered: Mutex::default(),
            queue: OnceLock::new(),
            failures: RateLimit {
                // No limit of a plan has a space in its name.
                name: "basic failures".into(),
                index: u32::MAX,
                quota: 5,
                window: 60,
                burst: 5,
                delay: Duration::ZERO,
                by: RateBy::Address,
            },
        }
    }
}

impl Passwords {
    /// True if these credentials were verified for the policy some minutes ago at most.
    pub(crate) fn knows(&self, policy: &BasicPolicy, credentials: &Credentials, now: u64) -> bool {
        let Some(name) = self.name(policy, credentials) else {
            return false;
        };
        let until = self.remembered.lock().get(&name).copied();
        until.is_some_and(|until| now < until)
    }

    /// Remembers credentials that were verified at `now`.
    pub(crate) fn remember(&self, policy: &BasicPolicy, credentials: &Credentials, now: u64) {
        let Some(name) = self.name(policy, credentials) else {
            return;
        };
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, until| now < *until);
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(name, now + SECONDS);
    }

    /// Verifies credentials on a thread of their own.
    pub(crate) async fn verify(
        &self,
        policy: Arc<BasicPolicy>,
        credentials: Credentials,
    ) -> Result<bool, Busy> {
        let (result, verified) = oneshot::channel();
        let job = Job {
            policy,
            credentials,
            result,
        };
        let queue = self.queue.get_or_init(start);
        queue.try_send(job).map_err(|_| Busy)?;
        match tokio::time::timeout(WAIT, verified).await {
            Ok(Ok(verified)) => Ok(verified),
            _ => Err(Busy),
        }
    }

    fn name(&self, policy: &BasicPolicy, credentials: &Credentials) -> Option<[u8; 32]> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        context.update(&policy.identity);
        context.update(&(credentials.user.len() as u64).to_be_bytes());
        context.update(credentials.user.as_bytes());
        context.update(&credentials.password);
        context.sign().as_ref().try_into().ok()
    }
}

/// The threads; they end when nothing can be sent to them any more.
fn start() -> SyncSender<Job> {
    let (queue, jobs) = sync_channel(QUEUE);
    let jobs = Arc::new(Mutex::new(jobs));
    for number in 0..THREADS {
        let jobs = Arc::clone(&jobs);
        let named = std::thread::Builder::new().name(format!("edge-password-{number}"));
        if let Err(error) = named.spawn(move || work(&jobs)) {
            tracing::error!(%error, "a thread that verifies passwords could not start");
        }
    }
    queue
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().recv();
        let Ok(job) = job else { return };
        if !job.result.is_closed() {
            let verified = job.policy.verifies(&job.credentials);
            let _ = job.result.send(verified);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const USERS: &str = "ann:$2b$04$KBCwKxOzLha2MUDcmMfM6.nlgvSZfcmmZkrYKQMtWsiIv1xlNzTYa";

    fn of(user: &str, password: &str) -> Credentials {
        Credentials {
            user: user.into(),
            password: password.into(),
        }
    }

    #[test]
    fn verified_credentials_are_remembered_for_their_policy_and_for_some_minutes() {
        let passwords = Passwords::default();
        let policy = BasicPolicy::read(USERS, "r").unwrap();
        let other = BasicPolicy::read(&format!("# changed\n{USERS}"), "r").unwrap();
        passwords.remember(&policy, &of("ann", "one"), 1_000);
        for (policy, credentials, now, want) in [
            (&policy, of("ann", "one"), 1_000, true),
            (&policy, of("ann", "one"), 1_299, true),
            (&policy, of("ann", "one"), 1_300, false),
            (&policy, of("ann", "two"), 1_000, false),
            (&policy, of("an", "none"), 1_000, false),
            (&other, of("ann", "one"), 1_000, false),
        ] {
            assert_eq!(passwords.knows(policy, &credentials, now), want, "{now}");
        }
        for number in 0..REMEMBERED {
            passwords.remember(&policy, &of("ann", &number.to_string()), 1_000);
        }
        assert!(passwords.remembered.lock().len() <= REMEMBERED);
    }
}
