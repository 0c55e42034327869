//! Work outside requests: health probes, key sets by URL, settings of experiments, prefetching, sending of traces. One
//! thread, one event loop.

mod probes;
mod readings;
mod traces;

use std::{future::poll_fn, pin::Pin, rc::Rc, sync::Arc, thread::JoinHandle, time::Duration};

use bytes::{Bytes, BytesMut};
use edgerouter_core::{
    http::{Fields, PathAndQuery, framing::head::HeadLimits, header},
    identity::jwks::MOST_BYTES,
    plan::{Origin, OriginTimes, OriginTls, PoolBounds, Scheme, UpstreamHost},
};
use http::{HeaderValue, StatusCode, Uri};
use http_body::Body as _;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, watch},
    task::spawn_local,
};

use crate::{
    fetches::Fetches,
    identity::jwks_source::Fetch,
    life::Life,
    navigation::Navigation,
    prefetch::{predicted, schedule},
    request::fetches,
    upstream::Upstreams,
    worker::{Shared, Worker},
};

pub(crate) fn start(
    workers: usize,
    shared: Arc<Shared>,
    navigations: mpsc::Receiver<Navigation>,
    life: watch::Receiver<Life>,
    tend_memory: fn(),
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("edge-background".to_owned()).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(workers, shared, navigations, life, tend_memory)),
            Err(error) => tracing::error!(%error, "no health probes, no key refresh, no prefetching: the event loop could not be made"),
        }
    })
}

/// Starts the tasks of the plan in service, and again for each later plan.
async fn run(
    workers: usize,
    shared: Arc<Shared>,
    navigations: mpsc::Receiver<Navigation>,
    mut life: watch::Receiver<Life>,
    tend_memory: fn(),
) {
    let (fetches, wanted) = Fetches::new();
    let worker = Worker::new(workers, workers, Arc::clone(&shared), fetches);
    spawn_local(fetches::serve(Rc::clone(&worker), wanted));
    let upstreams = Rc::clone(&worker.upstreams);
    spawn_local(predicted::run(Rc::clone(&worker), navigations));
    let sending = traces::run(Rc::clone(&upstreams), Arc::clone(&shared), life.clone());
    let sending = spawn_local(sending);
    let mut version = 0;
    let mut tasks: Vec<tokio::task::JoinHandle<()>> = Vec::new();
    // Of the version beside the one in service.
    let mut beside = (0, Vec::<tokio::task::JoinHandle<()>>::new());
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                worker.tick();
                tend_memory();
                let live = shared.live.load_full();
                if live.version != version {
                    version = live.version;
                    for task in tasks.drain(..) {
                        task.abort();
                    }
                    tasks.push(spawn_local(probes::run(Rc::clone(&upstreams), Arc::clone(&live), Arc::clone(&shared.health))));
                    if !live.plan.prefetch.is_empty() {
                        tasks.push(spawn_local(schedule::run(Rc::clone(&worker), Arc::clone(&live))));
                    }
                    for at in 0..live.plan.configured().count() {
                        tasks.push(spawn_local(readings::run(Arc::clone(&shared), Arc::clone(&live), at)));
                    }
                    for source in live.keys.sources() {
                        let fetcher = KeyFetch(Rc::clone(&upstreams));
                        tasks.push(spawn_local(async move { source.run(fetcher).await }));
                    }
                }
                let candidate = shared.deploys.candidate();
                let number = candidate.as_ref().map_or(0, |candidate| candidate.live.version);
                if beside.0 != number {
                    beside.0 = number;
                    for task in beside.1.drain(..) {
                        task.abort();
                    }
                    if let Some(candidate) = &candidate {
                        for at in 0..candidate.live.plan.configured().count() {
                            let candidate = Arc::clone(&candidate.live);
                            beside.1.push(spawn_local(readings::run(Arc::clone(&shared), candidate, at)));
                        }
                    }
                    let known: Vec<_> = live.keys.sources().collect();
                    let own = candidate.iter().flat_map(|candidate| candidate.live.keys.sources());
                    for source in own.filter(|own| !known.iter().any(|known| Arc::ptr_eq(known, own))) {
                        let fetcher = KeyFetch(Rc::clone(&upstreams));
                        beside.1.push(spawn_local(async move { source.run(fetcher).await }));
                    }
                }
            }
            changed = life.changed() => {
                if changed.is_err() || *life.borrow_and_update() == Life::Ended {
                    break;
                }
            }
        }
    }
    let _ = sending.await;
}

/// Fetches key sets through the engine's own client.
struct KeyFetch(Rc<Upstreams>);

impl Fetch for KeyFetch {
    fn get(&self, url: &str) -> Pin<Box<dyn Future<Output = Result<Bytes, String>>>> {
        let upstreams = Rc::clone(&self.0);
        let url = url.to_owned();
        Box::pin(async move {
            let (origin, path_and_query) = receiver("jwks", &url, PATIENCE)
                .ok_or_else(|| "the URL is not one of http or https".to_owned())?;
            let mut headers = Fields::new();
            headers.insert(header::HOST, origin.authority.clone());
            headers.insert(
                header::ACCEPT,
                HeaderValue::from_static("application/jwk-set+json, application/json"),
            );
            headers.insert(header::USER_AGENT, HeaderValue::from_static("edgerouter"));
            let response = upstreams
                .fetch_internal(&origin, &path_and_query, &headers)
                .await
                .map_err(|error| error.to_string())?;
            if response.status != StatusCode::OK {
                return Err(format!("the issuer answered {}", response.status));
            }
            let mut body = response.body;
            let mut whole = BytesMut::new();
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                let frame = frame.map_err(|error| error.to_string())?;
                if let Ok(data) = frame.into_data() {
                    if whole.len() + data.len() > MOST_BYTES {
                        return Err(format!("the key set is larger than {MOST_BYTES} bytes"));
                    }
                    whole.extend_from_slice(&data);
                }
            }
            Ok(whole.freeze())
        })
    }
}

/// Time for each step of a request to an issuer of keys.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server of a URL as an origin that is not in the plan. `timeout`: for each step of a request.
fn receiver(name: &str, url: &str, timeout: Duration) -> Option<(Origin, PathAndQuery)> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let (scheme, port) = match uri.scheme_str()? {
        "http" => (Scheme::Http, 80),
        "https" => (Scheme::Https, 443),
        _ => return None,
    };
    let origin = Origin {
        name: name.into(),
        scheme,
        host: authority.host().trim_matches(['[', ']']).into(),
        port: authority.port_u16().unwrap_or(port),
        authority: HeaderValue::from_str(authority.as_str()).ok()?,
        path_prefix: "".into(),
        upstream_host: UpstreamHost::Origin,
        times: OriginTimes {
            connect: timeout,
            first_byte: timeout,
            expect: timeout,
            between_bytes: timeout,
            total: Some(timeout * 2),
        },
        pool: PoolBounds {
            most: 1,
            idle: 0,
            idle_timeout: timeout,
        },
        retries: 1,
        head_limits: HeadLimits::default(),
        event_idle: timeout,
        headers: Vec::new(),
        health: None,
        tls: Arc::new(OriginTls::of_system()),
        socket: None,
        rewrite_urls: false,
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Some((origin, PathAndQuery::try_from(path).ok()?))
}
