//! Addresses of origins' names. A name server that is silent, or down, takes no origin with it: its last answer serves
//! at once while one look-up per name goes on behind, on a few threads of its own.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use edgerouter_telemetry::system_error::in_words;
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Age at which an address is looked up again in the background.
const FRESH: Duration = Duration::from_secs(30);
/// Age at which it is looked up again if nothing could be connected to there.
const DOUBTFUL: Duration = Duration::from_secs(1);
/// Age up to which the last address serves while look-ups fail.
const KEPT: Duration = Duration::from_secs(86_400);
/// Time for which an address goes before those that were silent when it answered (RFC 6555 §4.1).
const PREFERRED: Duration = Duration::from_secs(600);
/// Time for which a failed look-up is remembered.
const FAILED: Duration = Duration::from_secs(2);
/// Names that are remembered or looked up at a time.
const MOST_NAMES: usize = 1024;
/// The failure of a name that there is no room for.
const NO_ROOM: &str = "too many names are being looked up";
/// Look-ups at a time: a silent name server holds each for as long as the system's resolver waits.
const MOST_THREADS: usize = 16;

/// The names of this process: its workers share the known addresses and the threads that look them up.
pub(super) static NAMES: LazyLock<Resolver> = LazyLock::new(Resolver::of_the_system);

/// The names of hosts that are no origins: they displace no origin's.
static OTHERS: LazyLock<Resolver> = LazyLock::new(Resolver::of_the_system);

/// The addresses of a host that is no origin. The caller decides which of them may be connected to.
pub async fn resolve(host: &str, port: u16) -> Result<Arc<[SocketAddr]>, String> {
    OTHERS.of(&host.into(), port).await
}

pub(super) type LookUp = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;
type Name = (Arc<str>, u16);

#[derive(Clone)]
pub(super) struct Resolver {
    shared: Arc<ResolverState>,
}

struct ResolverState {
    look_up: LookUp,
    table: Mutex<NameTable>,
    /// There is something in `wanted`.
    work: Condvar,
}

#[derive(Default)]
struct NameTable {
    known: HashMap<Name, Known>,
    wanted: VecDeque<Name>,
    threads: usize,
    idle: usize,
}

struct Known {
    addresses: Option<ResolvedName>,
    failed: Option<(Instant, Arc<str>)>,
    looking: bool,
    /// Notified when a look-up ends.
    ended: Arc<Notify>,
    /// It answered while those before it were silent, then.
    preferred: Option<(SocketAddr, Instant)>,
}

#[derive(Clone)]
struct ResolvedName {
    addresses: Arc<[SocketAddr]>,
    at: Instant,
}

/// The addresses known now.
enum State {
    Addresses(Arc<[SocketAddr]>),
    Failed(Arc<str>),
    Wait(Arc<Notify>),
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// By the system's look-ups.
    fn of_the_system() -> Self {
        Self::new(Arc::new(|host: &str, port| {
            (host, port).to_socket_addrs().map(Iterator::collect)
        }))
    }

    pub(super) fn new(look_up: LookUp) -> Self {
        Self {
            shared: Arc::new(ResolverState {
                look_up,
                table: Mutex::default(),
                work: Condvar::new(),
            }),
        }
    }

    /// The addresses of a name: at once where any are known; otherwise when its look-up ends, which others share.
    pub(super) async fn of(&self, host: &Arc<str>, port: u16) -> Result<Arc<[SocketAddr]>, String> {
        let name = (Arc::clone(host), port);
        loop {
            let ended = match self.now(&name, Instant::now()) {
                State::Addresses(addresses) => return Ok(addresses),
                State::Failed(why) => return Err(why.to_string()),
                State::Wait(ended) => ended,
            };
            let ended = ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            // It may have ended since.
            match self.now(&name, Instant::now()) {
                State::Addresses(addresses) => return Ok(addresses),
                State::Failed(why) => return Err(why.to_string()),
                State::Wait(_) => ended.await,
            }
        }
    }

    /// The addresses known now. Old ones are looked up again in the background.
    pub(super) fn known(&self, host: &Arc<str>, port: u16) -> Option<Arc<[SocketAddr]>> {
        match self.now(&(Arc::clone(host), port), Instant::now()) {
            State::Addresses(addresses) => Some(addresses),
            State::Failed(_) | State::Wait(_) => None,
        }
    }

    /// This address answered while those before it were silent: further connections do not wait for them first.
    pub(super) fn prefer(&self, host: &Arc<str>, port: u16, address: SocketAddr) {
        let now = Instant::now();
        let mut table = self.shared.table.lock();
        if let Some(known) = table.known.get_mut(&(Arc::clone(host), port)) {
            known.preferred = Some((address, now));
            known.order(now);
        }
    }

