//! The attempts that are due, second by second, their ends, and the names that clients come with.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use edgerouter_core::{
    acme::{may_retry, renewal, window_wait},
    plan::{AcmePolicy, OnDemand, Plan},
    tls::NameTable,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{Id, JoinSet},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    fault::OrderFault,
    held::{Ended, Held, LOOK, attempt},
    issued::{Demand, IssuedCertificates, NameState, ProofQuery},
    order::{IssuerFault, Obtained, OrderContext},
    records::RecordCalls,
    storage::Storage,
};

/// The wall clock, in Unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Orders under way at a time. Further ones wait.
const MOST_ORDERS: usize = 8;
/// Seconds from a look to the next while another process is obtaining the certificate.
const SOON: i64 = 2;
/// The certificates of the plan in service, and their bounds.
pub(crate) struct Wanted {
    names: BTreeMap<Box<str>, Arc<AcmePolicy>>,
    exchange_timeout: Duration,
    order_timeout: Duration,
    orders_per_minute: usize,
    /// The terms for names that a callable allows.
    allowing: Option<Arc<AcmePolicy>>,
    allowed_names: usize,
}

/// Handshakes that may wait for one name.
const MOST_WAITING: usize = 64;
/// Names that a callable may be deciding on.
const MOST_UNDECIDED: usize = 64;
/// Names that a callable has refused, which are remembered.
const MOST_REFUSED: usize = 10_000;
/// Seconds that a refusal is remembered, and a callable that failed is left alone.
const REFUSED: i64 = 3_600;
const FAILED: i64 = 60;

impl Wanted {
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut names = BTreeMap::new();
        for policy in plan.acme() {
            let policy = Arc::new(policy.clone());
            for name in &policy.names {
                names
                    .entry(name.clone())
                    .or_insert_with(|| Arc::clone(&policy));
            }
        }
        let limits = &plan.limits.tls;
        let mut allowing = plan
            .acme()
            .filter(|policy| policy.on_demand.callable().is_some());
        Self {
            names,
            allowing: allowing.next().cloned().map(Arc::new),
            allowed_names: limits.allowed_names,
            exchange_timeout: limits.issuer_timeout,
            order_timeout: limits.order_timeout,
            orders_per_minute: limits.orders_per_minute as usize,
        }
    }

    pub(crate) fn wants_any(&self) -> bool {
        !self.names.is_empty() || self.allowing.is_some()
    }

    fn keeps(&self, name: &str, held: &Held) -> bool {
        self.names.contains_key(name)
            || (held.is_allowed
                && self
                    .allowing
                    .as_ref()
                    .is_some_and(|policy| *policy == held.policy))
    }
}

pub(crate) struct Keeper {
    certificates: Arc<IssuedCertificates>,
    records: Arc<RecordCalls>,
    clock: Clock,
    wanted: watch::Receiver<Arc<Wanted>>,
    held: BTreeMap<Box<str>, Held>,
    /// Starts of orders within the last minute.
    begun: VecDeque<Instant>,
    attempts: JoinSet<Ended>,
    /// The name of each.
    names: HashMap<Id, Box<str>>,
    /// Names that a callable is deciding on.
    decisions: JoinSet<(Box<str>, Result<bool, String>)>,
    /// Handshakes, by the name that they wait for.
    waiting: HashMap<Box<str>, Vec<oneshot::Sender<()>>>,
    /// Names that were refused, and the Unix second until which that is remembered.
    refused: HashMap<Box<str>, i64>,
}

impl Keeper {
    pub(crate) fn new(
        certificates: Arc<IssuedCertificates>,
        records: Arc<RecordCalls>,
        clock: Clock,
        wanted: watch::Receiver<Arc<Wanted>>,
    ) -> Self {
        Self {
            certificates,
            records,
            clock,
            wanted,
            held: BTreeMap::new(),
            begun: VecDeque::new(),
            attempts: JoinSet::new(),
            decisions: JoinSet::new(),
            waiting: HashMap::new(),
            refused: HashMap::new(),
            names: HashMap::new(),
        }
    }

    fn now(&self) -> i64 {
        i64::try_from((self.clock)()).unwrap_or(i64::MAX)
    }

