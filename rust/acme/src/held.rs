//! A certificate that is looked after: when it is due, what an attempt to obtain it came to, and where it is kept.

use std::{collections::BTreeMap, io, sync::Arc};

use edgerouter_core::{
    acme::{RenewalWindow, is_hasty, may_retry, patient_wait, renewal, rest, retry_wait},
    plan::AcmePolicy,
};

use crate::{
    fault::OrderFault,
    order::{IssuerFault, Obtained, OrderContext},
    pair::{self, Pair},
    storage::{Stamp, Storage},
};

/// Seconds between two looks at the file of a certificate, which another process may have replaced.
pub(crate) const LOOK: i64 = 30;

/// A certificate that is looked after.
pub(crate) struct Held {
    pub(crate) policy: Arc<AcmePolicy>,
    pub(crate) storage: Storage,
    pub(crate) pair: Option<Pair>,
    pub(crate) stamp: Option<Stamp>,
    /// The text of a certificate that could not be stored yet.
    pub(crate) unsaved: Option<String>,
    /// Unix seconds from which the certificate is renewed.
    pub(crate) renew_at: i64,
    /// The jitter of that time, as long as the certificate is in use.
    pub(crate) chance: u32,
    /// Unix seconds from which the certificate is in use.
    pub(crate) taken_at: i64,
    /// Certificates in a row, each of which was in use for too short a time before this one.
    pub(crate) hasty: u32,
    /// Unix seconds before which it is not renewed, although it is due.
    pub(crate) rest_until: i64,
    /// Unix seconds of the next look at the issuer's window for it.
    pub(crate) window_at: i64,
    /// Unix seconds before which no attempt is made again; `None`: the last one succeeded, or there was none.
    pub(crate) retry_at: Option<i64>,
    /// Unix seconds of the next look at the file.
    pub(crate) look: i64,
    pub(crate) failures: u32,
    /// Unix seconds before which an issuer, by its directory, wants no order for the name.
    pub(crate) patience: BTreeMap<Box<str>, i64>,
    pub(crate) under_way: bool,
    /// It is not ordered before a client has come with the name.
    pub(crate) is_awaited: bool,
    /// A callable has allowed the name.
    pub(crate) is_allowed: bool,
}

/// The end of an attempt.
pub(crate) enum Ended {
    /// With the result of storing it.
    Obtained(Obtained, io::Result<()>),
    /// Another process is at it, or has done it.
    Elsewhere,
    Failed(Vec<IssuerFault>),
    /// The attempt did not come to an issuer.
    BrokenOff(OrderFault),
    /// The issuer's window for a renewal, and the seconds after which it is read again.
    Window(Option<RenewalWindow>, Option<i64>),
}

impl Held {
    pub(crate) fn new(policy: &Arc<AcmePolicy>, now: i64) -> Self {
        Self {
            policy: Arc::clone(policy),
            storage: Storage::new(&policy.storage),
            pair: None,
            stamp: None,
            unsaved: None,
            renew_at: now,
            taken_at: now,
            hasty: 0,
            rest_until: now,
            chance: 0,
            window_at: now,
            retry_at: None,
            look: now,
            failures: 0,
            patience: BTreeMap::new(),
            under_way: false,
            is_awaited: false,
            is_allowed: false,
        }
    }

    /// Uses a certificate, and renews it when it is time.
    pub(crate) fn take(&mut self, pair: Pair, now: i64) {
        let before = self.pair.as_ref().map(|before| before.valid);
        let in_use = now.saturating_sub(self.taken_at);
        self.hasty = match before.filter(|before| is_hasty(*before, in_use)) {
            Some(_) => self.hasty.saturating_add(1),
            None => 0,
        };
        self.taken_at = now;
        self.chance = fastrand::u32(..);
        self.rest_until = now.saturating_add(rest(pair.valid, self.hasty, self.chance));
        self.renew_at = renewal(pair.valid, None, self.chance).at;
        self.window_at = i64::MIN;
        self.pair = Some(pair);
        (self.retry_at, self.failures) = (None, 0);
    }

