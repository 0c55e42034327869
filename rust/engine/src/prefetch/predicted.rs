//! Fetches the pages that visitors will probably request next.
//!
//! The workers report navigations through a bounded queue and never wait; the model here learns from them one by one.
//! Pages are fetched anonymously, without cookies and token, and only for routes with prediction.

use std::{
    cell::RefCell,
    hash::{BuildHasher, RandomState},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use edgerouter_core::{
    admit,
    http::Fields,
    outcome::{PrefetchResult, PrefetchSource},
    plan::{
        Plan, Predict, PrefetchTarget, Route,
        matcher::{Probe, ProbeQuery},
    },
    predict::{Ledger, Likely, MinuteBudget, Model, ModelBounds},
};
use hashbrown::HashMap;
use http::Method;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    navigation::Navigation,
    request::internal::{self, Prefetched},
    worker::Worker,
};

/// Pages whose visitors are waited for at a time.
const WAITING: usize = 4_096;

/// Learns and fetches until the engine ends.
pub(crate) async fn run(worker: Rc<Worker>, mut navigations: mpsc::Receiver<Navigation>) {
    let mut oracle = Oracle::new(&worker);
    let mut seconds = tokio::time::interval(std::time::Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            navigation = navigations.recv() => match navigation {
                Some(navigation) => oracle.learn(navigation),
                None => return,
            },
            _ = seconds.tick() => oracle.tick(),
        }
    }
}

struct Oracle {
    worker: Rc<Worker>,
    hasher: RandomState,
    bounds: ModelBounds,
    known: Rc<RefCell<Known>>,
    gate: Arc<Semaphore>,
}

/// The state that fetches report to when they end.
struct Known {
    model: Model,
    ledger: Ledger,
    /// By label of the route.
    budgets: HashMap<Arc<str>, MinuteBudget>,
}

impl Oracle {
    fn new(worker: &Rc<Worker>) -> Self {
        let plan = &worker.live().plan;
        let bounds = bounds(plan);
        Self {
            worker: Rc::clone(worker),
            hasher: RandomState::new(),
            bounds,
            known: Rc::new(RefCell::new(Known {
                model: Model::new(bounds),
                ledger: Ledger::new(WAITING),
                budgets: HashMap::new(),
            })),
            gate: Arc::new(Semaphore::new(plan.limits.prefetch.concurrency)),
        }
    }

    fn tick(&mut self) {
        let live = self.worker.live();
        let mut known = self.known.borrow_mut();
        // A plan with other bounds makes the model start again.
        let bounds = bounds(&live.plan);
        if bounds != self.bounds {
            self.bounds = bounds;
            known.model = Model::new(bounds);
        }
        let routes = &live.plan.routes;
        known
            .budgets
            .retain(|label, _| routes.iter().any(|route| route.label == *label));
        known.ledger.expire(self.worker.clock.unix_now());
        self.worker.shared.metrics.predicted(&known.ledger);
    }

    fn learn(&self, navigation: Navigation) {
        let Navigation {
            visitor,
            target,
            bytes,
            found,
        } = navigation;
        let live = self.worker.live();
        let now = self.worker.clock.unix_now();
        let page = self
            .hasher
            .hash_one((host(&target), target.path_and_query.path()));
        let likely = {
            let mut known = self.known.borrow_mut();
            known.ledger.visited(page, found);
            known
                .model
                .observe(visitor, page, &Arc::new(target.clone()), bytes, now);
            self.worker.shared.metrics.predicted(&known.ledger);
            known.model.likely(page)
        };
        let Some((_, policy)) = predicting(&live.plan, &target) else {
            return;
        };
        let wanted = likely
            .into_iter()
            .filter(|next| next.confidence >= policy.confidence && next.support >= policy.support);
        for next in wanted.take(policy.pages) {
            self.fetch(&live.plan, next, now);
        }
    }

    /// Fetches a page within the budget of its route; one that would have to wait is not fetched.
    fn fetch(&self, plan: &Plan, next: Likely, now: u64) {
        let Some((route, policy)) = predicting(plan, &next.target) else {
            return;
        };
        if self.worker.shared.draining.load(Ordering::Relaxed) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.gate).try_acquire_owned() else {
            self.worker
                .metrics
                .prefetched(PrefetchSource::Predict, PrefetchResult::Busy);
            return;
        };
        let label = Arc::clone(&route.label);
        let affordable = self
            .known
            .borrow_mut()
            .budgets
            .entry(Arc::clone(&label))
            .or_default()
            .take(
                policy.requests_per_minute,
                policy.bytes_per_minute,
                next.bytes,
                now,
            );
        if !affordable {
            self.worker
                .metrics
                .prefetched(PrefetchSource::Predict, PrefetchResult::OverBudget);
            return;
        }
        let (worker, known) = (Rc::clone(&self.worker), Rc::clone(&self.known));
        let limit = plan.limits.prefetch.timeout;
        tokio::task::spawn_local(async move {
            let fetch = internal::prefetch(&worker, &next.target, &[], None);
            let fetched = tokio::time::timeout(limit, fetch)
                .await
                .unwrap_or(Prefetched::Failed(None));
            drop(permit);
            worker
                .metrics
                .prefetched(PrefetchSource::Predict, fetched.result());
            let mut known = known.borrow_mut();
            let cost = match fetched {
                Prefetched::Stored { bytes } | Prefetched::NotStored { bytes } => bytes,
                Prefetched::Fresh | Prefetched::Revalidated | Prefetched::Failed(_) => 0,
            };
            if let Some(budget) = known.budgets.get_mut(&label) {
                budget.settle(next.bytes, cost);
            }
            match fetched {
                Prefetched::Stored { .. } | Prefetched::Revalidated => {
                    known
                        .ledger
                        .fetched(next.page, cost, worker.clock.unix_now());
                }
                Prefetched::NotStored { .. } => {
                    known.ledger.lost(cost);
                    known.model.forget(next.page);
                }
                Prefetched::Failed(_) => known.model.forget(next.page),
                Prefetched::Fresh => {}
            }
            worker.shared.metrics.predicted(&known.ledger);
        });
    }
}

fn bounds(plan: &Plan) -> ModelBounds {
    ModelBounds {
        pages: plan.limits.prefetch.pages,
        visitors: plan.limits.prefetch.visitors,
    }
}

fn host(target: &PrefetchTarget) -> &str {
    let host = target.authority.to_str().unwrap_or_default();
    host.get(..admit::host_length(target.authority.as_bytes()))
        .unwrap_or(host)
}

/// The route of a page, if it predicts.
fn predicting<'p>(plan: &'p Plan, target: &PrefetchTarget) -> Option<(&'p Route, &'p Predict)> {
    let probe = Probe {
        host: host(target),
        path: target.path_and_query.path(),
        query: ProbeQuery::Text(None),
        method: &Method::GET,
        headers: &Fields::new(),
        place: None,
    };
    let route = plan.route(plan.router.find(&plan.routes, &probe)?)?;
    Some((route, route.predict.as_ref()?))
}