    pub(crate) async fn run(
        mut self,
        mut asked: mpsc::Receiver<ProofQuery>,
        mut demanded: mpsc::Receiver<Demand>,
    ) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.take_over(),
                    Err(_) => return,
                },
                Some(ended) = self.attempts.join_next_with_id() => {
                    let (id, ended) = match ended {
                        Ok(ended) => ended,
                        Err(error) => (error.id(), Ended::BrokenOff(OrderFault::BrokenOff)),
                    };
                    if let Some(name) = self.names.remove(&id) {
                        self.settle(&name, ended);
                    }
                }
                Some((challenge, answer)) = asked.recv() => {
                    // Names mostly share a folder, and requests bring tokens that are none.
                    let mut storages: Vec<&Storage> = Vec::new();
                    for held in self.held.values() {
                        if !storages.contains(&&held.storage) {
                            storages.push(&held.storage);
                        }
                    }
                    let mut proofs = storages.iter().map(|storage| storage.read_proof(&challenge));
                    let _ = answer.send(proofs.find_map(|proof| proof));
                }
                Some((name, waits)) = demanded.recv() => self.demand(name, waits),
                Some(decided) = self.decisions.join_next() => {
                    if let Ok((name, decision)) = decided {
                        self.decide(name, decision);
                    }
                }
                _ = seconds.tick() => self.look(),
            }
        }
    }

    /// Looks after the names that are wanted now. Those that were wanted before keep their certificates.
    pub(crate) fn take_over(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let now = self.now();
        self.held.retain(|name, held| wanted.keeps(name, held));
        self.refused.clear();
        for (name, policy) in &wanted.names {
            let storage = Storage::new(&policy.storage);
            match self.held.get_mut(name) {
                // Other terms may succeed where the ones before did not.
                Some(held) if held.policy != *policy => {
                    (held.policy, held.storage) = (Arc::clone(policy), storage);
                    (held.failures, held.stamp, held.look) = (0, None, now);
                    held.retry_at = None;
                    // No client would ever be the first to come with a name that is not on demand any more.
                    held.is_awaited &= policy.on_demand != OnDemand::Never;
                    held.is_allowed = false;
                    held.patience.retain(|issuer, _| {
                        policy
                            .issuers
                            .iter()
                            .any(|known| known.directory == *issuer)
                    });
                }
                Some(_) => {}
                None => {
                    storage.sweep();
                    let mut held = Held::new(policy, now);
                    held.is_awaited = policy.on_demand != OnDemand::Never;
                    held.read(name, now);
                    self.held.insert(name.clone(), held);
                }
            }
        }
        self.publish();
    }

    /// Reads files that have changed, and begins the attempts that are due.
    fn look(&mut self) {
        let now = self.now();
        let mut changed = false;
        for (name, held) in &mut self.held {
            if now >= held.look || held.look - now > LOOK {
                changed |= held.read(name, now);
            }
        }
        if changed {
            self.publish();
            let held = &self.held;
            self.waiting
                .retain(|name, _| held.get(name).is_none_or(|held| held.pair.is_none()));
        }
        let wanted = Arc::clone(&self.wanted.borrow());
        let minute = Duration::from_secs(60);
        while self
            .begun
            .front()
            .is_some_and(|begun| begun.elapsed() > minute)
        {
            self.begun.pop_front();
        }
        for (name, held) in &mut self.held {
            if self.attempts.len() >= MOST_ORDERS || self.begun.len() >= wanted.orders_per_minute {
                return;
            }
            if held.under_way {
                continue;
            }
            let is_due = held.is_due(now);
            if is_due {
                self.begun.push_back(Instant::now());
            } else if held.pair.is_none() || !may_retry(held.window_at, now) {
                continue;
            }
            held.under_way = true;
            let context = OrderContext {
                name: name.clone(),
                policy: Arc::clone(&held.policy),
                storage: held.storage.clone(),
                certificates: Arc::clone(&self.certificates),
                exchange_timeout: wanted.exchange_timeout,
                order_timeout: wanted.order_timeout,
                failures: held.failures,
                now,
                held: held.pair.clone(),
                patience: held.patience.clone(),
                records: Arc::clone(&self.records),
            };
            let stamp = held.stamp;
            let task = self.attempts.spawn_local(async move {
                if is_due {
                    return attempt(context, stamp).await;
                }
                let (window, after) = context.window().await;
                Ended::Window(window, after)
            });
            self.names.insert(task.id(), name.clone());
        }
    }

    /// The name whose certificate is for a client's name: itself, or a wildcard that is looked after.
    fn held_as(&self, name: Box<str>) -> Box<str> {
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        match wildcard {
            Some(wildcard) if !self.held.contains_key(&name) => {
                let held = self.held.get_key_value(wildcard.as_str());
                held.map_or(name, |(wildcard, _)| wildcard.clone())
            }
            _ => name,
        }
    }

    /// Begins what a client's name needs. A sender that is dropped ends the wait of its handshake.
    fn demand(&mut self, name: Box<str>, waits: oneshot::Sender<()>) {
        let now = self.now();
        let name = self.held_as(name);
        if let Some(held) = self.held.get_mut(&name) {
            let failed = held.retry_at.is_some() && held.failures > 0;
            if held.pair.is_none() && !failed {
                held.is_awaited = false;
                self.wait(name, waits);
                self.look();
            }
            return;
        }
        let wanted = Arc::clone(&self.wanted.borrow());
        let Some(policy) = &wanted.allowing else {
            return;
        };
        let Some(callable) = policy.on_demand.callable() else {
            return;
        };
        if self
            .refused
            .get(&name)
            .is_some_and(|until| now < *until && until - now <= REFUSED)
        {
            return;
        }
        if self.waiting.contains_key(&name) {
            return self.wait(name, waits);
        }
        if self.decisions.len() >= MOST_UNDECIDED || self.allowed() >= wanted.allowed_names {
            tracing::debug!(
                "no certificate for {name}: too many names are allowed, or being decided on"
            );
            return;
        }
        let (records, callable, of) =
            (Arc::clone(&self.records), callable.to_owned(), name.clone());
        let patience = wanted.exchange_timeout;
        self.decisions.spawn_local(async move {
            let decision = tokio::time::timeout(patience, records.allows(&callable, &of)).await;
            let late = || Err("did not return in time (limits.tls.issuer_timeout)".to_owned());
            (of, decision.unwrap_or_else(|_| late()))
        });
        self.wait(name, waits);
    }

    /// Names that a callable has allowed.
    fn allowed(&self) -> usize {
        self.held.values().filter(|held| held.is_allowed).count()
    }

    fn wait(&mut self, name: Box<str>, waits: oneshot::Sender<()>) {
        let waiting = self.waiting.entry(name).or_default();
        waiting.retain(|waits| !waits.is_closed());
        if waiting.len() < MOST_WAITING {
            waiting.push(waits);
        }
    }

    /// Takes a callable's decision on a name.
    fn decide(&mut self, name: Box<str>, decision: Result<bool, String>) {
        let now = self.now();
        let wanted = Arc::clone(&self.wanted.borrow());
        let (Some(policy), Ok(true)) = (&wanted.allowing, &decision) else {
            let seconds = match decision {
                Err(why) => {
                    tracing::warn!("no certificate for {name}: {why}");
                    FAILED
                }
                Ok(_) => REFUSED,
            };
            self.refused
                .retain(|_, until| now < *until && *until - now <= REFUSED);
            if self.refused.len() < MOST_REFUSED {
                self.refused.insert(name.clone(), now + seconds);
            }
            self.waiting.remove(&name);
            return;
        };
        // Others were decided on at the same time, or a plan has come that names it.
        if self.held.contains_key(&name) || self.allowed() >= wanted.allowed_names {
            self.waiting.remove(&name);
            return;
        }
        let mut held = Held::new(policy, now);
        held.is_allowed = true;
        held.read(&name, now);
        let is_there = held.pair.is_some();
        self.held.insert(name.clone(), held);
        if is_there {
            self.publish();
            self.waiting.remove(&name);
        }
        self.look();
    }

    fn settle(&mut self, name: &str, ended: Ended) {
        let now = self.now();
        let certificates = Arc::clone(&self.certificates);
        let counts = &certificates.counts;
        let Some(held) = self.held.get_mut(name) else {
            return;
        };
        held.under_way = false;
        let count = match ended {
            Ended::Elsewhere => {
                (held.look, held.retry_at) = (now, Some(now + SOON));
                return;
            }
            Ended::Window(window, after) => {
                held.window_at = now.saturating_add(window_wait(after));
                if let (Some(pair), Some(_)) = (&held.pair, window) {
                    held.renew_at = renewal(pair.valid, window, held.chance).at;
                }
                return;
            }
            Ended::Obtained(Obtained { pem, pair }, stored) => {
                tracing::info!("a certificate for {name} was issued");
                held.take(pair, now);
                if held.rest_until > now {
                    tracing::warn!(
                        "the issuer has the certificate for {name} renewed again and again: the next is ordered in {} \
                         seconds at the earliest",
                        held.rest_until - now
                    );
                }
                held.unsaved = Some(pem);
                held.stored(name, stored);
                &counts.issued
            }
            Ended::Failed(faults) => {
                let wait = held.failed(now, faults.iter().map(|fault| fault.wait));
                for IssuerFault {
                    issuer,
                    host,
                    fault,
                    wait: patience,
                } in faults
                {
                    held.patience.insert(issuer, now.saturating_add(patience));
                    tracing::warn!(
                        "no certificate for {name} by {host}: {fault}; the next attempt is in {wait} seconds"
                    );
                }
                &counts.failed
            }
            Ended::BrokenOff(fault) => {
                let wait = held.failed(now, []);
                tracing::warn!(
                    "no certificate for {name}: {fault}; the next attempt is in {wait} seconds"
                );
                &counts.failed
            }
        };
        self.publish();
        // A reader that sees the count finds the certificate.
        count.fetch_add(1, Ordering::Release);
        self.waiting.remove(name);
    }

    fn publish(&self) {
        let mut pairs = NameTable::default();
        let mut states = BTreeMap::new();
        for (name, held) in &self.held {
            let state = NameState {
                valid: held.pair.as_ref().map(|pair| pair.valid),
                failures: held.failures,
                is_stored: held.unsaved.is_none(),
            };
            states.insert(name.clone(), state);
            if let Some(pair) = &held.pair {
                pairs.entry(name, || pair.clone());
            }
        }
        *self.certificates.states.lock() = states;
        self.certificates.publish(pairs);
    }
}
