//! One handshake with a client, within its time and within the bound on those under way.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use edgerouter_core::{
    plan::{ClientAuthentication, ListenerId},
    tls::{ClientCertificate, TermsDigest, certificate_facts, client_fields},
};
use rustls::{ServerConnection, server::Acceptor};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use crate::{
    Transport,
    connection::{Backlog, Connection, ConnectionOwner},
    tls::{Places, TlsListener, TlsSession, TlsTransport, VerifiedClient},
};

/// The end of a handshake that gives no transport.
#[derive(Debug)]
pub(crate) enum Unshaken<T> {
    /// The client was sent an alert, which it may still have to read.
    Refused(T),
    /// Nothing more is to be said.
    Gone,
}

/// Makes a handshake. Until the client's first bytes come, nothing but the socket is kept, and no place is taken.
pub(crate) async fn handshake<T: Transport, O: ConnectionOwner>(
    owner: &Rc<O>,
    (id, listener): (ListenerId, Arc<TlsListener>),
    transport: T,
    connection: &Connection,
) -> Result<TlsTransport<T>, Unshaken<T>> {
    let counts = owner.handshakes();
    let deadline = Instant::now() + listener.timeout;
    let shaken = async {
        if !connection.until_readable(&transport).await {
            return Err(Unshaken::Gone);
        }
        let Some(_place) = listener.places.take().await else {
            return Err(Unshaken::Gone);
        };
        let _started = counts.start();
        let shaken = Box::pin(shake(owner, &listener, transport)).await;
        shaken.map_err(|end| match end {
            End::Proof(transport) => {
                tracing::debug!(peer = %connection.peer, "an issuer of certificates was shown a proof");
                Unshaken::Refused(transport)
            }
            End::Failed(error, transport) => {
                tracing::debug!(%error, peer = %connection.peer, "a TLS handshake failed");
                counts.failed();
                let told = transport.filter(|_| !has_left(&error));
                told.map_or(Unshaken::Gone, Unshaken::Refused)
            }
            End::Displaced => {
                tracing::debug!(peer = %connection.peer, "a TLS handshake gave its place to another");
                counts.displaced();
                Unshaken::Gone
            }
        })
    };
    match connection.unless_ended(timeout_at(deadline, shaken)).await {
        None => Err(Unshaken::Gone),
        Some(Err(_)) => {
            counts.timed_out();
            Err(Unshaken::Gone)
        }
        Some(Ok(shaken)) => {
            let Shaken {
                transport,
                terms,
                client,
            } = shaken?;
            let session = transport.session();
            let Some(verified) = identity(session, client.as_deref()) else {
                tracing::debug!(peer = %connection.peer, "the certificate of a client has expired");
                counts.failed();
                return Err(Unshaken::Gone);
            };
            counts.completed(session);
            let listener = Arc::clone(&listener);
            connection.secure(TlsSession::new(id, listener, session, terms, verified));
            Ok(transport)
        }
    }
}

/// The client, as its certificate says who it is. `None`: its certificate has expired, which resumption of a session
/// that began before does not look at.
fn identity(
    session: &ServerConnection,
    policy: Option<&ClientAuthentication>,
) -> Option<VerifiedClient> {
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let (Some(policy), Some(certificate)) = (policy, certificate) else {
        return Some(VerifiedClient::default());
    };
    let facts = certificate_facts(certificate)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let is_valid = u64::try_from(facts.valid.1).is_ok_and(|end| now.as_secs() <= end);
    is_valid.then(|| {
        let fields = client_fields(policy, certificate, &facts);
        let certificate = ClientCertificate::new(certificate, facts);
        (fields, Some(Arc::new(certificate)))
    })
}

/// A handshake that was completed, and the policy by which.
struct Shaken<T> {
    transport: TlsTransport<T>,
    terms: TermsDigest,
    client: Option<Arc<ClientAuthentication>>,
}

/// The end of a handshake that was not completed.
enum End<T> {
    /// An issuer of certificates was shown a proof: no request follows (RFC 8737 §3).
    Proof(T),
    Failed(io::Error, Option<T>),
    /// Its client was silent when another one needed the place.
    Displaced,
}

/// True if the client is no longer there to read an alert.
fn has_left(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Goes on with a step in a turn of its own each time that the client has sent something: many clients send, or leave,
/// at once. The first turn has come. `None`: another handshake has got the place.
async fn in_turns<F: Future, O: ConnectionOwner>(
    owner: &Rc<O>,
    places: &Places,
    step: F,
) -> Option<F::Output> {
    let mut step = pin!(step);
    let mut waited = Duration::ZERO;
    loop {
        let polled = poll_fn(|cx| Poll::Ready(step.as_mut().poll(cx))).await;
        if let Poll::Ready(ended) = polled {
            return Some(ended);
        }
        places.until_woken(&mut waited).await?;
        Backlog::turn(owner).await;
    }
}

/// The handshake itself: reads the client's hello, selects the policy by the name in it, and goes on by that policy.
async fn shake<T: Transport, O: ConnectionOwner>(
    owner: &Rc<O>,
    listener: &TlsListener,
    transport: T,
) -> Result<Shaken<T>, End<T>> {
    let places = &listener.places;
    // A handshake is as much work as many requests: those that have come in are served between two of them.
    Backlog::turn(owner).await;
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), transport);
    let started = match in_turns(owner, places, &mut acceptor).await {
        Some(Ok(started)) => started,
        Some(Err(error)) => return Err(End::Failed(error, acceptor.take_io())),
        None => return Err(End::Displaced),
    };
    if let Some(proof) = listener.proof(&started.client_hello()).await {
        let shown = started.into_stream(proof).into_fallible();
        return Err(match in_turns(owner, places, shown).await {
            Some(Ok(stream)) => End::Proof(stream.into_inner().0),
            Some(Err((error, transport))) => End::Failed(error, Some(transport)),
            None => End::Displaced,
        });
    }
    let Some((policy, terms)) = listener.select(started.client_hello().server_name()) else {
        return Err(End::Failed(io::ErrorKind::NotFound.into(), None));
    };
    if let Some(certified) = policy.certified(started.client_hello().server_name()) {
        if places.awaiting(certified).await.is_none() {
            return Err(End::Displaced);
        }
        Backlog::turn(owner).await;
    }
    let client = policy.client.clone();
    let shaken = started
        .into_stream(Arc::clone(&policy.config))
        .into_fallible();
    match in_turns(owner, places, shaken).await {
        Some(Ok(stream)) => Ok(Shaken {
            transport: TlsTransport::new(stream),
            terms,
            client,
        }),
        Some(Err((error, transport))) => Err(End::Failed(error, Some(transport))),
        None => Err(End::Displaced),
    }
}
