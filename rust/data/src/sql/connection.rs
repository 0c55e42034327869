//! A connection to a database server, as far as the calls need it, and the calls made of its few operations.

use std::time::Instant;

use super::{
    call::{ResultBytes, SqlCall, SqlPart, SqlReply, SqlResult, Statement, in_batch},
    position::Position,
    text,
    tokens::Dialect,
    verb::Verb,
};
use crate::error::DataError;

/// The way in which work on a connection failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection is as before.
    Failed(DataError),
    /// The connection must not be used any more.
    Lost(DataError),
    /// The server accepts no changes: another one may have become the primary. The connection is as before.
    NoPrimary(DataError),
    /// A prepared statement does not fit the schema any more. Nothing has run: the server refuses it before, and in a
    /// transaction all was undone.
    Stale(DataError),
}

impl From<DataError> for Trouble {
    fn from(error: DataError) -> Self {
        Self::Failed(error)
    }
}

impl Trouble {
    pub(super) fn into_error(self) -> DataError {
        match self {
            Self::Failed(error)
            | Self::Lost(error)
            | Self::NoPrimary(error)
            | Self::Stale(error) => error,
        }
    }
}

/// The operations of a connection.
pub(super) trait Connection: Send + 'static {
    const DIALECT: Dialect;
    /// Begins a transaction.
    const BEGIN: &'static str;

    /// Refuses a call that no connection can do.
    fn check(_call: &SqlCall) -> Result<(), DataError> {
        Ok(())
    }

    /// Forgets prepared statements.
    fn forget(&mut self) {}

    /// Reaches the server.
    fn ping(&mut self) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Runs a statement without values, whose rows are dropped.
    fn command(&mut self, sql: &str) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Runs a statement.
    fn run(
        &mut self,
        statement: &Statement,
        first: bool,
        bytes: &mut ResultBytes,
    ) -> impl Future<Output = Result<SqlResult, Trouble>> + Send;

    /// The changes that the server has made, also those that it got from a primary. `None` where it does not count
    /// them.
    fn position(&mut self) -> impl Future<Output = Result<Option<Position>, Trouble>> + Send;

    /// The reason for which the server is no replica of one with the identity `of`, or of any.
    fn unfit(
        &mut self,
        of: Option<&str>,
    ) -> impl Future<Output = Result<Option<String>, Trouble>> + Send;

    /// An identity that a primary and its replicas have in common; `None` where they have none.
    fn identity(&mut self) -> impl Future<Output = Result<Option<String>, Trouble>> + Send;
}

/// Does a call, whose result may have `most` bytes.
pub(super) async fn call<C: Connection>(
    connection: &mut C,
    call: &SqlCall,
    most: usize,
) -> Result<SqlReply, Trouble> {
    let mut result = attempt(connection, call, most).await;
    if matches!(result, Err(Trouble::Stale(_))) {
        connection.forget();
        result = attempt(connection, call, most).await;
    }
    result
}

async fn attempt<C: Connection>(
    connection: &mut C,
    call: &SqlCall,
    most: usize,
) -> Result<SqlReply, Trouble> {
    let began = Instant::now();
    let mut bytes = ResultBytes::new(most);
    let (results, count) = match call {
        SqlCall::Ping => {
            connection.ping().await?;
            return Ok(SqlReply::Reached);
        }
        SqlCall::Query { statement, first } => (
            vec![connection.run(statement, *first, &mut bytes).await?],
            1,
        ),
        SqlCall::Batch(parts) => batch(connection, parts, &mut bytes).await?,
    };
    Ok(SqlReply::Results {
        results,
        count,
        duration: began.elapsed(),
    })
}

async fn batch<C: Connection>(
    connection: &mut C,
    batch: &[SqlPart],
    bytes: &mut ResultBytes,
) -> Result<(Vec<SqlResult>, u64), Trouble> {
    // One statement is a transaction by itself, and some are possible in no other (CREATE INDEX CONCURRENTLY).
    if let [SqlPart::Script(script)] = batch
        && text::statements(C::DIALECT, script).len() <= 1
    {
        return Ok((Vec::new(), run_script(connection, script).await?));
    }
    connection.command(C::BEGIN).await?;
    match parts(connection, batch, bytes).await {
        Ok(done) => {
            connection.command("COMMIT").await?;
            Ok(done)
        }
        Err(Trouble::Lost(error)) => Err(Trouble::Lost(error)),
        Err(failed) => match connection.command("ROLLBACK").await {
            Ok(()) => Err(failed),
            Err(_) => Err(Trouble::Lost(failed.into_error())),
        },
    }
}

async fn parts<C: Connection>(
    connection: &mut C,
    parts: &[SqlPart],
    bytes: &mut ResultBytes,
) -> Result<(Vec<SqlResult>, u64), Trouble> {
    let (mut results, mut count) = (Vec::with_capacity(parts.len()), 0);
    for (at, part) in parts.iter().enumerate() {
        let ran = match part {
            SqlPart::Statement(statement) => {
                let ran = connection.run(statement, false, bytes).await;
                ran.map(|result| {
                    results.push(result);
                    1
                })
            }
            SqlPart::Script(script) => run_script(connection, script).await,
        };
        count += ran.map_err(|trouble| match trouble {
            Trouble::Failed(error) => Trouble::Failed(in_batch(error, at, parts)),
            Trouble::Lost(error) => Trouble::Lost(in_batch(error, at, parts)),
            Trouble::NoPrimary(error) => Trouble::NoPrimary(in_batch(error, at, parts)),
            stale @ Trouble::Stale(_) => stale,
        })?;
    }
    Ok((results, count))
}

/// Runs the statements of a script. The number of them.
async fn run_script<C: Connection>(connection: &mut C, script: &str) -> Result<u64, Trouble> {
    let statements = text::statements(C::DIALECT, script);
    for statement in &statements {
        if let Some(why) = Verb::of(C::DIALECT, statement).misplaced(C::DIALECT) {
            return Err(DataError::Refused(why.into_owned()).into());
        }
        connection.command(statement).await?;
    }
    Ok(statements.len() as u64)
}
