//! The state that the threads of an engine share, made from its first plan.

use std::{
    hash::RandomState,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64},
    },
};

use arc_swap::ArcSwap;
use edgerouter_core::{
    bounds::{descriptors::Descriptors, memory::Budget},
    http::cdn_loop::CdnLoop,
    plan::{Plan, Problem},
};
use tokio::sync::{Notify, mpsc};

use super::{
    memory,
    settings::{Settings, StartError},
};
use crate::{
    account::{Account, PerClientCounts},
    acme::{AcmeService, IssuedCertificates},
    beats::Beats,
    cache::{Cache, functions::Registry},
    clock,
    compress::Compressors,
    connection::AllConnections,
    counting::Counting,
    data::Bindings,
    deploys::Deploys,
    files::Files,
    functions::{FunctionCaches, Functions},
    geo::GeoFiles,
    identity::{KeySources, Passwords},
    image_variants::Images,
    listen::{
        tight,
        tls::{HandshakeCounts, TlsListeners},
    },
    live::{Documents, Live},
    navigation::Navigation,
    observed::Tails,
    readings::ReadingBoard,
    secret::SecretNumbers,
    store::Fills,
    telemetry::{Metrics, trace::TraceQueue},
    upstream::{self, HealthBoard},
    watched::Watched,
    worker::Shared,
};

/// Every problem of a plan's certificates and keys.
pub fn check_tls(plan: &Plan) -> Result<(), Vec<Problem>> {
    tls_of(plan, None, &Arc::default()).map(drop)
}

/// TLS with clients; refuses certificates and keys that cannot be used, those for origins included.
pub(super) fn tls_of(
    plan: &Plan,
    previous: Option<&TlsListeners>,
    issued: &Arc<IssuedCertificates>,
) -> Result<TlsListeners, Vec<Problem>> {
    let listeners = TlsListeners::of(plan, previous, issued);
    match (listeners, upstream::check_tls(plan)) {
        (Ok(listeners), Ok(())) => Ok(listeners),
        (listeners, origins) => {
            let of_listeners = listeners.err().into_iter().flatten();
            Err(of_listeners
                .chain(origins.err().into_iter().flatten())
                .collect())
        }
    }
}

/// The files of a plan's `geo`: those of the previous plan if it named the same.
pub(super) fn places(
    plan: &Plan,
    previous: Option<&Arc<GeoFiles>>,
) -> Result<Option<Arc<GeoFiles>>, Vec<Problem>> {
    let policy = plan.geo.as_ref();
    policy
        .map(|policy| GeoFiles::succeed(previous, policy))
        .transpose()
}

