//! Plans that come into service while the engine serves: by a reload, for all clients, or by a deploy, for a share of
//! them.

use std::sync::Arc;

use edgerouter_core::{
    bounds::memory::Budget,
    plan::{Plan, Problem, apart},
};

use super::{
    Engine,
    sharing::{memory_capacity, open_files, places, tls_of},
};
use crate::{
    cache::functions::CachesApart,
    data::Bindings,
    deploys::{Candidate, DeployEnd, DeployOrders, NewDeploy, NoDeploy},
    functions::Functions,
    identity::KeySources,
    listen::{tight, tls::TlsListeners},
    live::Live,
    readings::ReadingBoard,
    telemetry::log,
};

impl Engine {
    /// Puts a plan in service; requests on their way keep the one they started with, and connections their TLS. Returns
    /// its version, or why its certificates cannot be used.
    pub fn reload(
        &self,
        mut plan: Plan,
        functions: Arc<dyn Functions>,
        bindings: Arc<Bindings>,
    ) -> Result<u64, Vec<Problem>> {
        let mut newest = self.reloading.lock();
        let previous = self.shared.live.load_full();
        apart::keep_apart(&mut plan, &previous.plan);
        self.fits_memory(&plan)?;
        let issued = self.shared.acme.certificates();
        let tls = tls_of(&plan, Some(&previous.tls), issued)?;
        let geo = places(&plan, previous.geo.as_ref())?;
        tls.warn_of_expiry(self.shared.unix_now());
        if let Err(error) = self.shared.acme.serve(&plan) {
            tracing::error!(%error, "no certificates are obtained: a thread could not be started");
        }
        let version = *newest + 1;
        let readings =
            ReadingBoard::begin(&plan, &bindings, Some((&previous.plan, &previous.readings)));
        let keys = KeySources::succeed(&previous.keys, &plan);
        let connections = tight::fit(self.shared.descriptors, &plan, Some(&previous.plan));
        *newest = version;
        self.serve(Arc::new(Live {
            plan,
            functions,
            bindings,
            caches: Arc::clone(&previous.caches),
            version,
            keys,
            geo,
            readings,
            tls,
            connections,
        }));
        self.shared.metrics.reload(true);
        let number = version.to_string();
        log::recent::note("info", "a new plan is in service", &[("version", &number)]);
        tracing::debug!(version, "plan reloaded");
        Ok(version)
    }

    /// Refuses a plan whose memory cache is too small for the shards of the one that serves.
    fn fits_memory(&self, plan: &Plan) -> Result<(), Vec<Problem>> {
        let least = self.shared.cache.store.least_capacity();
        if memory_capacity(plan) >= least {
            return Ok(());
        }
        let message =
            format!("must be at least {least} while the edge serves; for less, stop and start it");
        Err(vec![of_process("limits.cache.memory_bytes", &message)])
    }

    /// Puts a version in service, with the bounds of its plan on the process.
    fn serve(&self, live: Arc<Live>) {
        let (shared, limits) = (&self.shared, &live.plan.limits);
        shared
            .account
            .bound(Budget::of_bound(limits.http.request_memory_bytes).capacity);
        let largest = limits.cache.largest_object_bytes;
        (shared.cache.store).bound(memory_capacity(&live.plan), largest);
        shared.function_caches.allow(limits.functions.named_caches);
        let open_files = open_files(shared.descriptors, &live.plan);
        shared.compressors.bound(&limits.compression);
        shared.files.bound(&limits.files, open_files);
        shared.images.bound(&limits.images);
        log::bound(&limits.log);
        if let Err(error) = shared.counting.serve(&live.plan) {
            tracing::error!(%error, "experiments are not counted: a thread could not be started");
        }
        if let Some(policy) = &live.plan.tracing {
            shared.traces.bound(policy.queue_spans);
        }
        shared.live.store(live);
        self.keep_health();
        shared.next_epoch();
    }

    /// Forgets the health of origins that neither the version in service nor the one beside it has.
    fn keep_health(&self) {
        let (live, candidate) = (self.shared.live.load(), self.shared.deploys.candidate());
        let beside = candidate.as_ref().map(|candidate| &candidate.live.plan);
        self.shared
            .health
            .keep([Some(&live.plan), beside].into_iter().flatten());
    }

