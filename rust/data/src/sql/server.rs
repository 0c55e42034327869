//! A database on a server: its calls take the connections of a pool in turn, and reads those of a replica where there
//! is one that can answer.

use std::sync::Arc;

use edgerouter_core::plan::limits::DataLimits;
use tokio::runtime::Handle;

use super::{
    call::{SqlCall, SqlPart, SqlReply},
    connection::{self, Connection, Trouble},
    pool::{Dial, Lease, Pool},
    position::Position,
    replicas::{Facts, Replicas},
    session::Session,
    verb::only_reads,
};
use crate::{answer::Answer, error::DataError};

/// A database on a server.
pub(crate) struct ServerDatabase<D: Dial> {
    primary: Arc<Pool<D>>,
    replicas: Option<Arc<Replicas<D>>>,
    handle: Handle,
    result_bytes: usize,
}

// By hand, as the dial has the password and is not shown.
impl<D: Dial> std::fmt::Debug for ServerDatabase<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerDatabase")
            .field("primary", &self.primary)
            .finish_non_exhaustive()
    }
}

impl<D: Dial<Connection: Connection>> ServerDatabase<D> {
    /// Makes no connection yet.
    pub(super) fn new(
        primary: Arc<Pool<D>>,
        replicas: Option<Arc<Replicas<D>>>,
        limits: &DataLimits,
        handle: Handle,
    ) -> Self {
        Self {
            primary,
            replicas,
            handle,
            result_bytes: limits.result_bytes,
        }
    }

    pub(crate) fn begin(&self, call: SqlCall, session: Option<Arc<Session>>, answer: Answer) {
        if let Err(error) = D::Connection::check(&call) {
            answer.send(Err(error));
            return;
        }
        let (primary, replicas) = (Arc::clone(&self.primary), self.replicas.clone());
        let most = self.result_bytes;
        let session = session.filter(|_| replicas.is_some());
        let reads = replicas.is_some() && reads::<D::Connection>(&call);
        if let Some(session) = session.as_ref().filter(|_| !reads) {
            session.write_begins();
        }
        answer.after(&self.handle, async move {
            match &replicas {
                Some(replicas) => replicas.call(&call, reads, session.as_deref(), most).await,
                None => {
                    let done = on_primary(&primary, &call, false, most).await;
                    done.map(|(reply, _)| reply)
                }
            }
        });
    }

    /// `None`: it has no replicas.
    pub(super) fn facts(&self) -> Option<&Arc<Facts>> {
        self.replicas.as_ref().map(|replicas| replicas.facts())
    }

    pub(crate) fn close(&self) {
        self.primary.close();
        if let Some(replicas) = &self.replicas {
            replicas.close();
        }
    }
}

/// True if a replica may do a call.
fn reads<C: Connection>(call: &SqlCall) -> bool {
    match call {
        SqlCall::Query { statement, .. } => only_reads(C::DIALECT, &statement.sql),
        SqlCall::Batch(parts) => parts.iter().all(|part| match part {
            SqlPart::Statement(statement) => only_reads(C::DIALECT, &statement.sql),
            SqlPart::Script(_) => false,
        }),
        SqlCall::Ping => false,
    }
}

/// Does a call on the primary. The position after it, if it is wanted and known.
pub(super) async fn on_primary<D: Dial<Connection: Connection>>(
    pool: &Pool<D>,
    call: &SqlCall,
    tracks: bool,
    most: usize,
) -> Result<(SqlReply, Option<Position>), DataError> {
    let mut lease = pool.lease().await?;
    let result = connection::call(lease.connection()?, call, most).await;
    let position = match &result {
        Ok(_) if tracks => lease.connection()?.position().await,
        _ => Ok(None),
    };
    match (result, position) {
        (Ok(reply), Ok(position)) => {
            lease.give_back();
            Ok((reply, position))
        }
        // The call took effect all the same; the connection is dropped.
        (Ok(reply), Err(_)) => Ok((reply, None)),
        (Err(trouble), _) => kept(pool, lease, Err(trouble)),
    }
}

/// Keeps the connection of a call for the next one, unless it was lost.
pub(super) fn kept<D: Dial, T>(
    pool: &Pool<D>,
    lease: Lease<'_, D>,
    result: Result<T, Trouble>,
) -> Result<T, DataError> {
    match result {
        Err(Trouble::Lost(error)) => {
            drop(lease);
            if error.is_unreachable() {
                pool.forget();
            }
            Err(error)
        }
        Err(Trouble::NoPrimary(error)) => {
            if pool.renew() {
                drop(lease);
            } else {
                lease.give_back();
            }
            Err(error)
        }
        result => {
            lease.give_back();
            result.map_err(Trouble::into_error)
        }
    }
}