    fn now(&self, name: &Name, now: Instant) -> State {
        let mut table = self.shared.table.lock();
        if !table.known.contains_key(name) && !table.make_room() {
            return State::Failed(NO_ROOM.into());
        }
        let known = table.known.entry(name.clone()).or_insert_with(|| Known {
            addresses: None,
            failed: None,
            looking: false,
            ended: Arc::default(),
            preferred: None,
        });
        let since = |at: Instant| now.saturating_duration_since(at);
        let found = known
            .addresses
            .clone()
            .filter(|found| since(found.at) < KEPT);
        let failed = known
            .failed
            .clone()
            .filter(|(at, _)| since(*at) < FAILED)
            .map(|(_, why)| why);
        let fresh = found.as_ref().is_some_and(|found| since(found.at) < FRESH);
        let state = match (found, &failed) {
            (Some(found), _) => State::Addresses(found.addresses),
            (None, Some(why)) if !known.looking => State::Failed(Arc::clone(why)),
            (None, _) => State::Wait(Arc::clone(&known.ended)),
        };
        if !fresh && failed.is_none() && !known.looking {
            known.looking = true;
            table.wanted.push_back(name.clone());
            self.wake(&mut table);
        } else if table.threads == 0 && !table.wanted.is_empty() {
            self.wake(&mut table);
        }
        state
    }

    /// No connection to the addresses of a name could be made: they are looked up again in the background, unless that
    /// has just been done.
    pub(super) fn doubt(&self, host: &Arc<str>, port: u16) {
        let (name, now) = ((Arc::clone(host), port), Instant::now());
        let mut table = self.shared.table.lock();
        let Some(known) = table.known.get_mut(&name) else {
            return;
        };
        let is_past = |at: Instant, age| now.saturating_duration_since(at) >= age;
        let is_old = known
            .addresses
            .as_ref()
            .is_some_and(|found| is_past(found.at, DOUBTFUL));
        let may_ask = known
            .failed
            .as_ref()
            .is_none_or(|(at, _)| is_past(*at, FAILED));
        if is_old && may_ask && !known.looking {
            known.looking = true;
            table.wanted.push_back(name);
            self.wake(&mut table);
        }
    }

    /// Has a thread do the wanted look-ups: an idle one, or a further one while there are few.
    fn wake(&self, table: &mut NameTable) {
        if table.idle >= table.wanted.len() {
            self.shared.work.notify_one();
            return;
        }
        if table.threads >= MOST_THREADS {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name(format!("edge-names-{}", table.threads))
            .spawn(move || shared.run());
        match thread {
            Ok(_) => table.threads += 1,
            // A thread that is there already will come to it; with none, the next request for any name tries again.
            Err(error) => tracing::warn!(%error, "no thread to look names up could be started"),
        }
    }
}

impl NameTable {
    /// A name that is not being looked up gives way to a new one. False if there is none.
    fn make_room(&mut self) -> bool {
        if self.known.len() < MOST_NAMES {
            return true;
        }
        let oldest = self
            .known
            .iter()
            .filter(|(_, known)| !known.looking)
            .min_by_key(|(_, known)| known.addresses.as_ref().map(|found| found.at))
            .map(|(name, _)| name.clone());
        oldest.is_some_and(|name| self.known.remove(&name).is_some())
    }
}

impl ResolverState {
    fn run(&self) {
        let mut table = self.table.lock();
        loop {
            let Some(name) = table.wanted.pop_front() else {
                table.idle += 1;
                self.work.wait(&mut table);
                table.idle -= 1;
                continue;
            };
            drop(table);
            let found = (self.look_up)(&name.0, name.1);
            table = self.table.lock();
            if let Some(known) = table.known.get_mut(&name) {
                known.take(&name.0, found, Instant::now());
            }
        }
    }
}

impl Known {
    fn take(&mut self, host: &str, found: io::Result<Vec<SocketAddr>>, now: Instant) {
        self.looking = false;
        let why = match found {
            Ok(found) if !found.is_empty() => {
                self.addresses = Some(ResolvedName {
                    addresses: interleaved(found).into(),
                    at: now,
                });
                self.failed = None;
                self.order(now);
                self.ended.notify_waiters();
                return;
            }
            Ok(_) => "it has no address".to_owned(),
            Err(error) => in_words(&error),
        };
        if self.addresses.is_some() {
            tracing::warn!(
                host,
                why,
                "a name cannot be looked up; its last address is used"
            );
        }
        self.failed = Some((now, why.into()));
        self.ended.notify_waiters();
    }

    /// Puts the preferred address first, if the name still has it.
    fn order(&mut self, now: Instant) {
        self.preferred = self
            .preferred
            .filter(|(_, since)| now.saturating_duration_since(*since) < PREFERRED);
        let (Some((preferred, _)), Some(found)) = (self.preferred, &mut self.addresses) else {
            return;
        };
        let at = found.addresses.iter().position(|it| *it == preferred);
        if let Some(at) = at.filter(|at| *at > 0) {
            let mut ordered = found.addresses.to_vec();
            ordered.remove(at);
            ordered.insert(0, preferred);
            found.addresses = ordered.into();
        }
    }
}

/// Families alternate, as the resolver ordered them (RFC 8305 §4).
fn interleaved(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (mut a, mut b): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_6);
    a.reverse();
    b.reverse();
    let mut ordered = Vec::with_capacity(a.len() + b.len());
    while let Some(next) = a.pop() {
        ordered.push(next);
        ordered.extend(b.pop());
    }
    b.reverse();
    ordered.extend(b);
    ordered
}

#[cfg(test)]
mod tests;
