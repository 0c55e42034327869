//! A database on a PostgreSQL server.

mod error;
mod tls;
mod value;

use std::{
    collections::HashMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::plan::{
    database_server::{DatabaseServer, ServerPlace, ServerTls},
    limits::DataLimits,
};
use futures_util::TryStreamExt as _;
use tokio::runtime::Handle;
use tokio_postgres::{Client, Config, Statement as ServerStatement, config::SslMode};
use tokio_rustls::rustls::{ClientConfig, crypto::aws_lc_rs};

use super::{
    call::{ResultBytes, SqlCall, SqlMeta, SqlPart, SqlReply, SqlResult, Statement, in_batch},
    pool::Dial,
    roots,
    server::{self, Connection, ServerDatabase},
    text::{self, Dialect, Verb},
};
use crate::error::DataError;
use error::Trouble;
use tls::Handshakes;

/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 128;
/// Time to connect, and to end what a connection is doing.
const BRIEF: Duration = Duration::from_secs(2);

/// A database on a server.
pub(super) type PostgresDatabase = ServerDatabase<PostgresDial>;

pub(super) struct PostgresDial {
    config: Config,
    tls: Handshakes,
    patience: Duration,
    handle: Handle,
}

/// A connection, and the statements that the server has prepared on it.
pub(super) struct PostgresConnection {
    client: Client,
    statements: HashMap<Arc<str>, (Arc<Prepared>, u64)>,
    /// Counts uses, so that the statement that was used longest ago is forgotten.
    uses: u64,
    patience: Duration,
}

struct Prepared {
    statement: ServerStatement,
    parameters: usize,
    changes_rows: bool,
}

/// The database of a server, to which no connection is made yet.
pub(super) fn open(
    server: &DatabaseServer,
    limits: &DataLimits,
    handle: Handle,
) -> Result<PostgresDatabase, String> {
    let mut config = Config::new();
    config
        .user(&*server.user)
        .dbname(&*server.database)
        .application_name("edgerouter")
        .connect_timeout(BRIEF.min(limits.timeout));
    if let Some(password) = &server.password {
        config.password(password.as_bytes());
    }
    match &server.place {
        ServerPlace::Host(host, port) => config.host(&**host).port(*port),
        ServerPlace::Socket(folder, port) => config.host_path(&**folder).port(*port),
    };
    let tls = match &server.tls {
        ServerTls::Off => {
            config.ssl_mode(SslMode::Disable);
            None
        }
        ServerTls::Verified(file) => {
            config.ssl_mode(SslMode::Require);
            let roots = roots::store(roots::certificates(file.as_deref())?)?;
            let provider = Arc::new(aws_lc_rs::default_provider());
            let made = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?;
            Some(Arc::new(
                made.with_root_certificates(roots).with_no_client_auth(),
            ))
        }
    };
    let dial = PostgresDial {
        config,
        tls: Handshakes(tls),
        patience: limits.timeout,
        handle: handle.clone(),
    };
    Ok(ServerDatabase::new(dial, limits, handle))
}

impl Dial for PostgresDial {
    type Connection = PostgresConnection;

    async fn connect(&self) -> Result<PostgresConnection, DataError> {
        let connected = self.config.connect(self.tls.clone()).await;
        let (client, connection) = connected.map_err(|error| error::not_connected(&error))?;
        // It ends with its client, or with the server; the client notices.
        self.handle.spawn(async move {
            let _ = connection.await;
        });
        let millis = self.patience.as_millis().clamp(1, 2_000_000_000);
        let setup = format!(
            "SET standard_conforming_strings = on; SET timezone = 'UTC'; SET statement_timeout = {millis}; \
             SET idle_in_transaction_session_timeout = {millis}"
        );
        let set = client.batch_execute(&setup).await;
        set.map_err(|error| error::not_connected(&error))?;
        Ok(PostgresConnection {
            client,
            statements: HashMap::new(),
            uses: 0,
            patience: self.patience,
        })
    }

    async fn is_alive(&self, connection: &mut PostgresConnection) -> bool {
        let checked = tokio::time::timeout(BRIEF, connection.client.check_connection());
        !connection.client.is_closed() && matches!(checked.await, Ok(Ok(())))
    }

    fn abandon(&self, connection: PostgresConnection) {
        if connection.client.is_closed() {
            return;
        }
        // The server notices the end of a connection only when it writes to it.
        let (token, tls) = (connection.client.cancel_token(), self.tls.clone());
        self.handle.spawn(async move {
            let _ = tokio::time::timeout(BRIEF, token.cancel_query(tls)).await;
        });
    }
}

impl Connection for PostgresConnection {
    async fn call(&mut self, call: &SqlCall, most: usize) -> Result<SqlReply, server::Trouble> {
        let mut result = self.attempt(call, most).await;
        if matches!(result, Err(Trouble::Stale(_))) {
            // Nothing has run: the server refuses such a statement before, and in a transaction all was undone.
            self.statements.clear();
            result = self.attempt(call, most).await;
        }
        result.map_err(Into::into)
    }
}

impl PostgresConnection {
    async fn attempt(&mut self, call: &SqlCall, most: usize) -> Result<SqlReply, Trouble> {
        let began = Instant::now();
        let mut bytes = ResultBytes::new(most);
        let (results, count) = match call {
            SqlCall::Ping => {
                let reached = self.client.check_connection().await;
                reached.map_err(|error| Trouble::of(&error, self.patience))?;
                return Ok(SqlReply::Reached);
            }
            SqlCall::Query { statement, first } => {
                let result = self.run(statement, *first, &mut bytes).await?;
                (vec![result], 1)
            }
            SqlCall::Batch(parts) => self.batch(parts, &mut bytes).await?,
        };
        Ok(SqlReply::Results {
            results,
            count,
            duration: began.elapsed(),
        })
    }

    async fn batch(
        &mut self,
        parts: &[SqlPart],
        bytes: &mut ResultBytes,
    ) -> Result<(Vec<SqlResult>, u64), Trouble> {
        // One statement is a transaction by itself, and some are possible in no other (CREATE INDEX CONCURRENTLY).
        if let [SqlPart::Script(script)] = parts
            && text::statements(Dialect::Postgres, script).len() <= 1
        {
            return Ok((Vec::new(), self.script(script).await?));
        }
        let patience = self.patience;
        let trouble = |error: tokio_postgres::Error| Trouble::of(&error, patience);
        self.client.batch_execute("BEGIN").await.map_err(trouble)?;
        match self.parts(parts, bytes).await {
            Ok(done) => {
                self.client.batch_execute("COMMIT").await.map_err(trouble)?;
                Ok(done)
            }
            Err(Trouble::Lost(error)) => Err(Trouble::Lost(error)),
            Err(failed) => match self.client.batch_execute("ROLLBACK").await {
                Ok(()) => Err(failed),
                Err(_) => Err(Trouble::Lost(failed.into_error())),
            },
        }
    }

    async fn parts(
        &mut self,
        parts: &[SqlPart],
        bytes: &mut ResultBytes,
    ) -> Result<(Vec<SqlResult>, u64), Trouble> {
        let (mut results, mut count) = (Vec::with_capacity(parts.len()), 0);
        for (at, part) in parts.iter().enumerate() {
            let ran = match part {
                SqlPart::Statement(statement) => {
                    let ran = self.run(statement, false, bytes).await;
                    ran.map(|result| {
                        results.push(result);
                        1
                    })
                }
                SqlPart::Script(script) => self.script(script).await,
            };
            count += ran.map_err(|trouble| match trouble {
                Trouble::Failed(error) => Trouble::Failed(in_batch(error, at, parts)),
                other => other,
            })?;
        }
        Ok((results, count))
    }

    /// Runs the statements of a script. The number of them.
    async fn script(&mut self, script: &str) -> Result<u64, Trouble> {
        let statements = text::statements(Dialect::Postgres, script);
        for statement in &statements {
            if let Some(why) = Verb::of(Dialect::Postgres, statement).misplaced(Dialect::Postgres) {
                return Err(DataError::Refused(why.into_owned()).into());
            }
            let ran = self.client.batch_execute(statement).await;
            ran.map_err(|error| Trouble::of(&error, self.patience))?;
        }
        Ok(statements.len() as u64)
    }

    async fn prepared(&mut self, sql: &Arc<str>) -> Result<Arc<Prepared>, Trouble> {
        self.uses += 1;
        if let Some((known, used)) = self.statements.get_mut(sql) {
            *used = self.uses;
            return Ok(Arc::clone(known));
        }
        let translated = text::translate(Dialect::Postgres, sql)?;
        let made = self.client.prepare(&translated.sql).await;
        let made = made.map_err(|error| Trouble::of(&error, self.patience))?;
        value::check_columns(
            made.columns()
                .iter()
                .map(|column| (column.name(), column.type_())),
        )?;
        let prepared = Arc::new(Prepared {
            statement: made,
            parameters: translated.parameters,
            changes_rows: translated.verb.changes_rows(),
        });
        if self.statements.len() >= STATEMENTS {
            let oldest = self.statements.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(sql, _)| Arc::clone(sql)) {
                self.statements.remove(&oldest);
            }
        }
        let kept = (Arc::clone(&prepared), self.uses);
        self.statements.insert(Arc::clone(sql), kept);
        Ok(prepared)
    }

    async fn run(
        &mut self,
        statement: &Statement,
        first: bool,
        bytes: &mut ResultBytes,
    ) -> Result<SqlResult, Trouble> {
        let began = Instant::now();
        let prepared = self.prepared(&statement.sql).await?;
        // The server may have fewer, as numbers may be left out.
        text::check_count(prepared.parameters, statement.values.len())?;
        let parameters = prepared.statement.params();
        if parameters.len() != statement.values.len() {
            let why = "sql: each number of a parameter up to the largest must be used";
            return Err(DataError::Invalid(why.to_owned()).into());
        }
        value::check(&statement.values, parameters)?;
        let patience = self.patience;
        let trouble = |error: tokio_postgres::Error| Trouble::of(&error, patience);
        let values = statement.values.iter().map(value::Bound);
        let found = self.client.query_raw(&prepared.statement, values).await;
        let mut found = pin!(found.map_err(trouble)?);
        let columns = prepared.statement.columns();
        let (mut rows, mut read) = (Vec::new(), 0);
        while let Some(row) = found.try_next().await.map_err(trouble)? {
            // The rest is read all the same: to end a statement early would undo its changes.
            if first && read > 0 {
                continue;
            }
            read += 1;
            let mut values = Vec::with_capacity(columns.len());
            for (at, column) in columns.iter().enumerate() {
                let raw = row.try_get(at).map_err(trouble)?;
                let value = value::value(column.type_(), raw).ok_or_else(|| {
                    let why = format!(
                        "column {}: the server sent no {}",
                        column.name(),
                        column.type_()
                    );
                    Trouble::Lost(DataError::Refused(why))
                })?;
                values.push(value);
            }
            bytes.take(&values).map_err(Trouble::Lost)?;
            rows.push(values);
        }
        let changes = if prepared.changes_rows {
            found.rows_affected().unwrap_or(0)
        } else {
            0
        };
        Ok(SqlResult {
            meta: SqlMeta {
                duration: began.elapsed(),
                changes,
                last_row_id: 0,
                rows_read: rows.len() as u64,
            },
            columns: columns
                .iter()
                .map(|column| column.name().to_owned())
                .collect(),
            rows,
        })
    }
}
