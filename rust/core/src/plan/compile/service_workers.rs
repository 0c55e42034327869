//! Checks that a service worker fits the route table: its script is reachable, and the paths that it precaches have
//! routes.

use super::{Problems, host};
use crate::{
    plan::{HostPattern, Route, matcher::host::hosts_intersect},
    service_worker::ServiceWorker,
};

pub(super) fn fit<'r>(
    workers: &[ServiceWorker],
    routes: impl Iterator<Item = &'r Route> + Clone,
    problems: &Problems,
) {
    for (at, worker) in workers.iter().enumerate() {
        let path = format!("service_workers[{at}]");
        let hosts: Vec<HostPattern> = worker
            .host
            .iter()
            .filter_map(|text| host(text, &format!("{path}.host"), problems))
            .collect();
        let there = routes
            .clone()
            .filter(|route| hosts_intersect(&hosts, &route.hosts));
        // The worker's own route is always among them.
        if there
            .clone()
            .filter(|route| route.path.is_exact() && route.path.matches(&worker.path))
            .nth(1)
            .is_some()
        {
            problems.add(
                format!("{path}.path"),
                Some(format!("{:?}", worker.path)),
                "is the path of another route, too: give the script a path of its own",
            );
        }
        let precached = worker
            .precache
            .iter()
            .enumerate()
            .map(|(nth, text)| (format!("{path}.precache[{nth}]"), text))
            .chain(
                worker
                    .offline
                    .iter()
                    .map(|text| (format!("{path}.offline"), text)),
            );
        for (place, text) in precached {
            let target = text.split('?').next().unwrap_or(text);
            if !there.clone().any(|route| route.path.matches(target)) {
                problems.add(
                    place,
                    Some(format!("{text:?}")),
                    "is answered by no route: the worker could not be installed",
                );
            }
        }
    }
}
