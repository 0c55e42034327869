//! The health of origins: one flag each, read on every request to a group, written by probes and by the outcome of
//! requests. `edgerouter_core::origin::health` decides whether an origin is healthy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_core::{
    cache::decide::OriginHealth,
    origin::health::{self, Change, Health, Thresholds},
    plan::{Group, Origin, OriginId, Plan},
};
use hashbrown::{Equivalent, HashMap, HashSet};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use edgerouter_telemetry::text;

/// The health of the origins of the plans in use, by address: a reload that keeps an origin keeps its health.
#[derive(Debug)]
pub struct HealthBoard {
    origins: RwLock<HashMap<(Arc<str>, u16), Arc<Flag>>>,
    /// The states' clock counts from here.
    began: Instant,
    /// Notified whenever an origin is found unhealthy.
    changes: Notify,
}

#[derive(Debug)]
struct Flag {
    /// Copies of `health`, for those who only look.
    healthy: AtomicBool,
    spotless: AtomicBool,
    /// The last probe or request that failed got no answer.
    silent: AtomicBool,
    /// Requests answered without an error in the slot of the window of which `slot` is the number, not counted in
    /// `health` yet.
    good: AtomicU32,
    slot: AtomicU64,
    /// When it was found unhealthy last, on the board's clock.
    fell: AtomicU64,
    health: Mutex<Health>,
}

/// The place of an origin on the board.
#[derive(PartialEq, Eq, Hash)]
struct Address<'a>(&'a str, u16);

impl<'a> Address<'a> {
    fn of(origin: &'a Origin) -> Self {
        Self(&origin.host, origin.port)
    }
}

impl Equivalent<(Arc<str>, u16)> for Address<'_> {
    fn equivalent(&self, (host, port): &(Arc<str>, u16)) -> bool {
        *self.0 == **host && self.1 == *port
    }
}

impl HealthBoard {
    /// A board on which all of the plan's origins are healthy.
    pub fn new(plan: &Plan) -> Self {
        let board = Self {
            origins: RwLock::default(),
            began: Instant::now(),
            changes: Notify::new(),
        };
        for origin in &plan.origins {
            board.flag(origin);
        }
        board
    }