    /// Puts a version beside the one in service, for a share of the clients; gives the id of the deploy. `data` and
    /// `running`: the data of the two plans.
    pub fn deploy(
        &self,
        mut plan: Plan,
        (data, running): (&serde_json::Value, &serde_json::Value),
        (functions, bindings): (Arc<dyn Functions>, Arc<Bindings>),
        new: NewDeploy,
    ) -> Result<u64, Vec<Problem>> {
        let mut newest = self.reloading.lock();
        let previous = self.shared.live.load_full();
        let version = *newest + 1;
        if let Some(name) = apart::of_process(data, running) {
            let message = "cannot differ from that of the running version: restart the edge with the new file instead";
            return Err(vec![of_process(name, message)]);
        }
        self.fits_memory(&plan)?;
        let shared = &self.shared;
        let before = Some((&previous.plan, &previous.readings));
        let make = |tag: &str| {
            let tag: Arc<str> = tag.into();
            let beside = apart::Version {
                plan: &previous.plan,
                data: running,
            };
            let apart = apart::set_apart(&mut plan, data, beside, &tag);
            let caches = CachesApart::new(Arc::clone(&shared.function_caches), tag);
            let issued = shared.acme.certificates();
            let live = Live {
                tls: TlsListeners::of(&plan, Some(&previous.tls), issued)?,
                geo: places(&plan, previous.geo.as_ref())?,
                readings: ReadingBoard::begin(&plan, &bindings, before),
                keys: KeySources::succeed(&previous.keys, &plan),
                connections: tight::fit(shared.descriptors, &plan, Some(&previous.plan)),
                functions,
                bindings,
                caches: Arc::new(caches),
                version,
                plan,
            };
            Ok::<_, Vec<Problem>>((live, apart))
        };
        let file = new.file.clone();
        match shared.deploys.begin(new, shared.unix_now(), make) {
            Err(under_way) => {
                let message =
                    format!("deploy {under_way} is under way: promote it or roll it back first");
                Err(vec![of_process("deploy", &message)])
            }
            Ok(Err(problems)) => Err(problems),
            Ok(Ok(id)) => {
                *newest = version;
                self.keep_health();
                shared.next_epoch();
                let number = id.to_string();
                let about = [("deploy", number.as_str()), ("file", file.as_str())];
                log::recent::note("info", "a deploy is under way", &about);
                Ok(id)
            }
        }
    }

    /// Puts the version of the deploy under way in service for all clients. Gives its number and its bindings.
    pub fn promote(&self, id: Option<u64>) -> Result<(u64, Arc<Bindings>), NoDeploy> {
        let _one = self.reloading.lock();
        let (shared, end) = (&self.shared, DeployEnd::Promoted);
        // Before it is in service: workers that look in between find the version that served before, alone.
        let ended = shared.deploys.end(id, end, shared.unix_now(), "")?;
        let Candidate { live, trial, .. } = ended;
        let (version, bindings) = (live.version, Arc::clone(&live.bindings));
        if let Err(error) = shared.acme.serve(&live.plan) {
            tracing::error!(%error, "no certificates are obtained: a thread could not be started");
        }
        self.serve(live);
        let number = trial.id.to_string();
        log::recent::note("info", "a deploy was promoted", &[("deploy", &number)]);
        Ok((version, bindings))
    }

    /// Ends the deploy under way; no request that begins from the return on gets its version.
    pub fn roll_back(&self, id: Option<u64>, reason: &str) -> Result<(), NoDeploy> {
        self.shared.roll_back(id, reason)
    }

    /// The id of the deploy under way.
    pub fn deploy_under_way(&self) -> Option<u64> {
        self.shared.deploys.under_way()
    }

    /// Notes a deploy that was refused: by its file, the hash of it and the author.
    pub fn deploy_refused(&self, (file, hash, author): (&str, &str, &str), reason: &str) {
        let now = self.shared.unix_now();
        self.shared.deploys.refused(file, hash, author, now, reason);
    }

    /// The orders of the admin listener that Python carries out.
    pub fn deploy_orders(&self) -> &Arc<DeployOrders> {
        &self.shared.deploys.orders
    }

    /// Keeps the data of the plan in service for those who look at it: without secrets.
    pub fn document(&self, data: serde_json::Value) {
        let version = self.shared.live.load().version;
        let now = self.shared.unix_now();
        self.shared.documents.add(version, now, data);
    }

    /// Notes that a new plan was refused, and why; the one in service stays.
    pub fn reload_failed(&self, reason: &str) {
        self.shared.metrics.reload(false);
        let message = "a new plan was refused; the one in service stays";
        log::recent::note("warn", message, &[("why", reason)]);
        // The caller of the reload gets it, too, and prints it.
        tracing::debug!(reason, "the new plan was refused; the one in service stays");
    }
}

fn of_process(path: &str, message: &str) -> Problem {
    Problem {
        path: path.to_owned(),
        value: None,
        message: message.to_owned(),
    }
}
