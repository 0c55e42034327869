//! Room for new connections when connections or descriptors run out: the one that has been idle longest gives way.
//!
//! A worker ends connections of its own; where it has fewer than its share, or none that are idle, it has the other
//! workers end one. No connection is left in the kernel's queue: one for which nothing gives way is accepted, closed
//! and counted.

use std::{
    fs::File,
    future::poll_fn,
    io,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::connection::{ConnectionOwner, ConnectionState, Connections};
use edgerouter_core::{
    bounds::{
        descriptors::{self, Descriptors},
        memory::PATIENCE,
    },
    plan::{Plan, limits::HttpLimits},
};
use edgerouter_telemetry::Refused;

/// New connections that wait for another worker to end one, beyond the bound.
const WAITING: usize = 32;
/// Idle connections that one look at all of them finds, at least; a sixteenth of them otherwise.
const FOUND: usize = 16;

/// The process's descriptors that are taken before the first connection.
pub fn descriptors(limit: u64, workers: usize) -> Descriptors {
    let open = std::fs::read_dir("/proc/self/fd").map_or(64, Iterator::count);
    Descriptors {
        limit,
        open: open as u64,
        // The background, the admin listener and Python have loops of their own.
        loops: workers as u64 + 3,
        workers: workers as u64,
    }
}

/// The connections that a plan gets. Logs where they are fewer than it wants; `before`: the plan of the last such line.
pub fn fit(descriptors: Option<Descriptors>, plan: &Plan, before: Option<&Plan>) -> usize {
    let wanted = plan.limits.http.connections;
    let Some(descriptors) = descriptors else {
        return wanted;
    };
    let fits = descriptors.connections(plan);
    if fits < wanted && before.is_none_or(|before| descriptors.connections(before) != fits) {
        let limit = descriptors.limit;
        // Nobody chose the default: it is no warning.
        if wanted == HttpLimits::default().connections {
            tracing::info!(
                "the limit on open files of this process ({limit}) leaves room for {fits} connections: \
                 for more raise its hard limit (ulimit -Hn, LimitNOFILE=)",
            );
        } else {
            tracing::warn!(
                "limits.http.connections is {wanted}, but the limit on open files of this process ({limit}) leaves room for \
                 {fits}: raise its hard limit (ulimit -Hn, LimitNOFILE=), or lower limits.http.connections",
            );
        }
    }
    fits
}

/// True if an error says that the process or the machine has no more descriptors or memory for sockets.
pub(crate) fn exhausted(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

/// Makes an idle connection end so that another can take its place: one of this worker's if it has its share of `all`,
/// otherwise one of the others', as long as not too many beyond the bound (`most`) wait for that already.
pub(crate) fn give_way(owner: &impl ConnectionOwner, all: usize, most: usize) -> bool {
    let connections = owner.connections();
    let own = connections.open.borrow().len();
    let has_its_share = descriptors::has_its_share(own, all, connections.all.pressure.len());
    (has_its_share && end_idlest(owner))
        || (all - most < WAITING && press_others(connections, false))
        || (!has_its_share && end_idlest(owner))
}

/// False when there is no other worker. `asked`: each of them has to end one, whatever the counts are.
fn press_others(connections: &Connections, asked: bool) -> bool {
    let mut pressed = false;
    for (index, other) in connections.all.pressure.iter().enumerate() {
        if index != connections.index {
            other.asked.fetch_or(asked, Ordering::AcqRel);
            other.changed.notify_one();
            pressed = true;
        }
    }
    pressed
}

/// Ends the connection of this worker that has been idle longest. False when none is.
fn end_idlest(owner: &impl ConnectionOwner) -> bool {
    let mut idlest = owner.connections().idlest.borrow_mut();
    let connections = owner.connections().open.borrow();
    for look in 0..2 {
        while let Some((index, since)) = idlest.found.pop_front() {
            // It may have got a request meanwhile, or its index another connection.
            if let Some(connection) = connections.get(index)
                && connection.idle_since() == Some(since)
            {
                connection.set_state(ConnectionState::End);
                owner.metrics().gave_way();
                return true;
            }
        }
        if look == 0 {
            let idle: Vec<_> = connections
                .iter()
                .filter_map(|(index, connection)| {
                    let since = connection.idle_since()?;
                    Some(((since, connection.serial), (index, since)))
                })
                .collect();
            let most = FOUND.max(idle.len() / 16);
            idlest.found = descriptors::longest_idle(idle, most).into();
        }
    }
    false
}

/// Ends an eighth of the connections whose clients take nothing, those first that have stalled for longest. Their
/// memory is in no account: the cache gave it to them, and has evicted it since.
pub fn end_stalled(connections: &Connections, now: u64) {
    let connections = connections.open.borrow();
    let stalled: Vec<_> = connections
        .iter()
        .filter_map(|(_, connection)| Some((connection.stalled_since()?, connection)))
        .filter(|(since, _)| now.saturating_sub(*since) >= PATIENCE)
        .collect();
    let most = stalled.len().div_ceil(8);
    for connection in descriptors::longest_idle(stalled, most) {
        connection.set_state(ConnectionState::End);
    }
}

/// Ends idle connections whenever other workers need room.
pub async fn give_way_to_others(owner: &impl ConnectionOwner) {
    let connections = owner.connections();
    let all = &connections.all;
    let Some(own) = all.pressure.get(connections.index) else {
        return std::future::pending().await;
    };
    own.changed.notified().await;
    let most = owner.with_plan(|_, most| most);
    let asked = own.asked.swap(false, Ordering::AcqRel);
    let mut ends = asked;
    loop {
        let own = connections.open.borrow().len();
        ends |= descriptors::gives_way(own, all.count(), most, all.pressure.len(), asked);
        if !ends {
            return;
        }
        if !end_idlest(owner) {
            break;
        }
        ends = false;
        // It counts until its task has run.
        tokio::task::yield_now().await;
    }
    if !asked {
        press_others(connections, true);
    }
}

/// A socket that connections are accepted from.
pub(crate) trait Listening {
    /// A connection, and the address of its peer where that has one.
    type Accepted;

    /// Accepts a connection.
    fn poll_accepted(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>>;
}

/// A spare descriptor, so that there is one for a connection that has to be refused.
pub(crate) struct Spare(Option<File>);

impl Spare {
    pub(crate) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Makes room where a connection could not be accepted, or accepts and closes it.
    pub(crate) async fn refuse_one(
        &mut self,
        owner: &impl ConnectionOwner,
        listener: &impl Listening,
        error: &io::Error,
    ) {
        log(owner.connections(), error);
        if end_idlest(owner) {
            // Its descriptor is free once its task has run.
            tokio::task::yield_now().await;
            return;
        }
        press_others(owner.connections(), true);
        if self.0.take().is_some() {
            let refused = poll_fn(|cx| Poll::Ready(listener.poll_accepted(cx).map_ok(drop))).await;
            if matches!(refused, Poll::Ready(Ok(()))) {
                owner.metrics().refused(Refused::TooManyConnections);
            }
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.0 = File::open("/dev/null").ok();
        tokio::task::yield_now().await;
    }
}

/// Logs it once a minute at most: the workers have other things to do.
fn log(connections: &Connections, error: &io::Error) {
    let mut idlest = connections.idlest.borrow_mut();
    let now = Instant::now();
    if idlest
        .logged
        .is_none_or(|said| now.duration_since(said) >= Duration::from_secs(60))
    {
        idlest.logged = Some(now);
        tracing::warn!(
            %error,
            "no descriptor for a new connection: idle ones are closed for it; raise the limit on open files (ulimit -n)"
        );
    }
}
