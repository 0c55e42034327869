//! The key set of one URL: fetched in the background, shared by all workers, kept while the issuer is down.
//!
//! A request only loads a pointer. One task per source fetches: at the start, when the set is due, and when a token
//! names an unknown key. An unreadable set never replaces a readable one; when that is too old it is dropped, and then
//! nothing can be verified (503) rather than everything with keys that may have been withdrawn.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use edgerouter_core::identity::{
    jwks::{KeySet, MOST_BYTES},
    jwt::{JwtPolicy, KeySource},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

/// Bound on the duration of one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay after a failed fetch, doubled after each further failure, and at most the cooldown.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Time that a token waits for a fetch (`docs/limits.md` names it).
const KEYS_WAIT: Duration = Duration::from_secs(3);

/// Fetches a URL: a GET that returns the content of a 200, at most [`MOST_BYTES`] of it, and otherwise a text for the
/// log.
pub(crate) trait Fetch {
    fn get(&self, url: &str) -> Pin<Box<dyn Future<Output = Result<Bytes, String>>>>;
}

/// The keys of one URL.
#[derive(Debug)]
pub(crate) struct JwksSource {
    /// Reads fetched sets; its own URL is this source's.
    policy: Arc<JwtPolicy>,
    url: Arc<str>,
    times: Times,
    keys: ArcSwapOption<KeySet>,
    none: KeySet,
    wanted: Notify,
    /// Fetches that have ended, well or not.
    ended: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    refresh: Duration,
    cooldown: Duration,
    max_stale: Duration,
}

#[derive(Debug, Default)]
struct State {
    last_attempt: Option<Instant>,
    last_success: Option<Instant>,
    is_fetching: bool,
    /// In a row.
    failures: u32,
}

/// A fetch on its way.
struct Attempt<'a> {
    source: &'a JwksSource,
    previous: Option<Instant>,
}

impl<'a> Attempt<'a> {
    fn begin(source: &'a JwksSource) -> Self {
        let mut state = source.state.lock();
        state.is_fetching = true;
        let previous = state.last_attempt.replace(Instant::now());
        Self { source, previous }
    }

    fn end(self) {
        self.source.state.lock().is_fetching = false;
        std::mem::forget(self);
    }
}

/// A reload drops the task amid a fetch: the next task begins it anew, and at once.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = self.source.state.lock();
        state.is_fetching = false;
        state.last_attempt = self.previous;
        drop(state);
        self.source.wanted.notify_one();
    }
}

impl JwksSource {
    /// `None` for a policy whose keys came with the plan.
    pub(crate) fn new(policy: Arc<JwtPolicy>) -> Option<Self> {
        let KeySource::Url {
            url,
            refresh,
            cooldown,
            max_stale,
        } = &policy.source
        else {
            return None;
        };
        let times = Times {
            refresh: *refresh,
            cooldown: *cooldown,
            max_stale: *max_stale,
        };
        Some(Self::with_times(Arc::clone(url), times, policy))
    }

    fn with_times(url: Arc<str>, times: Times, policy: Arc<JwtPolicy>) -> Self {
        Self {
            policy,
            url,
            times,
            keys: ArcSwapOption::empty(),
            none: KeySet::empty(),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
            state: Mutex::default(),
        }
    }

    /// True if this source has the keys of `policy`: the same URL, times and algorithms.
    pub(crate) fn serves(&self, policy: &JwtPolicy) -> bool {
        match &policy.source {
            KeySource::Static(_) => false,
            KeySource::Url {
                url,
                refresh,
                cooldown,
                max_stale,
            } => {
                let times = Times {
                    refresh: *refresh,
                    cooldown: *cooldown,
                    max_stale: *max_stale,
                };
                *url == self.url
                    && times == self.times
                    && policy.algorithms == self.policy.algorithms
            }
        }
    }

    /// The last good keys, unless they are too old.
    pub(crate) fn keys(&self) -> Guard<Option<Arc<KeySet>>> {
        self.keys.load()
    }

    pub(super) fn none(&self) -> &KeySet {
        &self.none
    }

    /// Requests a fetch as soon as the cooldown allows one. Any number of calls cause one.
    pub(crate) fn request(&self) {
        self.wanted.notify_one();
    }

    /// Waits for the first fetch, if none has ended yet: true once there are keys. Nothing waits for a later one, as
    /// the issuer may be down for long.
    pub(crate) async fn first_keys(&self) -> bool {
        let mut ended = self.ended.subscribe();
        let first = ended.wait_for(|ended| *ended > 0);
        timeout(KEYS_WAIT, first).await.is_ok() && self.keys.load().is_some()
    }

