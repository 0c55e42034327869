//! The futures that serve requests. Such a future is several KiB large, so a worker uses a few of them again and again:
//! their memory stays in the cache of the core, where that of whichever connection a request came by would not be.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use edgerouter_core::{
    admit::Refusal,
    http::{RequestParts, Response},
};

use super::{ClientBody, ConnectionOwner, Stream};

/// Futures that a worker keeps for its next requests. More are made for more requests at a time.
const KEPT: usize = 128;

/// A request as it came in, or the refusal of its bytes.
pub type Arrived = Result<(Box<RequestParts>, ClientBody), Refusal>;

/// The futures of a worker that serve no request now.
pub struct IdleServers<O: ConnectionOwner>(RefCell<Vec<Server<O>>>);

impl<O: ConnectionOwner> Default for IdleServers<O> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<O: ConnectionOwner> std::fmt::Debug for IdleServers<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IdleServers").finish_non_exhaustive()
    }
}

/// A future that serves one request after the other, without an end.
struct Server<O: ConnectionOwner> {
    counter: Rc<Counter<O>>,
    future: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// The place where requests are put for a server, and where it puts responses. Both are taken away at once: an idle
/// server holds nothing of a request.
struct Counter<O: ConnectionOwner> {
    request: Cell<Option<(Rc<O>, Rc<Stream>, Arrived)>>,
    response: Cell<Option<Response<O::Body>>>,
}

impl<O: ConnectionOwner> Server<O> {
    fn new() -> Self {
        let counter = Rc::new(Counter::<O> {
            request: Cell::new(None),
            response: Cell::new(None),
        });
        let served = Rc::clone(&counter);
        let future = Box::pin(async move {
            loop {
                let next = poll_fn(|_| served.request.take().map_or(Poll::Pending, Poll::Ready));
                let (owner, stream, request) = next.await;
                let response = owner.serve(stream, request).await;
                served.response.set(Some(response));
            }
        });
        Self { counter, future }
    }
}

/// A request that is served. Dropped before its response, it takes all of its work along.
pub(crate) struct Serving<O: ConnectionOwner> {
    owner: Rc<O>,
    /// `None` once there is a response.
    server: Option<Server<O>>,
}

impl<O: ConnectionOwner> Serving<O> {
    pub(crate) fn new(owner: &Rc<O>, stream: Rc<Stream>, request: Arrived) -> Self {
        let idle = owner.idle_servers().0.borrow_mut().pop();
        let server = idle.unwrap_or_else(Server::new);
        let request = (Rc::clone(owner), stream, request);
        server.counter.request.set(Some(request));
        Self {
            owner: Rc::clone(owner),
            server: Some(server),
        }
    }
}

impl<O: ConnectionOwner> Future for Serving<O> {
    type Output = Response<O::Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(server) = &mut self.server else {
            return Poll::Pending;
        };
        let Poll::Pending = server.future.as_mut().poll(cx);
        let Some(response) = server.counter.response.take() else {
            return Poll::Pending;
        };
        if let Some(server) = self.server.take() {
            let mut idle = self.owner.idle_servers().0.borrow_mut();
            if idle.len() < KEPT {
                idle.push(server);
            }
        }
        Poll::Ready(response)
    }
}
