//! Fetches the plan's lists of URLs: at the start, and at intervals.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use edgerouter_core::{outcome::PrefetchSource, plan::Prefetch};
use hashbrown::HashSet;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    live::Live,
    request::internal::{self, Prefetched},
    worker::Worker,
};

/// Fetches the lists of a plan until it is dropped.
pub(crate) async fn run(worker: Rc<Worker>, live: Arc<Live>) {
    let gate = Arc::new(Semaphore::new(live.plan.limits.prefetch.concurrency));
    let mut lists = JoinSet::new();
    for index in 0..live.plan.prefetch.len() {
        let (worker, live, gate) = (Rc::clone(&worker), Arc::clone(&live), Arc::clone(&gate));
        lists.spawn_local(async move {
            if let Some(list) = live.plan.prefetch.get(index) {
                keep_fetching(&worker, &live, list, &gate).await;
            }
        });
    }
    while lists.join_next().await.is_some() {}
}

async fn keep_fetching(
    worker: &Rc<Worker>,
    live: &Arc<Live>,
    list: &Prefetch,
    gate: &Arc<Semaphore>,
) {
    // Indexes of URLs whose last fetch failed: a failure is logged when it begins and when it ends.
    let failing = Rc::new(RefCell::new(HashSet::new()));
    if list.on_start {
        round(worker, live, list, gate, &failing).await;
    }
    let Some(every) = list.every else { return };
    loop {
        tokio::time::sleep(jittered(every, worker.random())).await;
        round(worker, live, list, gate, &failing).await;
    }
}

/// A tenth more or less, so that the machines of a fleet do not all request at once.
fn jittered(every: Duration, random: u64) -> Duration {
    every.mul_f64(0.9 + 0.2 * (random >> 11) as f64 / (1_u64 << 53) as f64)
}

/// The longest pause until the next round, in whole seconds: stored responses must last as long.
fn least_fresh(every: Duration) -> u32 {
    every.mul_f64(1.1).as_secs_f64().ceil() as u32
}

async fn round(
    worker: &Rc<Worker>,
    live: &Arc<Live>,
    list: &Prefetch,
    gate: &Arc<Semaphore>,
    failing: &Rc<RefCell<HashSet<usize>>>,
) {
    let mut fetches = JoinSet::new();
    for (place, target) in list.targets.iter().enumerate() {
        if worker.shared.draining.load(Ordering::Relaxed) {
            return;
        }
        let Ok(permit) = Arc::clone(gate).acquire_owned().await else {
            return;
        };
        let (worker, live, failing) = (Rc::clone(worker), Arc::clone(live), Rc::clone(failing));
        let (target, headers) = (target.clone(), list.headers.clone());
        let fresh_for = list.every.map(least_fresh);
        fetches.spawn_local(async move {
            let fetch = internal::prefetch(&worker, &target, &headers, fresh_for);
            let fetched = tokio::time::timeout(live.plan.limits.prefetch.timeout, fetch)
                .await
                .unwrap_or(Prefetched::Failed(None));
            drop(permit);
            worker
                .metrics
                .prefetched(PrefetchSource::List, fetched.result());
            let mut failing = failing.borrow_mut();
            let host = target.authority.to_str().unwrap_or_default();
            let path = target.path_and_query.path();
            match fetched {
                Prefetched::Failed(status) if failing.insert(place) => {
                    let status = status.map(|status| status.as_u16());
                    tracing::warn!(host, path, status, "prefetching failed");
                }
                Prefetched::Failed(_) => {}
                _ if failing.remove(&place) => {
                    tracing::info!(host, path, "prefetching works again");
                }
                _ => {}
            }
        });
    }
    while fetches.join_next().await.is_some() {}
}
