//! A database on a server: its calls take the connections of a pool in turn.

use std::sync::Arc;

use edgerouter_core::plan::limits::DataLimits;
use tokio::runtime::Handle;

use super::{
    call::{SqlCall, SqlReply},
    pool::{Dial, Pool},
};
use crate::{answer::Answer, error::DataError};

/// The way in which work on a connection failed.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: DataError,
    /// The connection must not be used any more.
    pub(super) is_lost: bool,
}

impl From<DataError> for Trouble {
    fn from(error: DataError) -> Self {
        Self {
            error,
            is_lost: false,
        }
    }
}

/// A connection, as far as a call needs it.
pub(super) trait Connection: Send + 'static {
    /// Refuses a call that no connection can do.
    fn check(_call: &SqlCall) -> Result<(), DataError> {
        Ok(())
    }

    /// Does a call, whose result may have `most` bytes.
    fn call(
        &mut self,
        call: &SqlCall,
        most: usize,
    ) -> impl Future<Output = Result<SqlReply, Trouble>> + Send;
}

/// A database on a server.
pub(crate) struct ServerDatabase<D: Dial> {
    pool: Arc<Pool<D>>,
    handle: Handle,
    result_bytes: usize,
}

// By hand, as the dial has the password and is not shown.
impl<D: Dial> std::fmt::Debug for ServerDatabase<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerDatabase")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl<D: Dial<Connection: Connection>> ServerDatabase<D> {
    /// Makes no connection yet.
    pub(super) fn new(dial: D, limits: &DataLimits, handle: Handle) -> Self {
        Self {
            pool: Arc::new(Pool::new(dial, limits.connections)),
            handle,
            result_bytes: limits.result_bytes,
        }
    }

    pub(crate) fn begin(&self, call: SqlCall, answer: Answer) {
        let (pool, most) = (Arc::clone(&self.pool), self.result_bytes);
        self.handle.spawn(async move {
            let deadline = answer.deadline();
            // Past its time the operation is answered by the end of its time; here its work ends.
            if let Ok(done) =
                tokio::time::timeout_at(deadline.into(), done(&pool, &call, most)).await
            {
                answer.send(done.map(Into::into));
            }
        });
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

async fn done<D: Dial<Connection: Connection>>(
    pool: &Pool<D>,
    call: &SqlCall,
    most: usize,
) -> Result<SqlReply, DataError> {
    D::Connection::check(call)?;
    let mut lease = pool.lease().await?;
    let result = lease.connection()?.call(call, most).await;
    match result {
        Err(Trouble {
            error,
            is_lost: true,
        }) => {
            drop(lease);
            if matches!(error, DataError::Unreachable(_)) {
                pool.forget();
            }
            Err(error)
        }
        result => {
            lease.give_back();
            result.map_err(|trouble| trouble.error)
        }
    }
}
