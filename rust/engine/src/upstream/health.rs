//! Who is healthy: one flag an origin, read on every request to a group, written by probes and by what requests meet.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use edgerouter_core::{
    cache::decide::OriginHealth,
    plan::{Group, Origin, Plan},
};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

/// All origins' health, by name and address: a reload that keeps an origin keeps its health.
#[derive(Debug, Default)]
pub struct HealthBoard {
    origins: RwLock<HashMap<(Arc<str>, u16), Arc<Flag>>>,
}

#[derive(Debug)]
struct Flag {
    healthy: AtomicBool,
    streak: Mutex<Streak>,
}

#[derive(Debug, Default)]
struct Streak {
    good: u32,
    bad: u32,
    /// When a failing origin without probes is tried again.
    retry_at: Option<std::time::Instant>,
}

/// Failures of requests in a row after which an origin is passed over, and for how long.
const PASSIVE_FAILURES: u32 = 3;
const PASSIVE_REST: std::time::Duration = std::time::Duration::from_secs(2);

impl HealthBoard {
    pub fn new(plan: &Plan) -> Self {
        let board = Self::default();
        for origin in &plan.origins {
            board.flag(origin);
        }
        board
    }

    fn flag(&self, origin: &Origin) -> Arc<Flag> {
        let key = (Arc::clone(&origin.host), origin.port);
        if let Some(flag) = self.origins.read().get(&key) {
            return Arc::clone(flag);
        }
        let fresh = || {
            Arc::new(Flag {
                healthy: AtomicBool::new(true),
                streak: Mutex::default(),
            })
        };
        Arc::clone(self.origins.write().entry(key).or_insert_with(fresh))
    }

    pub fn is_healthy(&self, origin: &Origin) -> bool {
        let flag = self.flag(origin);
        if flag.healthy.load(Ordering::Relaxed) {
            return true;
        }
        // Without probes somebody has to find out: one request at a time, after a rest.
        if origin.health.is_none() {
            let mut streak = flag.streak.lock();
            let now = std::time::Instant::now();
            if streak.retry_at.is_none_or(|at| now >= at) {
                streak.retry_at = Some(now + PASSIVE_REST);
                return true;
            }
        }
        false
    }

    /// Whether any member of a group is healthy, as probes and requests have found it.
    pub fn of_group(&self, plan: &Plan, group: &Group) -> OriginHealth {
        let healthy = |origin: &Origin| self.flag(origin).healthy.load(Ordering::Relaxed);
        if members(plan, group).any(healthy) {
            OriginHealth::Healthy
        } else {
            OriginHealth::Sick
        }
    }

    /// Whether a request that nobody waits for should go to the group now: a sick one is left alone but for trials.
    pub fn admits(&self, plan: &Plan, group: &Group) -> bool {
        members(plan, group).any(|origin| self.is_healthy(origin))
    }

    /// A request was answered, whatever the status.
    pub fn note_success(&self, origin: &Origin) {
        // Probes know more: a request that gets through must not wipe out what they count.
        if origin.health.is_some() {
            return;
        }
        let flag = self.flag(origin);
        let mut streak = flag.streak.lock();
        streak.bad = 0;
        self.set(&flag, origin, true);
    }

    /// A request was not answered.
    pub fn note_failure(&self, origin: &Origin) {
        let flag = self.flag(origin);
        let mut streak = flag.streak.lock();
        streak.good = 0;
        streak.bad = streak.bad.saturating_add(1);
        let limit = origin
            .health
            .as_ref()
            .map_or(PASSIVE_FAILURES, |health| health.unhealthy_after);
        if streak.bad >= limit {
            streak.retry_at = Some(std::time::Instant::now() + PASSIVE_REST);
            self.set(&flag, origin, false);
        }
    }

    /// A probe came back.
    pub fn probed(&self, origin: &Origin, good: bool) {
        let Some(health) = &origin.health else { return };
        let flag = self.flag(origin);
        let mut streak = flag.streak.lock();
        if good {
            streak.bad = 0;
            streak.good = streak.good.saturating_add(1);
            if streak.good >= health.healthy_after {
                self.set(&flag, origin, true);
            }
        } else {
            streak.good = 0;
            streak.bad = streak.bad.saturating_add(1);
            if streak.bad >= health.unhealthy_after {
                self.set(&flag, origin, false);
            }
        }
    }

    fn set(&self, flag: &Flag, origin: &Origin, healthy: bool) {
        if flag.healthy.swap(healthy, Ordering::Relaxed) != healthy {
            if healthy {
                tracing::info!(origin = %origin.name, "origin is healthy again");
            } else {
                tracing::warn!(origin = %origin.name, "origin is unhealthy");
            }
        }
    }

    /// What is known of an origin, for `/metrics`.
    pub fn state(&self, origin: &Origin) -> OriginState {
        let flag = self.flag(origin);
        let up = flag.streak.lock().bad == 0;
        OriginState {
            name: Arc::clone(&origin.name),
            up,
            healthy: flag.healthy.load(Ordering::Relaxed),
        }
    }
}

fn members<'p>(plan: &'p Plan, group: &'p Group) -> impl Iterator<Item = &'p Origin> {
    group.members.iter().filter_map(|id| plan.origin(*id))
}

/// How an origin does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginState {
    pub name: Arc<str>,
    /// The last probe or request was answered.
    pub up: bool,
    /// It is asked in its turn, not last.
    pub healthy: bool,
}
