//! Requests that callables make through the edge itself (`ctx.fetch`).

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::{
    http::{Fields, PathAndQuery},
    identity::jwt::Claims,
    origin::foreign::ForeignRefusal,
    plan::Scheme,
};
use edgerouter_telemetry::trace::SpanParent;
use http::Method;
use parking_lot::Mutex;

use crate::Answer;

/// Requests within one another, at most, the client's apart.
pub const DEEPEST: usize = 4;

/// The part that stored responses have in a request, by the words of the Fetch standard (§2.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FetchCache {
    /// As the route's policy says.
    #[default]
    Default,
    /// Neither looked up nor stored.
    NoStore,
    /// Not looked up, but stored.
    Reload,
    /// A stored response is validated first.
    NoCache,
    /// A stored response is used, however old.
    ForceCache,
    /// As `ForceCache`; 504 where nothing is stored.
    OnlyIfCached,
}

impl FetchCache {
    /// From its word.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "default" => Self::Default,
            "no-store" => Self::NoStore,
            "reload" => Self::Reload,
            "no-cache" => Self::NoCache,
            "force-cache" => Self::ForceCache,
            "only-if-cached" => Self::OnlyIfCached,
            _ => return None,
        })
    }
}

/// A request's name in a [`FetchChain`]: its method and URL. A request by the name of an origin has none: it reaches no
/// function.
pub fn name(method: &Method, scheme: Scheme, authority: &str, target: &str) -> String {
    format!("{method} {}://{authority}{target}", scheme.as_str())
}

/// The requests around one that a callable makes, the client's first.
#[derive(Debug, Clone, Default)]
pub struct FetchChain {
    link: Option<Arc<Link>>,
    /// The version of the application that has them.
    version: u64,
    /// The claims of the innermost, and the fingerprint of the policy that verified them.
    verified: Option<(u128, Arc<Claims>)>,
    /// The end of the time that the innermost has, if a callable made it.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Link {
    name: Box<str>,
    depth: usize,
    outer: FetchChain,
}

impl FetchChain {
    /// With one more, by its method and URL.
    #[must_use]
    pub fn with(&self, name: &str) -> Self {
        self.linked(name.into(), self.depth() + 1)
    }

    /// With the key of the response that the innermost of them waits for. Others may wait for that response, too, so
    /// that it has a time of its own.
    #[must_use]
    pub fn holding(&self, key: &[u8]) -> Self {
        let holding = self.linked(Self::held(key), self.depth());
        Self {
            until: None,
            ..holding
        }
    }

    /// The same, with an end of the time that the innermost has.
    #[must_use]
    pub fn ending(self, until: Instant) -> Self {
        Self {
            until: Some(until),
            ..self
        }
    }

    /// The end of the time that the innermost has, if a callable made it.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    fn linked(&self, name: Box<str>, depth: usize) -> Self {
        let outer = self.clone();
        Self {
            link: Some(Arc::new(Link { name, depth, outer })),
            version: self.version,
            verified: self.verified.clone(),
            until: self.until,
        }
    }

    /// The same, of a version of the application and with the claims of the innermost.
    #[must_use]
    pub fn of_version(&self, version: u64, verified: Option<(u128, Arc<Claims>)>) -> Self {
        Self {
            link: self.link.clone(),
            version,
            verified,
            until: self.until,
        }
    }

    /// The claims of the innermost, if the policy of this fingerprint has verified them.
    pub fn verified(&self, policy: u128) -> Option<Arc<Claims>> {
        let (by, claims) = self.verified.as_ref()?;
        (*by == policy).then(|| Arc::clone(claims))
    }

    /// The version of the application that answers them.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// True if one of them waits for the response of this key.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.link.is_some() && self.contains(&Self::held(key))
    }

    fn held(key: &[u8]) -> Box<str> {
        let mut name = String::with_capacity(4 + 2 * key.len());
        name.push_str("key ");
        for byte in key {
            // Writing into a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name.into()
    }

    /// Their number.
    pub fn depth(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.depth)
    }

    /// True if one of them has this method and URL.
    pub fn contains(&self, name: &str) -> bool {
        let mut at = self;
        while let Some(link) = &at.link {
            if *link.name == *name {
                return true;
            }
            at = &link.outer;
        }
        false
    }
}