    /// Waits for the fetch that a token with an unknown key requested, as its issuer may have a new one: true if one
    /// has ended. Within the cooldown none would come, so nothing waits.
    pub(crate) async fn next_keys(&self) -> bool {
        let mut ended = self.ended.subscribe();
        let (due, earliest, _) = self.schedule();
        if !self.state.lock().is_fetching && earliest.min(due) > Instant::now() {
            return false;
        }
        timeout(KEYS_WAIT, ended.changed()).await.is_ok()
    }

    /// Keeps the keys fresh, for ever. Must be run by one task at a time; a later one continues where this was dropped.
    pub(crate) async fn run(&self, fetch: impl Fetch) {
        loop {
            self.wait().await;
            self.attempt(&fetch).await;
        }
    }

    /// Waits until a fetch is due.
    async fn wait(&self) {
        loop {
            let (due, earliest, expiry) = self.schedule();
            // Without keys nothing expires; a distant time means never.
            let expiry = expiry.unwrap_or_else(|| due + Duration::from_secs(3600));
            tokio::select! {
                biased;
                () = sleep_until(due) => return,
                () = sleep_until(expiry) => self.expire(),
                () = self.wanted.notified() => {
                    sleep_until(earliest.min(due)).await;
                    return;
                }
            }
        }
    }

    /// The time of the next fetch, the earliest time at which a token may cause one, and the time at which the keys are
    /// too old.
    fn schedule(&self) -> (Instant, Instant, Option<Instant>) {
        let state = self.state.lock();
        let now = Instant::now();
        let Some(attempt) = state.last_attempt else {
            return (now, now, None);
        };
        let pause = if state.failures == 0 {
            self.times.refresh.max(self.times.cooldown)
        } else {
            let doubled = FIRST_RETRY.saturating_mul(1 << (state.failures - 1).min(16));
            doubled.min(self.times.cooldown)
        };
        let expiry = self
            .keys
            .load()
            .is_some()
            .then(|| self.expiry(&state))
            .flatten();
        (attempt + pause, attempt + self.times.cooldown, expiry)
    }

    /// The keys are used until they are due, and for `max_stale` after that.
    fn expiry(&self, state: &State) -> Option<Instant> {
        let due = state.last_success? + self.times.refresh.max(self.times.cooldown);
        Some(due + self.times.max_stale)
    }

    fn expire(&self) {
        self.keys.store(None);
        tracing::error!(url = %self.url, "the issuer has been down for too long: its keys are no longer used");
    }

    async fn attempt(&self, fetch: &impl Fetch) {
        let attempt = Attempt::begin(self);
        let found = match timeout(FETCH_TIMEOUT, fetch.get(&self.url)).await {
            Ok(Ok(json)) if json.len() > MOST_BYTES => {
                Err(format!("the answer is longer than {MOST_BYTES} bytes"))
            }
            Ok(Ok(json)) => self
                .policy
                .read_keys(&json)
                .map_err(|error| format!("the answer {error}")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(format!("no answer within {FETCH_TIMEOUT:?}")),
        };
        attempt.end();
        let expired = {
            let mut state = self.state.lock();
            match found {
                Ok(keys) => {
                    state.failures = 0;
                    state.last_success = state.last_attempt;
                    self.accept(keys);
                    false
                }
                Err(error) => {
                    state.failures = state.failures.saturating_add(1);
                    tracing::warn!(url = %self.url, %error, "keys could not be fetched; the last good ones stay");
                    self.keys.load().is_some()
                        && self.expiry(&state).is_some_and(|at| at <= Instant::now())
                }
            }
        };
        if expired {
            self.expire();
        }
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// An equal set keeps its pointer, so that remembered tokens stay valid.
    fn accept(&self, keys: KeySet) {
        let before = self.keys.load().as_ref().map(|keys| keys.fingerprint());
        if before != Some(keys.fingerprint()) {
            tracing::info!(url = %self.url, keys = keys.len(), "keys fetched");
            if let Some(weak) = keys.weak_secret() {
                tracing::warn!(
                    url = %self.url,
                    key = weak.id.as_deref().unwrap_or_default(),
                    bytes = weak.bytes,
                    least = weak.least,
                    "a secret among the keys is too short for its algorithm (RFC 7518 §3.2): it can be guessed from one token"
                );
            }
            self.keys.store(Some(Arc::new(keys)));
        }
    }
}

#[cfg(test)]
mod tests;
