//! The account of memory that clients can make grow ([`edgerouter_core::bounds::memory`] decides, this counts).
//!
//! A holder opens a [`Hold`], draws the memory of its buffers from it, and returns memory that they free. Responses
//! served from memory draw nothing; purges, the admin listener, probes and logs do not use the account, so they never
//! wait for it.

mod clients;
mod hold;
mod queue;
mod rates;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub use clients::{PerClientCounts, UnderWay};
use edgerouter_core::bounds::{
    clients::Client,
    memory::{self, Budget, Candidate, KINDS, Purpose, Used},
};
use edgerouter_telemetry::text;
use hashbrown::HashMap;
pub use hold::Hold;
use parking_lot::Mutex;
use queue::{LOOK, Queue};
pub use rates::{RateTable, Rates, Waiting};
use slab::Slab;

/// After a search that found no holder to cut, no other search begins for this long (ms).
const PAUSE: u64 = 50;
/// Number of clients and of origins that the account has space for from the start.
const FEW: usize = 128;
/// Part of the account that evicted entries with readers may take before these readers are cut.
const PINNED: u64 = 8;
/// A holder that frees its memory when it is cut.
pub trait Cut: Send + Sync {
    /// Called from any thread, while no lock of the account is held.
    fn cut(&self);
}

/// The client and origin that memory is held for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// `None`: the memory is held for no client in particular.
    pub client: Option<Client>,
    /// The origins that a route goes to, by a number that lasts as long as the plan.
    pub origin: Option<u32>,
}

/// There is no memory left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the memory for requests is exhausted (limits.http.request_memory_bytes)")]
pub struct Spent;

/// The memory that requests and responses hold in the whole process, and the holders of its parts.
#[derive(Debug)]
pub struct Account {
    state: Mutex<State>,
    start: Instant,
    /// The progress of all holders that are never cut.
    still: Arc<AtomicU64>,
    cut: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Without the pinned bytes.
    budget: Budget,
    capacity: u64,
    pinned: u64,
    used: Used,
    holders: Slab<Holder>,
    clients: HashMap<Client, Total>,
    origins: HashMap<u32, Total>,
    waiting: Queue,
    /// Time of the last search that found no holder to cut.
    vain: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Total {
    holders: usize,
    bytes: u64,
}

struct Holder {
    kind: Purpose,
    owner: Owner,
    bytes: u64,
    moved: Arc<AtomicU64>,
    cut: Weak<dyn Cut>,
    /// It was cut already.
    notified: bool,
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holder")
            .field("kind", &self.kind)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Figures of the account.
#[derive(Debug, Clone, Copy)]
pub struct AccountFigures {
    /// Bytes that may be drawn while the cache has nothing pinned.
    pub capacity: u64,
    /// Bytes that the cache has evicted and clients still read; they cannot be drawn.
    pub pinned: u64,
    /// Bytes drawn, by purpose.
    pub used: Used,
    /// Holders that are open now, also those that hold nothing.
    pub holders: usize,
    /// Holders that were cut, since the start.
    pub cut: u64,
    /// Draws that found no memory in time, since the start.
    pub refused: u64,
}

/// For holders whose memory is not worth cutting.
#[derive(Debug)]
struct Uncut;

impl Cut for Uncut {
    fn cut(&self) {}
}

impl Account {
    /// An account of `capacity` bytes.
    pub fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                budget: Budget { capacity },
                capacity,
                pinned: 0,
                used: [0; KINDS],
                holders: Slab::new(),
                // Large from the start: a small table would be rehashed by every other holder that comes and goes.
                clients: HashMap::with_capacity(FEW),
                origins: HashMap::with_capacity(FEW),
                waiting: Queue::default(),
                vain: None,
            }),
            start: Instant::now(),
            still: Arc::default(),
            cut: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Sets the bound, which a reload may change; drawn memory stays drawn.
    pub fn bound(&self, capacity: u64) {
        let mut state = self.state.lock();
        state.capacity = capacity;
        state.budget.capacity = capacity.saturating_sub(state.pinned);
        state.wake();
    }

    /// Sets the number of bytes that the cache has evicted and clients still read: others have that much less. True
    /// when it is more than its part of the account: some of those clients have to be cut.
    pub fn pinned(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        state.pinned = bytes;
        state.budget.capacity = state.capacity.saturating_sub(bytes);
        bytes > state.capacity / PINNED
    }

    /// The bytes that one holder of `kind` may draw when there is no other.
    pub fn most(&self, kind: Purpose) -> u64 {
        let whole = Budget {
            capacity: self.state.lock().capacity,
        };
        whole.most(kind)
    }

