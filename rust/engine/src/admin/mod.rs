//! The admin listener: health, readiness and metrics, apart from the traffic.
//!
//! One thread, small bounds. It answers only requests whose `Host` is an address of this machine or `localhost`, and
//! none that a web page of another origin sends, so a browser cannot be made to read it (DNS rebinding). Outside
//! loopback a token is required.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{Semaphore, watch},
    task::spawn_local,
};

use crate::server::Life;

/// What the admin listener tells.
pub trait AdminState: Send + Sync {
    fn metrics(&self) -> String;
    /// `Err`: why the process should get no traffic now.
    fn readiness(&self) -> Result<(), Vec<String>>;
}

const MOST_CONNECTIONS: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

struct Admin {
    state: Arc<dyn AdminState>,
    token: Option<String>,
    address: Option<SocketAddr>,
}

/// Serves until the engine has ended.
pub fn serve(
    listener: TcpListener,
    state: Arc<dyn AdminState>,
    token: Option<String>,
    life: watch::Receiver<Life>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("edge-admin".to_owned())
        .spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    if let Err(error) = runtime.block_on(run(listener, state, token, life)) {
                        tracing::error!(%error, "the admin listener failed");
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "no admin listener: the event loop could not be made")
                }
            }
        })
}

async fn run(
    listener: TcpListener,
    state: Arc<dyn AdminState>,
    token: Option<String>,
    mut life: watch::Receiver<Life>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let address = listener.local_addr().ok();
    let admin = Rc::new(Admin {
        state,
        token: token.filter(|token| !token.is_empty()),
        address,
    });
    let seats = Rc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let (admin, seats) = (Rc::clone(&admin), Rc::clone(&seats));
                spawn_local(async move {
                    let Ok(_seat) = seats.try_acquire() else { return };
                    let service = service_fn(move |request| {
                        let admin = Rc::clone(&admin);
                        async move { Ok::<_, Infallible>(admin.answer(&request)) }
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .max_headers(64)
                        .max_buf_size(16 << 10)
                        .serve_connection(TokioIo::new(stream), service);
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                });
            }
            changed = life.changed() => {
                if changed.is_err() || *life.borrow_and_update() == Life::Ended {
                    return Ok(());
                }
            }
        }
    }
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.host_is_ours(request) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "The Host field names no address of this listener.\n",
            );
        }
        if !origin_is_ours(request) {
            return text(
                StatusCode::FORBIDDEN,
                "Requests from other origins are not answered.\n",
            );
        }
        let path = request.uri().path();
        if !matches!(path, "/" | "/healthz" | "/readyz" | "/metrics") {
            return text(
                StatusCode::NOT_FOUND,
                "Here are /healthz, /readyz and /metrics.\n",
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD.\n");
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if path == "/healthz" {
            return text(StatusCode::OK, "ok\n");
        }
        if !self.token_is_right(request) {
            let mut response = text(
                StatusCode::UNAUTHORIZED,
                "A token is needed: Authorization: Bearer …\n",
            );
            let challenge = HeaderValue::from_static("Bearer realm=\"edgerouter admin\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            return response;
        }
        match path {
            "/readyz" => match self.state.readiness() {
                Ok(()) => json(StatusCode::OK, &serde_json::json!({"ready": true})),
                Err(reasons) => json(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &serde_json::json!({"ready": false, "reasons": reasons}),
                ),
            },
            "/metrics" => {
                let mut response = text(StatusCode::OK, &self.state.metrics());
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            _ => text(StatusCode::OK, "edgerouter: /healthz /readyz /metrics\n"),
        }
    }

    /// An IP address or `localhost`: names that a stranger's DNS can point here are not believed.
    fn host_is_ours(&self, request: &Request<Incoming>) -> bool {
        let Some(host) = request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
        else {
            return false;
        };
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |(name, _)| name);
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|named| {
                match self.address.map(|address| address.ip()) {
                    Some(own) if !own.is_unspecified() => {
                        own == named || (own.is_loopback() && named.is_loopback())
                    }
                    _ => true,
                }
            })
    }

    fn token_is_right(&self, request: &Request<Incoming>) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let given = given
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        given.is_some_and(|(_, given)| same(given.trim().as_bytes(), token.as_bytes()))
    }
}

/// A browser names the page that asks: only one of the same host and port may.
fn origin_is_ours(request: &Request<Incoming>) -> bool {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    match request.headers().get(header::ORIGIN) {
        None => true,
        Some(origin) => origin
            .to_str()
            .is_ok_and(|origin| origin == format!("http://{host}")),
    }
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = text(status, &format!("{value}\n"));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
