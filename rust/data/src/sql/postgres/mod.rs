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
use tokio_postgres::{
    Client, Config, SimpleQueryMessage, Statement as ServerStatement, config::SslMode,
};

use super::{
    call::{ResultBytes, SqlMeta, SqlResult, Statement},
    connection::{Connection, Trouble},
    pool::{Access, Dial},
    position::Position,
    roots, text,
    tokens::Dialect,
};
use crate::{BRIEF, STATEMENTS, error::DataError};
use tls::Handshakes;

pub(super) struct PostgresDial {
    config: Config,
    tls: Handshakes,
    patience: Duration,
    access: Access,
    handle: Handle,
}

/// A connection, and the statements that the server has prepared on it.
pub(super) struct PostgresConnection {
    client: Client,
    statements: HashMap<Arc<str>, (Arc<Prepared>, u64)>,
    /// Counts uses, so that the statement that was used longest ago is forgotten.
    uses: u64,
    patience: Duration,
    access: Access,
}

struct Prepared {
    statement: ServerStatement,
    parameters: usize,
    changes_rows: bool,
}

/// The way to a server, to which no connection is made yet.
pub(super) fn dial(
    server: &DatabaseServer,
    limits: &DataLimits,
    access: Access,
    handle: Handle,
) -> Result<PostgresDial, String> {
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
            Some(roots::client(file.as_deref())?)
        }
    };
    Ok(PostgresDial {
        config,
        tls: Handshakes(tls),
        patience: limits.timeout,
        access,
        handle,
    })
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
        let mut setup = format!(
            "SET standard_conforming_strings = on; SET timezone = 'UTC'; SET statement_timeout = {millis}; \
             SET idle_in_transaction_session_timeout = {millis}"
        );
        if self.access == Access::Read {
            setup.push_str("; SET default_transaction_read_only = on");
        }
        let set = client.batch_execute(&setup).await;
        set.map_err(|error| error::not_connected(&error))?;
        Ok(PostgresConnection {
            client,
            statements: HashMap::new(),
            uses: 0,
            patience: self.patience,
            access: self.access,
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
    const DIALECT: Dialect = Dialect::Postgres;
    const BEGIN: &'static str = "BEGIN";

    fn forget(&mut self) {
        self.statements.clear();
    }

    async fn ping(&mut self) -> Result<(), Trouble> {
        let reached = self.client.check_connection().await;
        reached.map_err(|error| self.trouble(&error))
    }

    async fn command(&mut self, sql: &str) -> Result<(), Trouble> {
        let ran = self.client.batch_execute(sql).await;
        ran.map_err(|error| self.trouble(&error))
    }

    async fn position(&mut self) -> Result<Option<Position>, Trouble> {
        // The end of the last record that was inserted: a commit may be acknowledged before it is written.
        let found = self
            .text("SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END")
            .await?;
        Ok(found.as_deref().and_then(Position::of_postgres))
    }

    async fn identity(&mut self) -> Result<Option<String>, Trouble> {
        self.text("SELECT system_identifier FROM pg_control_system()")
            .await
    }

    async fn unfit(&mut self, of: Option<&str>) -> Result<Option<String>, Trouble> {
        if self.text("SELECT pg_is_in_recovery()").await?.as_deref() != Some("t") {
            return Ok(Some("it is no standby, and accepts writes".to_owned()));
        }
        let own = self.identity().await?;
        let why = "it is a standby of another server (pg_control_system)";
        Ok((own.as_deref() != of).then(|| why.to_owned()))
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
        let (patience, access) = (self.patience, self.access);
        let trouble = |error: tokio_postgres::Error| error::trouble(&error, patience, access);
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

impl PostgresConnection {
    fn trouble(&self, error: &tokio_postgres::Error) -> Trouble {
        error::trouble(error, self.patience, self.access)
    }

    /// The only value of a query.
    async fn text(&mut self, sql: &str) -> Result<Option<String>, Trouble> {
        let found = self.client.simple_query(sql).await;
        let found = found.map_err(|error| self.trouble(&error))?;
        Ok(found.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten().map(str::to_owned),
            _ => None,
        }))
    }

    async fn prepared(&mut self, sql: &Arc<str>) -> Result<Arc<Prepared>, Trouble> {
        self.uses += 1;
        if let Some((known, used)) = self.statements.get_mut(sql) {
            *used = self.uses;
            return Ok(Arc::clone(known));
        }
        let translated = text::translate(Dialect::Postgres, sql)?;
        let made = self.client.prepare(&translated.sql).await;
        let made = made.map_err(|error| self.trouble(&error))?;
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
}