    /// A snapshot, taken under the account's lock.
    pub fn figures(&self) -> AccountFigures {
        let state = self.state.lock();
        AccountFigures {
            capacity: state.capacity,
            pinned: state.pinned,
            used: state.used,
            holders: state.holders.len(),
            cut: self.cut.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// A new holder, which has drawn nothing yet. `cut` is called when others need its memory.
    pub fn open(self: &Arc<Self>, kind: Purpose, owner: Owner, cut: Weak<dyn Cut>) -> Hold {
        let moved = Arc::new(AtomicU64::new(self.now()));
        let id = self.state.lock().holders.insert(Holder {
            kind,
            owner,
            bytes: 0,
            moved: Arc::clone(&moved),
            cut,
            notified: false,
        });
        Hold {
            account: Arc::clone(self),
            id,
            kind,
            moved,
        }
    }

    /// A holder that is never cut, because its memory is not worth it: its progress is not tracked.
    pub fn open_uncut(self: &Arc<Self>, kind: Purpose, owner: Owner) -> Hold {
        let id = self.state.lock().holders.insert(self.uncut(kind, owner));
        self.uncut_hold(id, kind)
    }

    /// As `open_uncut`, of a holder that begins with `bytes`: drawn as by [`Hold::drawn`].
    pub async fn open_drawn(
        self: &Arc<Self>,
        kind: Purpose,
        owner: Owner,
        bytes: u64,
        patience: Duration,
    ) -> Result<Hold, Spent> {
        let opened = self.opened(kind, owner, |_| bytes, patience).await;
        opened.map(|(hold, _)| hold)
    }

    /// As `open_drawn`, of a holder that begins with a buffer. Its size is that of [`Hold::allowance`].
    pub async fn open_buffer(
        self: &Arc<Self>,
        kind: Purpose,
        owner: Owner,
        (least, most): (u64, u64),
        patience: Duration,
    ) -> Result<(Hold, u64), Spent> {
        let size = |state: &State| state.budget.allowance(&state.used, kind, least, most);
        self.opened(kind, owner, size, patience).await
    }

    /// A holder that begins with as many bytes as `size` says.
    async fn opened(
        self: &Arc<Self>,
        kind: Purpose,
        owner: Owner,
        size: impl FnOnce(&State) -> u64,
        patience: Duration,
    ) -> Result<(Hold, u64), Spent> {
        let (id, bytes, drawn) = {
            let mut state = self.state.lock();
            let id = state.holders.insert(self.uncut(kind, owner));
            let bytes = size(&state);
            (id, bytes, state.draw_free(id, kind, bytes))
        };
        let hold = self.uncut_hold(id, kind);
        if drawn.is_err() {
            hold.drawn(bytes, patience).await?;
        }
        Ok((hold, bytes))
    }

    fn uncut(&self, kind: Purpose, owner: Owner) -> Holder {
        Holder {
            kind,
            owner,
            bytes: 0,
            moved: Arc::clone(&self.still),
            cut: Weak::<Uncut>::new(),
            notified: false,
        }
    }

    fn uncut_hold(self: &Arc<Self>, id: usize, kind: Purpose) -> Hold {
        Hold {
            account: Arc::clone(self),
            id,
            kind,
            moved: Arc::clone(&self.still),
        }
    }

    /// The account as metrics.
    pub fn render(&self, out: &mut String) {
        let figures = self.figures();
        let used = Purpose::ALL.into_iter().map(|kind| {
            let used = figures.used.get(kind as usize).copied().unwrap_or(0);
            ([kind.as_str()], used)
        });
        text::labelled(
            out,
            "edgerouter_request_memory_bytes",
            "Memory of requests, by kind.",
            ["kind"],
            used.chain([(["evicted"], figures.pinned)]),
        );
        for (name, help, value) in [
            (
                "edgerouter_request_memory_capacity_bytes",
                "Memory that requests may draw: three eighths of limits.http.request_memory_bytes.",
                figures.capacity,
            ),
            (
                "edgerouter_request_memory_cut_total",
                "Holders from which memory was reclaimed for others.",
                figures.cut,
            ),
            (
                "edgerouter_request_memory_refused_total",
                "Requests and responses that got no memory in time.",
                figures.refused,
            ),
        ] {
            text::one(out, name, help, value);
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

impl State {
    fn draw_free(&mut self, id: usize, kind: Purpose, bytes: u64) -> Result<(), Spent> {
        if self.budget.room(&self.used, kind) < bytes {
            return Err(Spent);
        }
        self.take(id, bytes);
        Ok(())
    }

    fn take(&mut self, id: usize, bytes: u64) {
        let Some(holder) = self.holders.get_mut(id) else {
            return;
        };
        let first = holder.bytes == 0 && bytes > 0;
        holder.bytes += bytes;
        if let Some(used) = self.used.get_mut(holder.kind as usize) {
            *used += bytes;
        }
        let Owner { client, origin } = holder.owner;
        let totals = [
            client.map(|client| self.clients.entry(client).or_default()),
            origin.map(|origin| self.origins.entry(origin).or_default()),
        ];
        for total in totals.into_iter().flatten() {
            total.bytes += bytes;
            total.holders += usize::from(first);
        }
    }

    fn give(&mut self, id: usize, bytes: u64) {
        let Some(holder) = self.holders.get_mut(id) else {
            return;
        };
        let bytes = bytes.min(holder.bytes);
        if bytes == 0 {
            return;
        }
        holder.bytes -= bytes;
        let last = holder.bytes == 0;
        if let Some(used) = self.used.get_mut(holder.kind as usize) {
            *used = used.saturating_sub(bytes);
        }
        let Owner { client, origin } = holder.owner;
        if let Some(client) = client {
            less(&mut self.clients, client, bytes, last);
        }
        if let Some(origin) = origin {
            less(&mut self.origins, origin, bytes, last);
        }
        self.wake();
    }

    fn wake(&mut self) {
        self.vain = None;
        self.wake_waiting(LOOK);
    }

    /// Wakes those for whom there is room now, at most so many of each kind.
    fn wake_waiting(&mut self, most: usize) {
        let (budget, used) = (&self.budget, &self.used);
        self.waiting.wake(most, |kind| budget.room(used, kind));
    }

    /// Chooses the holder to cut for one that wants `bytes` more.
    fn victim(&mut self, id: usize, bytes: u64, now: u64) -> Option<Weak<dyn Cut>> {
        if self.vain.is_some_and(|vain| now < vain + PAUSE) {
            return None;
        }
        let holder = self.holders.get(id)?;
        let (kind, owner) = (holder.kind, holder.owner);
        let newcomer = |has: bool| usize::from(!has);
        let clients = self.clients.len()
            + newcomer(
                owner
                    .client
                    .is_none_or(|client| self.clients.contains_key(&client)),
            );
        let origins = self.origins.len()
            + newcomer(
                owner
                    .origin
                    .is_none_or(|origin| self.origins.contains_key(&origin)),
            );
        let all = self
            .used
            .iter()
            .fold(bytes, |sum, used| sum.saturating_add(*used));
        let above = |holder: &Holder| {
            let of_client = holder.owner.client.is_some_and(|client| {
                let total = self.clients.get(&client).map_or(0, |total| total.bytes);
                let more = if owner.client == Some(client) {
                    bytes
                } else {
                    0
                };
                Budget::above(total.saturating_add(more), all, clients)
            });
            // With only one origin, its share does not show which holder takes too much.
            let of_origin = |origin: u32| {
                let total = self.origins.get(&origin).map_or(0, |total| total.bytes);
                let more = if owner.origin == Some(origin) {
                    bytes
                } else {
                    0
                };
                origins > 1 && Budget::above(total.saturating_add(more), all, origins)
            };
            of_client || holder.owner.origin.is_some_and(of_origin)
        };
        let others = self.holders.iter().filter(|(other, holder)| {
            *other != id && !holder.notified && holder.cut.strong_count() > 0
        });
        let candidates = others.map(|(other, holder)| Candidate {
            id: other,
            bytes: holder.bytes,
            above: above(holder),
            helps: self.budget.helps(&self.used, kind, holder.kind),
            idle: now.saturating_sub(holder.moved.load(Ordering::Relaxed)),
        });
        let Some(chosen) = memory::victim(candidates) else {
            self.vain = Some(now);
            return None;
        };
        let holder = self.holders.get_mut(chosen)?;
        holder.notified = true;
        Some(holder.cut.clone())
    }
}

fn less<K: std::hash::Hash + Eq>(totals: &mut HashMap<K, Total>, key: K, bytes: u64, last: bool) {
    if let hashbrown::hash_map::Entry::Occupied(mut total) = totals.entry(key) {
        let known = total.get_mut();
        known.bytes = known.bytes.saturating_sub(bytes);
        known.holders = known.holders.saturating_sub(usize::from(last));
        if known.holders == 0 {
            total.remove();
        }
    }
}

#[cfg(test)]
mod tests;
