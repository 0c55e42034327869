//! The connections of one worker and of the process, and the worker as their owner.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    error::Error,
    io,
    os::fd::BorrowedFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use edgerouter_account::{Account, PerClientCounts};
use edgerouter_core::{
    http::Response,
    plan::{ListenerId, Plan, limits::HttpLimits},
};
use edgerouter_telemetry::WorkerMetrics;
use http_body::Body;
use slab::Slab;
use tokio::sync::Notify;

use crate::{
    pipes::Pipes,
    socket::BareSocket,
    tls::{HandshakeCounts, TlsListener},
};

use super::{Arrived, Backlog, Connection, IdleServers, Share, Stream};

/// Most bytes that one read takes from a socket.
const INBOX: usize = 64 << 10;

/// Any error of a body.
pub(super) type BodyError = Box<dyn Error + Send + Sync>;

/// Sends this many bytes at this position of a file, as many of them as the socket takes.
pub type SendFile<'s> = dyn FnMut(BorrowedFd<'_>, u64, usize) -> Poll<io::Result<usize>> + 's;

/// Takes bytes out of a socket, this many at most, as soon as there are some.
pub type TakeContent<'t> =
    dyn FnMut(&dyn BareSocket, &mut Context<'_>, usize) -> Poll<io::Result<usize>> + 't;

/// Content of a response.
pub trait ResponseBody: Body<Data = Bytes, Error: Into<BodyError>> + Unpin + 'static {
    /// True if only those of its trailers are sent that its head announced. The others come from an origin and are not
    /// known.
    fn announces_trailers(&self) -> bool {
        true
    }

    /// True if some of it is in a file.
    fn is_file(&self) -> bool {
        false
    }

    /// Has the next content sent from its file. `None`: it comes as a frame instead.
    fn send_file(&mut self, _send: &mut SendFile<'_>) -> Option<Poll<io::Result<usize>>> {
        None
    }

    /// True if the kernel can move its next content out of the socket by which it comes.
    fn moves(&self) -> bool {
        false
    }

    /// Has content moved out of its socket, as soon as there is some.
    fn poll_moved(
        &mut self,
        _cx: &mut Context<'_>,
        _take: &mut TakeContent<'_>,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// The worker that connections belong to, and that serves their requests.
pub trait ConnectionOwner: 'static {
    /// Content of the responses.
    type Body: ResponseBody;

    /// Responds to a request, or to one whose bytes were refused.
    fn serve(
        self: Rc<Self>,
        stream: Rc<Stream>,
        request: Arrived,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// The connections of this worker.
    fn connections(&self) -> &Connections;

    /// Reads the plan in service, and the bound on the connections of the process.
    fn with_plan<R>(&self, read: impl FnOnce(&Plan, usize) -> R) -> R;

    /// The futures of this worker that serve no request now.
    fn idle_servers(&self) -> &IdleServers<Self>
    where
        Self: Sized;

    /// TLS of a listener of the plan in service; `None` where the listener has none.
    fn tls(&self, listener: ListenerId) -> Option<Arc<TlsListener>>;

    /// Counts of TLS handshakes.
    fn handshakes(&self) -> &HandshakeCounts;

    /// Milliseconds since the worker's start.
    fn ticks(&self) -> u64;

    /// Counters of this worker.
    fn metrics(&self) -> &WorkerMetrics;
}

/// Client connections of the process.
#[derive(Debug)]
pub struct AllConnections {
    pub(crate) count: AtomicUsize,
    pub(crate) by_peer: Arc<PerClientCounts>,
    /// For each worker, the demand of others that it ends a connection.
    pub(crate) pressure: Box<[Pressure]>,
    /// For each worker, its part of them.
    pub(crate) shares: Box<[Share]>,
}

impl AllConnections {
    /// No connection yet, for that many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            by_peer: PerClientCounts::new(),
            pressure: (0..workers).map(|_| Pressure::default()).collect(),
            shares: (0..workers).map(|_| Share::new()).collect(),
        })
    }

    /// Client connections of the process that are open.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

/// Client connections of one worker.
#[derive(Debug)]
pub struct Connections {
    pub(crate) all: Arc<AllConnections>,
    pub(crate) account: Arc<Account>,
    pub(crate) index: usize,
    pub(crate) open: RefCell<Slab<Rc<Connection>>>,
    /// Connections that this worker has accepted.
    pub(crate) accepted: Cell<u64>,
    pub(crate) idlest: RefCell<Idlest>,
    /// Bytes as they come from a socket, before they are read.
    pub(crate) inbox: RefCell<Box<[u8]>>,
    /// Memory for the next response of HTTP/1.1 on its way to a socket: nearly all leave at once, and the memory stays
    /// in the cache of the core.
    pub(crate) outbox: RefCell<Vec<u8>>,
    /// The ways of content from origins to clients.
    pub(crate) pipes: Rc<Pipes>,
    pub(crate) backlog: Backlog,
}

impl Connections {
    /// No connection yet. `index`: the worker's place among those of `all`.
    pub fn new(index: usize, all: Arc<AllConnections>, account: Arc<Account>) -> Self {
        Self {
            all,
            account,
            index,
            open: RefCell::default(),
            accepted: Cell::default(),
            idlest: RefCell::default(),
            inbox: RefCell::new(vec![0; INBOX].into_boxed_slice()),
            outbox: RefCell::default(),
            pipes: Rc::default(),
            backlog: Backlog::default(),
        }
    }

    /// Ends those that have waited too long. To be called once a second. The number of those whose clients take
    /// responses too slowly.
    pub fn check(&self, now: u64, limits: &HttpLimits) -> usize {
        let open = self.open.borrow();
        let slow = open
            .iter()
            .filter(|(_, connection)| connection.check(now, limits));
        slow.count()
    }

    /// Ends each when it has responded to the requests that have come in, and those that are in use a little later.
    pub fn drain(&self, now: u64) {
        for (_, connection) in self.open.borrow().iter() {
            connection.drain(now);
        }
    }

    /// Ends those whose clients have brought no further request in time. To be called several times a second after
    /// `drain`.
    pub fn end_last_calls(&self, now: u64) {
        for (_, connection) in self.open.borrow().iter() {
            connection.end_last_call(now);
        }
    }
}

/// The connections that give way next, as found by one look at all of them.
#[derive(Debug, Default)]
pub(crate) struct Idlest {
    /// Position in the worker's connections, and the time since which it was idle.
    pub(crate) found: VecDeque<(usize, u64)>,
    /// Time of the last log line.
    pub(crate) logged: Option<Instant>,
}

/// Demand of other workers that a connection of this one ends.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// One has to end whatever the counts are: descriptors have run out, or none is idle of the workers that have more.
    pub(crate) asked: AtomicBool,
    pub(crate) changed: Notify,
}
