//! Looks at a primary and its replicas, for as long as they are used.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};

use super::{
    super::{
        connection::{Connection, Trouble},
        pool::{Dial, Pool},
        position::Position,
    },
    Replicas,
    facts::ReplicaFacts,
};
use crate::error::DataError;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(2);

/// The times of looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From one to the next.
    interval: Duration,
    /// For an answer.
    patience: Duration,
}

impl Times {
    /// Looks are frequent enough to notice a replica that is behind by `staleness`, and one that is frozen within the
    /// time of an operation.
    pub(super) fn new(staleness: Duration, timeout: Duration) -> Self {
        let part = |of: Duration| of.clamp(Duration::from_millis(50), Duration::from_secs(1));
        Self {
            interval: part((staleness / 8).min(timeout / 4)),
            patience: part(timeout / 4),
        }
    }
}

/// The connection that looks use; calls may have all of those of the pool.
type Own<D> = Option<<D as Dial>::Connection>;

pub(super) async fn watch<D: Dial<Connection: Connection>>(
    replicas: Weak<Replicas<D>>,
    times: Times,
    binding: Arc<str>,
) {
    let Some(count) = replicas.upgrade().map(|it| it.pools.len()) else {
        return;
    };
    let mut primary: Own<D> = None;
    let mut others: Vec<(Own<D>, Option<String>)> = (0..count).map(|_| (None, None)).collect();
    while let Some(found) = replicas.upgrade() {
        if found.primary.is_closed() {
            return;
        }
        let at_primary = look_at_primary(&found, &mut primary, times, &binding);
        if found.facts.identity().is_none() {
            at_primary.await;
            look_at_all(&found, &mut others, times, &binding).await;
        } else {
            let all = look_at_all(&found, &mut others, times, &binding);
            join(at_primary, all).await;
        }
        drop(found);
        tokio::time::sleep(times.interval).await;
    }
}

async fn look_at_primary<D: Dial<Connection: Connection>>(
    replicas: &Replicas<D>,
    own: &mut Own<D>,
    times: Times,
    binding: &str,
) {
    let facts = &replicas.facts;
    let is_new = own.is_none();
    let began = Instant::now();
    let look = async {
        let connection = connected(&replicas.primary, own).await?;
        if is_new {
            facts.identify(connection.identity().await?);
        }
        measured(connection, times).await
    };
    match look.await {
        Ok((latency, position)) => {
            if is_new && position.is_none() {
                tracing::warn!(
                    binding,
                    "the primary counts no changes, so that replicas are not used; turn its binary log on (log_bin)"
                );
            }
            // The position is of a time after the beginning.
            facts.primary_seen(began, latency, position);
        }
        Err(trouble) => {
            abandon(&replicas.primary, own);
            if facts.primary_lost() {
                let error = trouble.into_error();
                tracing::warn!(binding, %error, "the primary cannot be reached; replicas answer reads");
            }
        }
    }
}

async fn look_at_all<D: Dial<Connection: Connection>>(
    replicas: &Replicas<D>,
    others: &mut [(Own<D>, Option<String>)],
    times: Times,
    binding: &str,
) {
    let all = replicas.pools.iter().zip(&replicas.facts.replicas);
    let all = all.zip(others).enumerate();
    join_all(all.map(async |(at, ((pool, facts), (own, before)))| {
        let why = look_at_replica(replicas, pool, facts, own, times)
            .await
            .err();
        match &why {
            Some(why) if before.as_ref() != Some(why) => {
                tracing::warn!(binding, replica = at + 1, why, "a replica is not used");
            }
            None if before.is_some() => {
                tracing::info!(binding, replica = at + 1, "a replica is used again");
            }
            _ => {}
        }
        facts.up.send_replace(why.is_none());
        *before = why;
    }))
    .await;
}

async fn look_at_replica<D: Dial<Connection: Connection>>(
    replicas: &Replicas<D>,
    pool: &Pool<D>,
    facts: &ReplicaFacts,
    own: &mut Own<D>,
    times: Times,
) -> Result<(), String> {
    let Some(identity) = replicas.facts.identity() else {
        return Err(
            "the primary was not reached yet, so what it replicates is not known".to_owned(),
        );
    };
    let is_new = own.is_none();
    let look = async {
        let connection = connected(pool, own).await?;
        if is_new && let Some(why) = connection.unfit(identity.as_deref()).await? {
            return Ok(Err(why));
        }
        measured(connection, times).await.map(Ok)
    };
    match look.await {
        Ok(Ok((latency, position))) => {
            replicas.facts.replica_seen(facts, latency, position);
            Ok(())
        }
        Ok(Err(why)) => {
            abandon(pool, own);
            Err(why)
        }
        Err(trouble) => {
            abandon(pool, own);
            Err(trouble.into_error().to_string())
        }
    }
}

async fn connected<'a, D: Dial<Connection: Connection>>(
    pool: &Pool<D>,
    own: &'a mut Own<D>,
) -> Result<&'a mut D::Connection, Trouble> {
    if own.is_none() {
        let connecting = tokio::time::timeout(CONNECT, pool.dial.connect());
        *own = Some(connecting.await.unwrap_or_else(|_| Err(silent(CONNECT)))?);
    }
    own.as_mut().ok_or(Trouble::Lost(DataError::Closed))
}

async fn measured<C: Connection>(
    connection: &mut C,
    times: Times,
) -> Result<(Duration, Option<Position>), Trouble> {
    let began = Instant::now();
    let answered = tokio::time::timeout(times.patience, connection.position());
    let position = answered
        .await
        .unwrap_or_else(|_| Err(Trouble::Lost(silent(times.patience))))?;
    Ok((began.elapsed(), position))
}

fn silent(patience: Duration) -> DataError {
    let why = format!("no answer within {} s", patience.as_secs_f64());
    DataError::Unreachable(why)
}

fn abandon<D: Dial>(pool: &Pool<D>, own: &mut Own<D>) {
    if let Some(connection) = own.take() {
        pool.dial.abandon(connection);
    }
}
