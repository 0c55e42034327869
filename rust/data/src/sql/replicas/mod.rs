//! Replicas: reads go to the nearest one that is reached and not behind, everything else to the primary.
//!
//! `facts` holds what is known about the servers, `looks` finds it out, `choice` decides. A replica is never the reason
//! for a failure: a read that it does not answer goes to the primary.

mod choice;
mod facts;
mod looks;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

pub(crate) use facts::{ENDS, Facts};

use super::{
    bookmark::Needed,
    call::{SqlCall, SqlReply},
    connection::{self, Connection, Trouble},
    pool::{Dial, Lease, Pool},
    position::Position,
    server::{kept, on_primary},
    session::Session,
};
use crate::error::DataError;
use facts::End;

/// Time that a read waits for a replica that does not have the changes yet.
const WAIT: Duration = Duration::from_millis(100);
/// Pauses between the questions whether it has them.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// The replicas of a database.
pub(super) struct Replicas<D: Dial> {
    primary: Arc<Pool<D>>,
    pools: Vec<Arc<Pool<D>>>,
    facts: Arc<Facts>,
    turn: AtomicUsize,
}

impl<D: Dial<Connection: Connection>> Replicas<D> {
    /// Begins to look at the servers.
    pub(super) fn new(
        primary: &Arc<Pool<D>>,
        pools: Vec<Arc<Pool<D>>>,
        staleness: Duration,
        (timeout, name): (Duration, &Arc<str>),
        handle: &Handle,
    ) -> Arc<Self> {
        let made = Arc::new(Self {
            primary: Arc::clone(primary),
            facts: Arc::new(Facts::new(pools.len(), staleness)),
            pools,
            turn: AtomicUsize::new(0),
        });
        let times = looks::Times::new(staleness, timeout);
        handle.spawn(looks::watch(Arc::downgrade(&made), times, Arc::clone(name)));
        made
    }

    pub(super) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    pub(super) fn close(&self) {
        for pool in &self.pools {
            pool.close();
        }
    }

    /// Does a call where it belongs. A write has been noted in its session.
    pub(super) async fn call(
        &self,
        call: &SqlCall,
        reads: bool,
        session: Option<&Session>,
        most: usize,
    ) -> Result<SqlReply, DataError> {
        let tracks = session.is_some_and(Session::tracks);
        if reads {
            let needed = session.map_or(Needed::Nothing, Session::needed);
            if let Some((reply, position)) = self.elsewhere(call, &needed, tracks, most).await? {
                if let Some(session) = session {
                    session.read(position);
                }
                return Ok(reply);
            }
        }
        let result = on_primary(&self.primary, call, tracks, most).await;
        let Some(session) = session.filter(|_| !matches!(call, SqlCall::Ping)) else {
            return result.map(|(reply, _)| reply);
        };
        match (&result, reads) {
            (Ok((_, position)), true) => session.read(position.clone()),
            (Ok((_, position)), false) => session.wrote(position.clone()),
            (Err(error), false) if !error.is_in_doubt() => session.write_failed(),
            (Err(_), _) => {}
        }
        result.map(|(reply, _)| reply)
    }

    /// The result of a read from a replica; `None`: the primary has to give it.
    async fn elsewhere(
        &self,
        call: &SqlCall,
        needed: &Needed,
        tracks: bool,
        most: usize,
    ) -> Result<Option<(SqlReply, Option<Position>)>, DataError> {
        if *needed == Needed::Newest {
            return Ok(None);
        }
        let (candidates, primary) = self.facts.candidates(needed);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = choice::choose(&candidates, primary, turn);
        let found = chosen.and_then(|at| Some((self.facts.replicas.get(at)?, self.pools.get(at)?)));
        let Some((facts, pool)) = found else {
            return Ok(None);
        };
        let mut up = facts.up.subscribe();
        let read = tokio::select! {
            // One that is frozen answers no look, and its reads would take all of their time.
            _ = up.wait_for(|up| !up) => Err(DataError::Unreachable("a replica".to_owned())),
            read = read(pool, call, needed, tracks, most) => read,
        };
        match read {
            Ok(Some(read)) => {
                facts.count(End::Ok);
                return Ok(Some(read));
            }
            Ok(None) => facts.count(End::Behind),
            Err(DataError::Closed) => return Err(DataError::Closed),
            Err(error) => {
                facts.count(End::Failed);
                if error.is_unreachable() {
                    facts.up.send_replace(false);
                }
            }
        }
        Ok(None)
    }
}

/// A read on a replica; `None`: it does not have the changes.
async fn read<D: Dial<Connection: Connection>>(
    pool: &Pool<D>,
    call: &SqlCall,
    needed: &Needed,
    tracks: bool,
    most: usize,
) -> Result<Option<(SqlReply, Option<Position>)>, DataError> {
    let mut lease = pool.lease().await?;
    let result = async {
        if let Needed::UpTo(wanted) = needed
            && !reaches(&mut lease, wanted).await?
        {
            return Ok(None);
        }
        let reply = connection::call(lease.connection()?, call, most).await?;
        if !tracks {
            return Ok(Some((reply, None)));
        }
        let position = lease.connection()?.position().await?;
        lease.saw(position.clone());
        Ok(Some((reply, position)))
    };
    let result = result.await;
    kept(pool, lease, result)
}

/// True once the server has the changes up to a position, within a short time.
async fn reaches<D: Dial<Connection: Connection>>(
    lease: &mut Lease<'_, D>,
    wanted: &Position,
) -> Result<bool, Trouble> {
    if lease.has().is_some_and(|has| has.has(wanted)) {
        return Ok(true);
    }
    let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let position = lease.connection()?.position().await?;
        let reached = position.as_ref().is_some_and(|it| it.has(wanted));
        lease.saw(position);
        if reached || began.elapsed() + pause > WAIT {
            return Ok(reached);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
