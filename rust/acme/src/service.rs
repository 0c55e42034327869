//! The thread that obtains and renews: which certificates are due, and what became of each attempt.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use edgerouter_core::{
    acme::{RenewalWindow, may_retry, patient_wait, renewal, retry_wait, window_wait},
    plan::{AcmePolicy, OnDemand, Plan},
    tls::NameTable,
};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot, watch},
    task::{Id, JoinSet},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    fault::OrderFault,
    issued::{Demand, IssuedCertificates, NameState, ProofQuery},
    order::{IssuerFault, Obtained, OrderContext},
    pair::{self, Pair},
    records::RecordCalls,
    storage::{Stamp, Storage},
};

/// The wall clock, in Unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Orders under way at a time. Further ones wait.
const MOST_ORDERS: usize = 8;
/// Seconds between two looks at the file of a certificate, which another process may have replaced.
const LOOK: i64 = 30;
/// The same while another process is obtaining it.
const SOON: i64 = 2;

/// The certificates of the plan in service, and their bounds.
struct Wanted {
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

/// Obtains the certificates of plans. Its thread is started with the first plan that wants any, and ends with this.
pub struct AcmeService {
    certificates: Arc<IssuedCertificates>,
    records: Arc<RecordCalls>,
    clock: Clock,
    running: Mutex<Option<(watch::Sender<Arc<Wanted>>, JoinHandle<()>)>>,
}

impl std::fmt::Debug for AcmeService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeService")
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

impl AcmeService {
    /// One that has nothing to do yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            certificates: Arc::default(),
            records: Arc::default(),
            clock,
            running: Mutex::new(None),
        }
    }

    /// The certificates as handshakes and requests see them.
    pub fn certificates(&self) -> &Arc<IssuedCertificates> {
        &self.certificates
    }

    /// The records of DNS that are to be set.
    pub fn records(&self) -> &Arc<RecordCalls> {
        &self.records
    }

    /// Obtains what a plan wants from now on, and nothing else. Certificates that are stored already are in use when
    /// this returns; it reads files, so it belongs to a start or a reload.
    pub fn serve(&self, plan: &Plan) -> io::Result<()> {
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
        let wanted = Arc::new(Wanted {
            names,
            allowing: allowing.next().cloned().map(Arc::new),
            allowed_names: limits.allowed_names,
            exchange_timeout: limits.issuer_timeout,
            order_timeout: limits.order_timeout,
            orders_per_minute: limits.orders_per_minute as usize,
        });
        let mut running = self.running.lock();
        if let Some((wants, _)) = &*running {
            wants.send_replace(wanted);
            return Ok(());
        }
        let asked = self.certificates.asked.lock().take();
        let (true, Some((asked, demanded))) = (wanted.wants_any(), asked) else {
            return Ok(());
        };
        let (wants, watched) = watch::channel(wanted);
        let mut keeper = Keeper {
            certificates: Arc::clone(&self.certificates),
            records: Arc::clone(&self.records),
            clock: Arc::clone(&self.clock),
            wanted: watched,
            held: BTreeMap::new(),
            begun: VecDeque::new(),
            attempts: JoinSet::new(),
            decisions: JoinSet::new(),
            waiting: HashMap::new(),
            refused: HashMap::new(),
            names: HashMap::new(),
        };
        keeper.take_over();
        let thread = std::thread::Builder::new().name("edge-acme".to_owned()).spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                // Names of issuers are looked up there.
                .max_blocking_threads(2)
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(keeper.run(asked, demanded));
                    // A look-up of a name that is under way cannot be ended, and nobody waits for it.
                    runtime.shutdown_background();
                }
                Err(error) => tracing::error!(%error, "no certificates are obtained: the event loop could not be made"),
            }
        })?;
        *running = Some((wants, thread));
        Ok(())
    }

    /// Ends the thread. Orders under way are given up; the next process begins them anew.
    pub fn close(&self) {
        if let Some((wants, thread)) = self.running.lock().take() {
            drop(wants);
            let _ = thread.join();
        }
    }
}