pub(super) fn share(
    plan: Plan,
    (functions, bindings): (Arc<dyn Functions>, Arc<Bindings>),
    workers: usize,
    settings: &Settings,
    (navigations, own_addresses): (mpsc::Sender<Navigation>, Box<[SocketAddr]>),
) -> Result<Arc<Shared>, StartError> {
    let geo = places(&plan, None).map_err(StartError::Geo)?;
    let test_clock = settings.test_clock.then(Arc::<AtomicI64>::default);
    let acme = AcmeService::new(clock::shared(test_clock.clone()));
    let secret = SecretNumbers::default();
    let counting = counting(&plan, settings, &secret, test_clock.clone())?;
    let tls = tls_of(&plan, None, acme.certificates()).map_err(StartError::Tls)?;
    acme.serve(&plan).map_err(StartError::Thread)?;
    // Before the disk tier opens files of its own, which are reckoned with apart.
    let descriptors = settings
        .descriptors
        .map(|limit| tight::descriptors(limit, workers));
    let cache = Cache::open(&plan, memory_capacity(&plan))?;
    // One more than serve: the background has a worker of its own.
    let metrics = Metrics::new(workers + 1, &plan);
    let keys = KeySources::of(&plan);
    let connections = tight::fit(descriptors, &plan, None);
    let health = Arc::new(HealthBoard::new(&plan));
    let account = Account::new(Budget::of_bound(plan.limits.http.request_memory_bytes).capacity);
    let compressors = Compressors::new(&plan.limits.compression);
    let files = Files::new(&plan.limits.files, open_files(descriptors, &plan));
    let images = Images::new(&plan.limits.images);
    let (traces, traces_due) = traces(&plan);
    let readings = ReadingBoard::begin(&plan, &bindings, None);
    let function_caches = function_caches(&plan, &cache);
    let caches = Arc::clone(&function_caches) as Arc<dyn FunctionCaches>;
    let cdn_loop = CdnLoop::new(plan.via.pseudonym(), fastrand::u64(..));
    let live = Arc::new(ArcSwap::from_pointee(Live {
        plan,
        functions,
        bindings,
        caches,
        version: 1,
        keys,
        geo,
        readings,
        tls,
        connections,
    }));
    Ok(Arc::new(Shared {
        cache,
        fills: Fills::default(),
        watched: Watched::default(),
        navigations,
        visitors: RandomState::new(),
        cdn_loop,
        secret,
        counting,
        function_caches,
        compressors,
        files,
        images,
        own_addresses,
        health,
        metrics,
        connections: AllConnections::new(workers),
        handshakes: HandshakeCounts::default(),
        account,
        client_requests: PerClientCounts::new(),
        rates: Arc::default(),
        passwords: Passwords::default(),
        descriptors,
        draining: AtomicBool::new(false),
        beats: Beats::new(workers),
        access_log: settings.access_log.clone(),
        tails: Tails::default(),
        documents: Documents::default(),
        deploys: Deploys::default(),
        traces,
        traces_due,
        epoch: AtomicU64::new(0),
        test_clock,
        acme,
        live,
    }))
}

/// The counts of the visitors of experiments.
fn counting(
    plan: &Plan,
    settings: &Settings,
    secret: &SecretNumbers,
    test_clock: Option<Arc<AtomicI64>>,
) -> Result<Arc<Counting>, StartError> {
    let file = settings.experiments_file.as_deref();
    let counting = Arc::new(Counting::open(file, secret.unguessable(), test_clock)?);
    counting.serve(plan).map_err(StartError::Thread)?;
    Ok(counting)
}

/// The queue of spans, and the notice that it has some.
fn traces(plan: &Plan) -> (Arc<TraceQueue>, Arc<Notify>) {
    let due = Arc::<Notify>::default();
    let notified = Arc::clone(&due);
    let traces = Arc::new(TraceQueue::new(move || notified.notify_one()));
    if let Some(policy) = &plan.tracing {
        traces.bound(policy.queue_spans);
    }
    (traces, due)
}

fn function_caches(plan: &Plan, cache: &Cache) -> Arc<Registry> {
    let (store, purges) = (Arc::clone(&cache.store), Arc::clone(&cache.purges));
    let most = plan.limits.functions.named_caches;
    Arc::new(Registry::new(store, purges, most))
}

/// The number of files of routes that may be open at a time.
pub(super) fn open_files(descriptors: Option<Descriptors>, plan: &Plan) -> usize {
    descriptors.map_or(plan.limits.files.open_files, |descriptors| {
        descriptors.open_files(plan)
    })
}

/// The bytes of the memory cache under this plan.
pub(super) fn memory_capacity(plan: &Plan) -> u64 {
    let given = plan.limits.cache.memory_bytes;
    given.unwrap_or_else(default_capacity)
}

/// Bytes of the memory cache if the plan sets none: a quarter of the memory of the machine or the container, at most
/// 4 GiB (docs/design.md §11).
pub fn default_capacity() -> u64 {
    const MOST: u64 = 4 << 30;
    let total = memory::usable(Path::new("/")).unwrap_or(1 << 30);
    (total / 4).min(MOST)
}