    /// Forgets the origins that none of these plans has. A request that began with an earlier plan may bring one of
    /// them back, until the next call.
    pub fn keep<'p>(&self, plans: impl IntoIterator<Item = &'p Plan>) {
        let origins = plans.into_iter().flat_map(|plan| &plan.origins);
        let kept: HashSet<_> = origins.map(Address::of).collect();
        let mut origins = self.origins.write();
        origins.retain(|(host, port), _| kept.contains(&Address(host, *port)));
    }

    fn flag(&self, origin: &Origin) -> Arc<Flag> {
        if let Some(flag) = self.origins.read().get(&Address::of(origin)) {
            return Arc::clone(flag);
        }
        let key = (Arc::clone(&origin.host), origin.port);
        let fresh = || {
            Arc::new(Flag {
                healthy: AtomicBool::new(true),
                spotless: AtomicBool::new(true),
                silent: AtomicBool::new(false),
                good: AtomicU32::new(0),
                slot: AtomicU64::new(0),
                fell: AtomicU64::new(0),
                health: Mutex::default(),
            })
        };
        Arc::clone(self.origins.write().entry(key).or_insert_with(fresh))
    }

    /// Reads the flag of an origin where it is: all workers would contend for its count of references.
    fn look<R>(&self, origin: &Origin, read: impl FnOnce(&Flag) -> R) -> R {
        if let Some(flag) = self.origins.read().get(&Address::of(origin)) {
            return read(flag);
        }
        read(&self.flag(origin))
    }

    fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// An instant on the board's clock, in milliseconds.
    fn at(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// True if a request should go to the origin in its turn: a healthy one, or one whose trial this request is.
    pub fn is_healthy(&self, origin: &Origin) -> bool {
        self.look(origin, |flag| {
            if flag.healthy.load(Ordering::Relaxed) {
                return true;
            }
            let thresholds = Thresholds::of(origin.health.as_ref());
            flag.health.lock().admits(thresholds, self.now())
        })
    }

    /// True if the origin is counted among the healthy; changes nothing.
    pub fn knows_healthy(&self, origin: &Origin) -> bool {
        self.look(origin, |flag| flag.healthy.load(Ordering::Relaxed))
    }

    /// Waits until `found` finds something: it is called now and whenever an origin is found unhealthy.
    pub async fn found_unhealthy<T>(&self, mut found: impl FnMut() -> Option<T>) -> T {
        loop {
            let changed = self.changes.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = found() {
                return found;
            }
            changed.await;
        }
    }

    fn note_silence(&self, origin: &Origin, silent: bool) {
        let flag = self.flag(origin);
        let news = flag.silent.swap(silent, Ordering::Relaxed) != silent;
        if silent && news && !flag.healthy.load(Ordering::Relaxed) {
            self.changes.notify_waiters();
        }
    }

    /// `why` is the cause that the log names, if the event changes anything.
    fn change(
        &self,
        origin: &Origin,
        why: &'static str,
        event: impl FnOnce(&mut Health) -> Option<Change>,
    ) {
        let flag = self.flag(origin);
        if flag.change(origin, why, event) == Some(Change::BecameUnhealthy) {
            flag.fell.store(self.now(), Ordering::Relaxed);
            self.changes.notify_waiters();
        }
    }

    /// The health of a group: of its best member, as probes and requests have found it.
    pub fn of_group(&self, plan: &Plan, group: &Group) -> OriginHealth {
        if members(plan, group).any(|origin| self.knows_healthy(origin)) {
            OriginHealth::Healthy
        } else {
            OriginHealth::Unhealthy
        }
    }

    /// True if no member of a group is healthy and none of them has answered its last request: the edge is
    /// disconnected from them (RFC 9111 §4.2.4). Members that answer with errors are unhealthy, too, but not silent.
    pub fn is_silent(&self, plan: &Plan, group: &Group) -> bool {
        let silent = |origin: &Origin| {
            let flag = self.flag(origin);
            !flag.healthy.load(Ordering::Relaxed) && flag.silent.load(Ordering::Relaxed)
        };
        members(plan, group).all(silent)
    }

    /// Waits until a group is silent, and returns the time since which its members are unhealthy.
    pub async fn silent(&self, plan: &Plan, group: &Group) -> Instant {
        let fell = || {
            let fell = |origin| self.flag(origin).fell.load(Ordering::Relaxed);
            let since = || members(plan, group).map(fell).max().unwrap_or(0);
            self.is_silent(plan, group).then(since)
        };
        self.began + Duration::from_millis(self.found_unhealthy(fell).await)
    }

    /// True if a request that no client waits for should go to the group now: an unhealthy one gets trials only.
    pub fn admits(&self, plan: &Plan, group: &Group) -> bool {
        members(plan, group).any(|origin| self.is_healthy(origin))
    }

    /// A request was answered without an error by an origin whose last events were others.
    #[cold]
    fn note_recovery(&self, origin: &Origin) {
        let thresholds = Thresholds::of(origin.health.as_ref());
        self.note_silence(origin, false);
        self.change(origin, "requests are answered", |health| {
            health.succeeded(thresholds)
        });
    }

    /// A request was answered with an error.
    pub fn note_error(&self, origin: &Origin) {
        let thresholds = Thresholds::of(origin.health.as_ref());
        let now = self.now();
        self.note_silence(origin, false);
        self.change(origin, "responses are errors", |health| {
            health.erred(thresholds, now)
        });
    }

    /// A response whose head was good broke off.
    pub fn note_broken(&self, origin: &Origin) {
        let thresholds = Thresholds::of(origin.health.as_ref());
        let now = self.now();
        self.change(origin, "responses break off", |health| {
            health.broke_off(thresholds, now)
        });
    }

    /// A request was not answered.
    pub fn note_failure(&self, origin: &Origin) {
        let thresholds = Thresholds::of(origin.health.as_ref());
        let now = self.now();
        self.note_silence(origin, true);
        self.change(origin, "requests are not answered", |health| {
            health.failed(thresholds, now)
        });
    }

    /// A probe came back, or did not: `answered`.
    pub fn probed(&self, origin: &Origin, good: bool, answered: bool) {
        let thresholds = Thresholds::of(origin.health.as_ref());
        let now = self.now();
        self.note_silence(origin, !answered);
        let why = match (good, answered) {
            (true, _) => "probes succeed",
            (false, true) => "probes get a wrong answer",
            (false, false) => "probes are not answered",
        };
        self.change(origin, why, |health| health.probed(thresholds, good, now));
    }

    /// The state of an origin, for `/metrics`.
    pub fn state(&self, origin: &Origin) -> OriginState {
        let flag = self.flag(origin);
        OriginState {
            name: Arc::clone(&origin.name),
            up: !flag.silent.load(Ordering::Relaxed),
            healthy: flag.healthy.load(Ordering::Relaxed),
        }
    }
}

