//! A database on a libSQL server, such as Turso's, by its protocol over HTTP (Hrana 3, and 2 where the server has no
//! more).
//!
//! Each call is one request, which opens a stream, runs all statements, and closes it: nothing of a call outlives it.
//! `dial` makes the request, `hrana` has the structures of the protocol.

mod dial;
mod hrana;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::{
    plan::libsql_server::LibSqlServer, plan::limits::DataLimits, secret::Secret,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{
    call::{ResultBytes, SqlCall, SqlPart, SqlReply, SqlResult, Statement},
    connection::Trouble,
    pool::Pool,
    server::kept,
    sqlite::misplaced,
    text,
    tokens::Dialect,
};
use crate::{answer::Answer, error::DataError, http::HttpConnection};
use dial::LibSqlDial;

/// A database on a libSQL server.
#[derive(Debug)]
pub(crate) struct LibSqlDatabase {
    shared: Arc<Shared>,
    handle: Handle,
}

struct Shared {
    pool: Pool<LibSqlDial>,
    /// The server has version 2 of the protocol only.
    is_old: AtomicBool,
    result_bytes: usize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Makes no connection yet.
pub(super) fn open(
    server: &LibSqlServer,
    token: Option<&Secret>,
    limits: &DataLimits,
    handle: Handle,
) -> Result<LibSqlDatabase, String> {
    let dial = LibSqlDial::new(server, token, limits.timeout)?;
    Ok(LibSqlDatabase {
        shared: Arc::new(Shared {
            pool: Pool::new(dial, limits.connections),
            is_old: AtomicBool::new(false),
            result_bytes: limits.result_bytes,
        }),
        handle,
    })
}

impl LibSqlDatabase {
    pub(crate) fn begin(&self, call: SqlCall, answer: Answer) {
        let shared = Arc::clone(&self.shared);
        answer.after(&self.handle, async move { shared.done(&call).await });
    }

    pub(crate) fn close(&self) {
        self.shared.pool.close();
    }
}

impl Shared {
    async fn done(&self, call: &SqlCall) -> Result<SqlReply, DataError> {
        let began = Instant::now();
        let order = Order::of(call)?;
        let body = Bytes::from(order.body()?);
        let mut lease = self.pool.lease().await?;
        let result = self.exchange(lease.connection()?, body).await;
        let response = match result {
            // The server ends this connection.
            Ok(response) if lease.connection()?.ends() => {
                drop(lease);
                response
            }
            result => kept(&self.pool, lease, result)?,
        };
        let mut bytes = ResultBytes::new(self.result_bytes);
        order.reply(&response, &mut bytes, began.elapsed())
    }

    /// Sends a pipeline; the body of the response.
    async fn exchange(
        &self,
        connection: &mut HttpConnection,
        body: Bytes,
    ) -> Result<Bytes, Trouble> {
        // Text has up to six bytes for one; most of it has one.
        let most = self.result_bytes.saturating_mul(2) + (64 << 10);
        let path = |is_old| {
            if is_old {
                "/v2/pipeline"
            } else {
                "/v3/pipeline"
            }
        };
        let is_old = self.is_old.load(Ordering::Relaxed);
        let dial = &self.pool.dial;
        let mut response = dial
            .post(connection, path(is_old), body.clone(), most)
            .await?;
        if response.status == 404 && !is_old && !connection.ends() {
            response = dial.post(connection, path(true), body, most).await?;
            if response.status == 200 {
                self.is_old.store(true, Ordering::Relaxed);
            }
        }
        if response.status != 200 {
            let why = hrana::message(&response.body);
            let failed =
                dial::unreachable(&format!("answers with status {}{why}", response.status));
            return Err(Trouble::Failed(failed));
        }
        Ok(response.body)
    }
}

/// The statements of a call, and the way to its reply.
enum Order<'a> {
    Ping,
    One(&'a Statement, bool),
    Batch(Vec<Step<'a>>, &'a [SqlPart]),
}

/// A statement of a batch, and the part that it belongs to.
struct Step<'a> {
    sql: &'a str,
    /// `None`: of a script, whose rows are dropped.
    statement: Option<&'a Statement>,
    part: usize,
}

impl<'a> Order<'a> {
    fn of(call: &'a SqlCall) -> Result<Self, DataError> {
        match call {
            SqlCall::Ping => Ok(Self::Ping),
            SqlCall::Query { statement, first } => {
                check(&statement.sql)?;
                Ok(Self::One(statement, *first))
            }
            SqlCall::Batch(parts) => {
                let mut steps = Vec::with_capacity(parts.len());
                for (part, it) in parts.iter().enumerate() {
                    match it {
                        SqlPart::Statement(statement) => {
                            check(&statement.sql)?;
                            steps.push(Step {
                                sql: &statement.sql,
                                statement: Some(statement),
                                part,
                            });
                        }
                        SqlPart::Script(script) => {
                            for sql in text::statements(Dialect::Sqlite, script) {
                                check(sql)?;
                                steps.push(Step {
                                    sql,
                                    statement: None,
                                    part,
                                });
                            }
                        }
                    }
                }
                Ok(Self::Batch(steps, parts))
            }
        }
    }

    /// The pipeline of a request.
    fn body(&self) -> Result<String, DataError> {
        let work = match self {
            Self::Ping => json!({"type": "execute", "stmt": {"sql": "SELECT 1"}}),
            Self::One(statement, _) => {
                json!({"type": "execute", "stmt": hrana::statement(&statement.sql, Some(statement))?})
            }
            Self::Batch(steps, _) => {
                let steps = steps
                    .iter()
                    .map(|step| hrana::statement(step.sql, step.statement));
                hrana::transaction(steps.collect::<Result<_, _>>()?)
            }
        };
        let body = json!({"baton": Value::Null, "requests": [work, {"type": "close"}]});
        Ok(body.to_string())
    }

    fn reply(
        &self,
        response: &[u8],
        bytes: &mut ResultBytes,
        duration: Duration,
    ) -> Result<SqlReply, DataError> {
        let (results, count) = match self {
            Self::Ping => {
                hrana::executed(response)?;
                return Ok(SqlReply::Reached);
            }
            Self::One(statement, first) => {
                let found = hrana::executed(response)?;
                let result = hrana::result(found, &statement.sql, *first, bytes)?;
                (vec![result], 1)
            }
            Self::Batch(steps, parts) => {
                let place = steps.iter().map(|step| step.part).collect::<Vec<_>>();
                let found = hrana::transacted(response, &place, parts)?;
                let mut results: Vec<SqlResult> = Vec::with_capacity(parts.len());
                for (step, found) in steps.iter().zip(found) {
                    if step.statement.is_some() {
                        results.push(hrana::result(found, step.sql, false, bytes)?);
                    }
                }
                (results, steps.len() as u64)
            }
        };
        Ok(SqlReply::Results {
            results,
            count,
            duration,
        })
    }
}

/// Refuses what must not run in a stream of one call.
fn check(sql: &str) -> Result<(), DataError> {
    if let Some(why) = misplaced(sql) {
        return Err(DataError::Refused(why.to_owned()));
    }
    if text::statements(Dialect::Sqlite, sql).len() > 1 {
        return Err(DataError::Refused(text::SEVERAL.to_owned()));
    }
    Ok(())
}