    /// Sets the time of the next attempt, and returns the seconds until then. `issuers`: those for which each wants to
    /// be left alone.
    pub(crate) fn failed(&mut self, now: i64, issuers: impl IntoIterator<Item = i64>) -> i64 {
        self.failures = self.failures.saturating_add(1);
        let wait = patient_wait(retry_wait(self.failures, fastrand::u32(..)), issuers);
        self.retry_at = Some(now.saturating_add(wait));
        wait
    }

    pub(crate) fn is_due(&self, now: i64) -> bool {
        let is_wanted = match self.pair {
            None => !self.is_awaited,
            Some(_) => now >= self.renew_at && may_retry(self.rest_until, now),
        };
        is_wanted && self.retry_at.is_none_or(|at| may_retry(at, now))
    }

    /// Reads the certificate if its file has changed. One that cannot be used, has expired or is gone, replaces none that
    /// can be.
    pub(crate) fn read(&mut self, name: &str, now: i64) -> bool {
        self.look = now + LOOK;
        if self.unsaved.is_some() {
            self.save(name);
            return self.unsaved.is_none();
        }
        let stamp = self.storage.stamp(name);
        if stamp.is_none() || stamp == self.stamp {
            self.stamp = stamp;
            return false;
        }
        match self.storage.read_certificate(name) {
            Ok(Some((pem, stamp))) => {
                self.stamp = Some(stamp);
                match pair::read(&pem, name, None) {
                    Ok(pair) if self.is_better_than(&pair, now) => {
                        tracing::warn!(
                            "the stored certificate for {name} is not used: it has expired, and the one in use has not"
                        );
                    }
                    Ok(pair) => {
                        self.take(pair, now);
                        return true;
                    }
                    Err(fault) => {
                        tracing::warn!("the stored certificate for {name} is not used: {fault}")
                    }
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("the stored certificate for {name} cannot be read: {error}")
            }
        }
        false
    }

    fn is_better_than(&self, other: &Pair, now: i64) -> bool {
        let is_valid = |pair: &Pair| pair.valid.1 > now;
        self.pair.as_ref().is_some_and(is_valid) && !is_valid(other)
    }

    /// Stores a certificate that could not be stored before.
    fn save(&mut self, name: &str) {
        if let Some(pem) = &self.unsaved {
            let stored = self.storage.write_certificate(name, pem.as_bytes());
            self.stored(name, stored);
        }
    }

    /// A certificate that cannot be stored is used all the same, and stored later.
    pub(crate) fn stored(&mut self, name: &str, stored: io::Result<()>) {
        match stored {
            Ok(()) => {
                self.unsaved = None;
                self.stamp = self.storage.stamp(name);
            }
            Err(error) => tracing::warn!(
                "the certificate for {name} cannot be stored in {}: {error}; it is used, and stored as soon as that is possible",
                self.policy.storage.display()
            ),
        }
    }
}

/// Obtains a certificate, unless another process does, or has just done so.
pub(crate) async fn attempt(context: OrderContext, known: Option<Stamp>) -> Ended {
    let _locked = match context.storage.lock(&context.name) {
        Ok(Some(locked)) => locked,
        Ok(None) => return Ended::Elsewhere,
        Err(error) => return Ended::BrokenOff(error.into()),
    };
    if context.storage.stamp(&context.name) != known {
        // One that nobody can read was not just obtained by another process, and would be looked at forever.
        if let Err(error) = context.storage.read_certificate(&context.name) {
            return Ended::BrokenOff(error.into());
        }
        return Ended::Elsewhere;
    }
    match context.obtain().await {
        // Before the lock is given up.
        Ok(obtained) => {
            let stored = context
                .storage
                .write_certificate(&context.name, obtained.pem.as_bytes());
            Ended::Obtained(obtained, stored)
        }
        Err(faults) => Ended::Failed(faults),
    }
}