impl Wanted {
    fn wants_any(&self) -> bool {
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

/// A certificate that is looked after.
struct Held {
    policy: Arc<AcmePolicy>,
    storage: Storage,
    pair: Option<Pair>,
    stamp: Option<Stamp>,
    /// The text of a certificate that could not be stored yet.
    unsaved: Option<String>,
    /// Unix seconds from which the certificate is renewed.
    renew_at: i64,
    /// The jitter of that time, as long as the certificate is in use.
    chance: u32,
    /// Unix seconds of the next look at the issuer's window for it.
    window_at: i64,
    /// Unix seconds before which no attempt is made again; `None`: the last one succeeded, or there was none.
    retry_at: Option<i64>,
    /// Unix seconds of the next look at the file.
    look: i64,
    failures: u32,
    /// Unix seconds before which an issuer, by its directory, wants no order for the name.
    patience: BTreeMap<Box<str>, i64>,
    under_way: bool,
    /// It is not ordered before a client has come with the name.
    is_awaited: bool,
    /// A callable has allowed the name.
    is_allowed: bool,
}

/// The end of an attempt.
enum Ended {
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

struct Keeper {
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
    fn now(&self) -> i64 {
        i64::try_from((self.clock)()).unwrap_or(i64::MAX)
    }

    async fn run(
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
                    let mut storages = self.held.values().map(|held| &held.storage);
                    let _ = answer.send(storages.find_map(|storage| storage.read_proof(&challenge)));
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
    fn take_over(&mut self) {
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

    /// Begins what a client's name needs. A sender that is dropped ends the wait of its handshake.
    fn demand(&mut self, name: Box<str>, waits: oneshot::Sender<()>) {
        let now = self.now();
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
        let allowed = self.held.values().filter(|held| held.is_allowed).count();
        if self.decisions.len() >= MOST_UNDECIDED || allowed >= wanted.allowed_names {
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
        let counts = &self.certificates.counts;
        let Some(held) = self.held.get_mut(name) else {
            return;
        };
        held.under_way = false;
        match ended {
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
                counts.issued.fetch_add(1, Ordering::Relaxed);
                tracing::info!("a certificate for {name} was issued");
                held.take(pair);
                held.unsaved = Some(pem);
                held.stored(name, stored);
            }
            Ended::Failed(faults) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
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
            }
            Ended::BrokenOff(fault) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                let wait = held.failed(now, []);
                tracing::warn!(
                    "no certificate for {name}: {fault}; the next attempt is in {wait} seconds"
                );
            }
        }
        self.publish();
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

impl Held {
    fn new(policy: &Arc<AcmePolicy>, now: i64) -> Self {
        Self {
            policy: Arc::clone(policy),
            storage: Storage::new(&policy.storage),
            pair: None,
            stamp: None,
            unsaved: None,
            renew_at: now,
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
    fn take(&mut self, pair: Pair) {
        self.chance = fastrand::u32(..);
        self.renew_at = renewal(pair.valid, None, self.chance).at;
        self.window_at = i64::MIN;
        self.pair = Some(pair);
        (self.retry_at, self.failures) = (None, 0);
    }

    /// Sets the time of the next attempt, and returns the seconds until then. `issuers`: those for which each wants to be
    /// left alone.
    fn failed(&mut self, now: i64, issuers: impl IntoIterator<Item = i64>) -> i64 {
        self.failures = self.failures.saturating_add(1);
        let wait = patient_wait(retry_wait(self.failures, fastrand::u32(..)), issuers);
        self.retry_at = Some(now.saturating_add(wait));
        wait
    }

    fn is_due(&self, now: i64) -> bool {
        let is_wanted = match self.pair {
            None => !self.is_awaited,
            Some(_) => now >= self.renew_at,
        };
        is_wanted && self.retry_at.is_none_or(|at| may_retry(at, now))
    }

    /// Reads the certificate if its file has changed. One that cannot be used, or that is gone, replaces none that can.
    fn read(&mut self, name: &str, now: i64) -> bool {
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
                    Ok(pair) => {
                        self.take(pair);
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

    /// Stores a certificate that could not be stored before.
    fn save(&mut self, name: &str) {
        if let Some(pem) = &self.unsaved {
            let stored = self.storage.write_certificate(name, pem.as_bytes());
            self.stored(name, stored);
        }
    }

    /// A certificate that cannot be stored is used all the same, and stored later.
    fn stored(&mut self, name: &str, stored: io::Result<()>) {
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
async fn attempt(context: OrderContext, known: Option<Stamp>) -> Ended {
    let _locked = match context.storage.lock(&context.name) {
        Ok(Some(locked)) => locked,
        Ok(None) => return Ended::Elsewhere,
        Err(error) => return Ended::BrokenOff(error.into()),
    };
    if context.storage.stamp(&context.name) != known {
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
