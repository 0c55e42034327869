//! Connections and the names that they were made by, with real sockets and a name server of the test's own.
#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use edgerouter_core::{
    http::framing::head::HeadLimits,
    plan::{OriginTimes, OriginTls, PoolBounds, Scheme, UpstreamHost},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::*;
use crate::names::Resolver;

const LONG: Duration = Duration::from_secs(30);

/// An origin by its name.
fn origin(port: u16) -> Origin {
    Origin {
        name: "first".into(),
        scheme: Scheme::Http,
        host: "origin.test".into(),
        port,
        socket: None,
        authority: HeaderValue::from_static("origin.test"),
        path_prefix: "".into(),
        upstream_host: UpstreamHost::Origin,
        times: OriginTimes {
            connect: LONG,
            first_byte: LONG,
            expect: LONG,
            between_bytes: LONG,
            total: None,
        },
        pool: PoolBounds {
            most: 8,
            idle: 8,
            idle_timeout: LONG,
        },
        retries: 0,
        head_limits: HeadLimits {
            bytes: 65_536,
            fields: 100,
        },
        event_idle: LONG,
        headers: Vec::new(),
        health: None,
        tls: Arc::new(OriginTls::of_system()),
        rewrite_urls: false,
    }
}

/// Addresses that the test sets, as those of every name.
fn named(addresses: &[SocketAddr]) -> (Arc<Mutex<Vec<SocketAddr>>>, Upstreams) {
    let addresses = Arc::new(Mutex::new(addresses.to_vec()));
    let found = Arc::clone(&addresses);
    let upstreams = Upstreams::new();
    let names = Resolver::new(Arc::new(move |_: &str, _| Ok(found.lock().clone())));
    let addresses_of = Addresses {
        names,
        ..Addresses::default()
    };
    (
        addresses,
        Upstreams {
            addresses: addresses_of,
            ..upstreams
        },
    )
}

/// Responds to every request with its name.
fn serve(listener: TcpListener, name: &'static str) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let response = format!(
                            "HTTP/1.1 200 OK\r\nServer: {name}\r\nContent-Length: 0\r\n\r\n"
                        );
                        let _ = stream.write_all(response.as_bytes()).await;
                    }
                }
            });
        }
    });
}

async fn server_of(upstreams: &Upstreams, origin: &Origin) -> String {
    let path = PathAndQuery::from_static("/");
    let response = upstreams
        .fetch_internal(origin, &path, &Fields::new())
        .await
        .unwrap();
    let server = response.headers.get(header::SERVER).unwrap();
    server.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn kept_connections_follow_the_name_of_their_origin() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let (one, two) = (first.local_addr().unwrap(), second.local_addr().unwrap());
    serve(first, "one");
    serve(second, "two");
    let (addresses, upstreams) = named(&[one]);
    let origin = origin(port);
    let pool = upstreams.pools.of(&origin);
    assert_eq!(server_of(&upstreams, &origin).await, "one");
    upstreams.sweep(Instant::now());
    let in_use = pool.take().unwrap();

    // The address is one of two now: all of its connections stay.
    let look_up_again = async || {
        let known = upstreams.addresses.names.known(&origin.host, port).unwrap();
        upstreams.addresses.names.age(Duration::from_secs(60));
        while Arc::ptr_eq(
            &known,
            &upstreams.addresses.names.known(&origin.host, port).unwrap(),
        ) {
            tokio::task::yield_now().await;
        }
        upstreams.sweep(Instant::now());
    };
    *addresses.lock() = vec![two, one];
    look_up_again().await;
    in_use.give_back();
    let in_use = pool.take().unwrap();
    assert_eq!(server_of(&upstreams, &origin).await, "two", "a new one");

    // It is none of them any more: the idle one is closed, and the one in use is not kept.
    *addresses.lock() = vec![two];
    look_up_again().await;
    in_use.give_back();
    assert_eq!(server_of(&upstreams, &origin).await, "two");
    assert!(pool.take().is_some(), "that to the address that it has");
    assert!(pool.take().is_none());

    *addresses.lock() = vec![one];
    look_up_again().await;
    assert_eq!(server_of(&upstreams, &origin).await, "one");
}

/// A listener whose backlog is full is silent to the next connection.
async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
    }
    (address, listener, waiting)
}

#[tokio::test]
async fn connections_do_not_wait_for_a_silent_address_again_and_again() {
    let (silent, _listener, _waiting) = silent().await;
    let alive = TcpListener::bind(("127.0.0.2", silent.port()))
        .await
        .unwrap();
    let alive_at = alive.local_addr().unwrap();
    serve(alive, "alive");
    let (_, upstreams) = named(&[silent, alive_at]);
    let origin = origin(silent.port());
    let names = &upstreams.addresses.names;
    assert_eq!(
        *names.of(&origin.host, origin.port).await.unwrap(),
        [silent, alive_at]
    );
    assert_eq!(server_of(&upstreams, &origin).await, "alive");
    assert_eq!(
        *names.of(&origin.host, origin.port).await.unwrap(),
        [alive_at, silent]
    );
}