/// A request of a callable.
#[derive(Debug)]
pub struct Fetch {
    /// Its method; CONNECT is refused.
    pub method: Method,
    /// Of the URL.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: String,
    /// The host, without brackets, and port of a request that is made to a host that is no origin, and not to the edge
    /// itself.
    pub outside: Option<(String, u16)>,
    /// The name of the origin or group that answers in the place of a route.
    pub origin: Option<Box<str>>,
    /// Path and query.
    pub target: PathAndQuery,
    /// Fields besides `Host` and those that frame the content.
    pub headers: Fields,
    /// The whole content.
    pub body: Bytes,
    /// The part of stored responses.
    pub cache: FetchCache,
    /// Time until the whole response is there.
    pub timeout: Duration,
    /// The address of the client whose request led to it.
    pub client: IpAddr,
    /// The requests around it, the callable's own included.
    pub chain: FetchChain,
    /// The span of the call that makes it.
    pub trace: Option<SpanParent>,
    /// The end of the callable that waits for it.
    pub caller: Arc<FetchCaller>,
}

/// The callable that makes a request: does it still wait for the response?
#[derive(Debug, Default)]
pub struct FetchCaller(Mutex<CallerState>);

#[derive(Debug, Default)]
struct CallerState {
    is_gone: bool,
    waker: Option<Waker>,
}

impl FetchCaller {
    /// Nobody waits any more.
    pub fn leave(&self) {
        let mut state = self.0.lock();
        state.is_gone = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready when nobody waits any more.
    pub fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.is_gone {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The reason why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The plan does not name the host.
    #[error(
        "{0} is not the host of this request, and not among the hosts that functions may fetch from: name it in Edge(fetch=FetchHosts(hosts=[…])), or declare it as an origin, route a path to it, and fetch that path"
    )]
    NotListed(String),
    /// The plan has no origin or group of the name; the names that it has.
    #[error("origin {0:?} is no origin or group of the edge, which has {1}")]
    NoOrigin(Box<str>, String),
    /// An address of the host.
    #[error("{0} has an address that {1}{remedy}", remedy = remedy(*.1))]
    Address(String, ForeignRefusal),
    /// No response of a host that is no origin.
    #[error("{0}")]
    Outside(String),
    /// Its time.
    #[error("there was no whole response within {:.3} s; give it more by timeout=", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The bound on its content, in bytes.
    #[error("the response has more than {0} bytes (limits.functions.fetch_bytes)")]
    TooLarge(usize),
    /// Its content is incomplete.
    #[error("the response broke off")]
    BrokenOff,
    /// Requests of callables that one worker has under way.
    #[error("{0} requests of functions are under way on this worker already")]
    Busy(usize),
    /// The edge stops.
    #[error("the edge has stopped")]
    Stopped,
}

/// Only a private network can be allowed.
fn remedy(refusal: ForeignRefusal) -> &'static str {
    match refusal {
        ForeignRefusal::Private => "; private networks are named in FetchHosts(networks=[…])",
        ForeignRefusal::Own => ", which is never fetched from; fetch a path of a route instead",
        ForeignRefusal::NoHost => "",
    }
}

/// The response to a request of a callable.
pub type Fetched = Result<Answer, FetchError>;

/// Takes the outcome, on the worker's thread: it must not block.
pub type TakeFetched = Box<dyn FnOnce(Fetched) + Send>;

/// A worker that makes requests for callables.
pub trait Fetcher: Send + Sync + fmt::Debug {
    /// Makes a request; `take` gets its outcome, unless its caller is gone.
    fn fetch(&self, fetch: Fetch, take: TakeFetched);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_knows_its_requests_and_their_number() {
        let outer = FetchChain::default();
        let (one, other) = (outer.with("GET a"), outer.with("GET b"));
        let two = one.with("GET c");
        assert_eq!((outer.depth(), one.depth(), two.depth()), (0, 1, 2));
        assert!(two.contains("GET a") && two.contains("GET c"));
        let holding = two.holding(b"\0k");
        assert_eq!(holding.depth(), 2);
        assert!(holding.holds(b"\0k") && !holding.holds(b"k") && !two.holds(b"\0k"));
        assert!(holding.contains("GET a"));
        let until = Instant::now();
        let ending = two.clone().ending(until);
        let ends = |chain: FetchChain| chain.until() == Some(until);
        assert!(
            ends(ending.clone()) && ends(ending.with("GET d")) && ends(ending.of_version(1, None))
        );
        assert_eq!((two.until(), ending.holding(b"k").until()), (None, None));
        assert!(!two.contains("GET b") && other.contains("GET b") && !outer.contains("GET a"));
    }
}