/// The flags of a plan's origins, in its order, for what each request needs and notes: it does not search the board. A
/// plan that is no longer served may have flags that the board has forgotten.
#[derive(Debug)]
pub struct PlanHealth {
    board: Arc<HealthBoard>,
    flags: Box<[Arc<Flag>]>,
}

impl PlanHealth {
    /// Puts origins that the board does not know on it, as healthy ones.
    pub fn new(board: &Arc<HealthBoard>, plan: &Plan) -> Self {
        Self {
            board: Arc::clone(board),
            flags: plan
                .origins
                .iter()
                .map(|origin| board.flag(origin))
                .collect(),
        }
    }

    fn flag(&self, id: OriginId) -> Option<&Flag> {
        self.flags.get(id.0 as usize).map(|flag| &**flag)
    }

    /// True if the origin is counted among the healthy; changes nothing.
    pub fn knows_healthy(&self, id: OriginId) -> bool {
        self.flag(id)
            .is_none_or(|flag| flag.healthy.load(Ordering::Relaxed))
    }

    /// True if a request should go to the origin in its turn: a healthy one, or one whose trial this request is.
    pub fn admits(&self, id: OriginId, origin: &Origin) -> bool {
        self.knows_healthy(id) || self.board.is_healthy(origin)
    }

    /// A request was answered at `now`, and not with an error.
    pub fn note_success(&self, id: OriginId, origin: &Origin, now: Instant) {
        let Some(flag) = self.flag(id) else {
            return;
        };
        let slot = health::slot(self.board.at(now));
        if flag.slot.load(Ordering::Relaxed) != slot {
            flag.begin_slot(slot);
        }
        flag.good.fetch_add(1, Ordering::Relaxed);
        if !(flag.healthy.load(Ordering::Relaxed) && flag.spotless.load(Ordering::Relaxed)) {
            self.board.note_recovery(origin);
        }
    }
}

impl Flag {
    /// The slot before is over: its count goes under its number.
    #[cold]
    fn begin_slot(&self, slot: u64) {
        let mut health = self.health.lock();
        let before = self.slot.swap(slot, Ordering::Relaxed);
        health.answered(before, self.good.swap(0, Ordering::Relaxed));
    }

    fn change(
        &self,
        origin: &Origin,
        why: &'static str,
        event: impl FnOnce(&mut Health) -> Option<Change>,
    ) -> Option<Change> {
        let mut health = self.health.lock();
        let good = self.good.swap(0, Ordering::Relaxed);
        health.answered(self.slot.load(Ordering::Relaxed), good);
        let change = event(&mut health);
        self.healthy.store(health.is_healthy(), Ordering::Relaxed);
        self.spotless.store(health.is_spotless(), Ordering::Relaxed);
        match change {
            Some(Change::BecameHealthy) => {
                tracing::info!(origin = %origin.name, why, "origin is healthy again");
            }
            Some(Change::BecameUnhealthy) => {
                tracing::warn!(origin = %origin.name, why, "origin is unhealthy");
            }
            None => {}
        }
        change
    }
}

fn members<'p>(plan: &'p Plan, group: &'p Group) -> impl Iterator<Item = &'p Origin> {
    group.members.iter().filter_map(|id| plan.origin(*id))
}

/// The state of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginState {
    /// As the plan names it.
    pub name: Arc<str>,
    /// The last probe or request was answered, with an error or without.
    pub up: bool,
    /// It gets requests in its turn, not last.
    pub healthy: bool,
}

/// The states of origins, as metrics.
pub fn render_states(states: &[OriginState], out: &mut String) {
    type Of = fn(&OriginState) -> bool;
    for (name, help, of) in [
        (
            "edgerouter_origin_up",
            "1 if the last probe of an origin, or the last request to it, was answered, with an error or without.",
            (|state| state.up) as Of,
        ),
        (
            "edgerouter_origin_healthy",
            "1 if an origin is requested in its turn; 0 if it is unhealthy, and requested last.",
            |state| state.healthy,
        ),
    ] {
        let samples = states
            .iter()
            .map(|state| ([&*state.name], u8::from(of(state))));
        text::labelled(out, name, help, ["origin"], samples);
    }
}
