//! A database on a MySQL or MariaDB server.
//!
//! Each statement that changes the schema ends the transaction that it is in, so a batch that has one beside others is
//! refused: it could take effect by half.

mod error;
mod value;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::plan::{
    database_server::{DatabaseServer, ServerPlace, ServerTls},
    limits::DataLimits,
};
use mysql_async::{
    Conn, Error, Opts, OptsBuilder, Params, SslOpts, Value, prelude::Queryable as _,
};

use super::{
    call::{ResultBytes, SqlCall, SqlMeta, SqlPart, SqlResult, Statement},
    connection::{Connection, Trouble},
    pool::{Access, Dial, FEWER},
    position::Position,
    roots,
    text::{self, Translated},
    tokens::Dialect,
    verb::Verb,
};
use crate::{BRIEF, STATEMENTS, error::DataError};

/// Bytes of one packet of the protocol, and so of a row and of a statement with its values.
const LONGEST_PACKET: usize = 64 << 20;

pub(super) struct MySqlDial {
    options: Opts,
    patience: Duration,
    connect_timeout: Duration,
    access: Access,
}

/// A connection. Its driver keeps the prepared statements.
pub(super) struct MySqlConnection {
    connection: Conn,
    translations: HashMap<Arc<str>, Arc<Translated>>,
    patience: Duration,
    access: Access,
}

/// The way to a server, to which no connection is made yet.
pub(super) fn dial(
    server: &DatabaseServer,
    limits: &DataLimits,
    access: Access,
) -> Result<MySqlDial, String> {
    let password = server.password.as_ref();
    let password = password.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    let mut options = OptsBuilder::default()
        .user(Some(&*server.user))
        .pass(password)
        .db_name(Some(&*server.database))
        .prefer_socket(false)
        .stmt_cache_size(STATEMENTS)
        .max_allowed_packet(Some(LONGEST_PACKET))
        .wait_timeout(Some(28_800))
        // As the other engines count: rows that a condition found, changed or not.
        .client_found_rows(true)
        .setup(setup(limits.timeout, access));
    options = match &server.place {
        ServerPlace::Host(host, port) => options.ip_or_hostname(&**host).tcp_port(*port),
        ServerPlace::Socket(file, _) => options.socket(Some(&**file)),
    };
    if let ServerTls::Verified(file) = &server.tls {
        let found = roots::usable(roots::certificates(file.as_deref())?);
        let roots = found.iter().map(|it| it.to_vec().into()).collect();
        let tls = SslOpts::default()
            .with_root_certs(roots)
            .with_disable_built_in_roots(true);
        options = options.ssl_opts(tls);
    }
    Ok(MySqlDial {
        options: options.into(),
        patience: limits.timeout,
        connect_timeout: BRIEF.min(limits.timeout),
        access,
    })
}

/// Sets a session up: with the quotes that `text` reads by, and with an end for statements whose caller is gone. The
/// comments are for one product each.
fn setup(patience: Duration, access: Access) -> Vec<String> {
    let seconds = patience.as_secs_f64().clamp(0.001, 31_536_000.0);
    let limits = format!(
        "SET SESSION autocommit = 1, time_zone = '+00:00', \
         sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
         innodb_lock_wait_timeout = {} /*M! , max_statement_time = {seconds:.3} */ /*!80000 , max_execution_time = {} */",
        seconds.ceil(),
        (seconds * 1_000.0).ceil().min(4_000_000_000.0),
    );
    match access {
        Access::Write => vec![limits],
        // Nothing else keeps a function in a SELECT from writing.
        Access::Read => vec![limits, "SET SESSION TRANSACTION READ ONLY".to_owned()],
    }
}

impl Dial for MySqlDial {
    type Connection = MySqlConnection;

    async fn connect(&self) -> Result<MySqlConnection, DataError> {
        let connecting =
            tokio::time::timeout(self.connect_timeout, Conn::new(self.options.clone()));
        let connection = match connecting.await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                let why = match &error {
                    // Of the server, of the user, of a resource of the user.
                    Error::Server(server) if matches!(server.code, 1040 | 1203 | 1226) => {
                        format!("{}; {FEWER}", server.message)
                    }
                    Error::Server(server) => server.message.clone(),
                    other => error::said(other),
                };
                return Err(DataError::Unreachable(format!("the MySQL server: {why}")));
            }
            Err(_) => {
                let seconds = self.connect_timeout.as_secs_f64();
                let why = format!("the MySQL server: no connection within {seconds} s");
                return Err(DataError::Unreachable(why));
            }
        };
        Ok(MySqlConnection {
            connection,
            translations: HashMap::new(),
            patience: self.patience,
            access: self.access,
        })
    }

    async fn is_alive(&self, connection: &mut MySqlConnection) -> bool {
        let answered = tokio::time::timeout(BRIEF, connection.connection.ping());
        matches!(answered.await, Ok(Ok(())))
    }

    // The server ends what it is doing at its own time limit, and all that was uncommitted is undone. On a thread with
    // an event loop the driver would read the rest of the result, for as long as the server is silent.
    fn abandon(&self, connection: MySqlConnection) {
        let _ = std::thread::Builder::new()
            .name("edge-data-close".to_owned())
            .spawn(move || drop(connection));
    }
}

/// Refuses a batch that could take effect by half.
fn check_batch(parts: &[SqlPart]) -> Result<(), DataError> {
    let mut all = Vec::new();
    for part in parts {
        match part {
            SqlPart::Statement(statement) => all.push(&*statement.sql),
            SqlPart::Script(script) => all.extend(text::statements(Dialect::MySql, script)),
        }
    }
    let commits = |sql: &&str| Verb::of(Dialect::MySql, sql).commits();
    match all.iter().find(|sql| commits(sql)) {
        Some(sql) if all.len() > 1 => Err(DataError::Refused(format!(
            "{} changes the schema, which MySQL cannot undo, so {} statements could take effect by half; run it alone",
            text::first_words(sql),
            all.len()
        ))),
        _ => Ok(()),
    }
}

impl Connection for MySqlConnection {
    const DIALECT: Dialect = Dialect::MySql;
    const BEGIN: &'static str = "START TRANSACTION";

    fn check(call: &SqlCall) -> Result<(), DataError> {
        match call {
            SqlCall::Batch(parts) => check_batch(parts),
            _ => Ok(()),
        }
    }

    async fn ping(&mut self) -> Result<(), Trouble> {
        let reached = self.connection.ping().await;
        reached.map_err(|error| self.trouble(&error))
    }

    async fn command(&mut self, sql: &str) -> Result<(), Trouble> {
        let ran = self.connection.query_drop(sql).await;
        ran.map_err(|error| self.trouble(&error))
    }

    async fn position(&mut self) -> Result<Option<Position>, Trouble> {
        let found = self.text("SELECT @@global.gtid_current_pos").await?;
        Ok(found.as_deref().and_then(Position::of_maria))
    }

    async fn identity(&mut self) -> Result<Option<String>, Trouble> {
        // MariaDB gives the changes of each primary a domain, which the positions hold.
        Ok(None)
    }

    async fn unfit(&mut self, _of: Option<&str>) -> Result<Option<String>, Trouble> {
        let follows = self.text("SELECT @@global.gtid_slave_pos").await?;
        let why = "it replicates nothing by GTID (gtid_slave_pos is empty)";
        Ok(follows
            .is_none_or(|it| it.is_empty())
            .then(|| why.to_owned()))
    }

    async fn run(
        &mut self,
        statement: &Statement,
        first: bool,
        bytes: &mut ResultBytes,
    ) -> Result<SqlResult, Trouble> {
        let (began, patience, access) = (Instant::now(), self.patience, self.access);
        let failed = |error: Error| error::trouble(&error, patience, access);
        let translated = self.translated(&statement.sql)?;
        text::check_count(translated.parameters, statement.values.len())?;
        let prepared = self
            .connection
            .prep(&*translated.sql)
            .await
            .map_err(failed)?;
        if usize::from(prepared.num_params()) != translated.order.len() {
            let why = "sql: the server finds another number of parameters; write none into comments that it runs";
            return Err(DataError::Invalid(why.to_owned()).into());
        }
        let bound = translated
            .order
            .iter()
            .filter_map(|&at| statement.values.get(at));
        let bound: Vec<_> = bound.map(value::bound).collect();
        let params = if bound.is_empty() {
            Params::Empty
        } else {
            Params::Positional(bound)
        };
        let mut found = self
            .connection
            .exec_iter(&prepared, params)
            .await
            .map_err(failed)?;
        let columns = found.columns().unwrap_or_default();
        let (mut rows, mut read) = (Vec::new(), 0_u64);
        while let Some(row) = found.next().await.map_err(failed)? {
            read += 1;
            // The rest is read all the same: to end a statement early would undo its changes.
            if first && read > 1 {
                continue;
            }
            let cells = row
                .unwrap_raw()
                .into_iter()
                .map(|cell| cell.unwrap_or(Value::NULL));
            let values: Vec<_> = columns
                .iter()
                .zip(cells)
                .map(|(column, cell)| value::value(column, cell))
                .collect();
            bytes.take(&values).map_err(Trouble::Lost)?;
            rows.push(values);
        }
        let (affected, inserted) = (found.affected_rows(), found.last_insert_id());
        found.drop_result().await.map_err(failed)?;
        let changes = match translated.verb.changes_rows() {
            // INSERT … RETURNING gives the rows in place of their number.
            true if affected == 0 => read,
            true => affected,
            false => 0,
        };
        let inserted = inserted
            .filter(|_| changes > 0)
            .and_then(|id| i64::try_from(id).ok());
        Ok(SqlResult {
            meta: SqlMeta {
                duration: began.elapsed(),
                changes,
                last_row_id: inserted.unwrap_or(0),
                rows_read: rows.len() as u64,
            },
            columns: columns
                .iter()
                .map(|column| column.name_str().into_owned())
                .collect(),
            rows,
        })
    }
}

impl MySqlConnection {
    fn trouble(&self, error: &Error) -> Trouble {
        error::trouble(error, self.patience, self.access)
    }

    /// The only value of a query.
    async fn text(&mut self, sql: &str) -> Result<Option<String>, Trouble> {
        let found: Result<Option<Option<String>>, Error> = self.connection.query_first(sql).await;
        found
            .map(Option::flatten)
            .map_err(|error| self.trouble(&error))
    }

    fn translated(&mut self, sql: &Arc<str>) -> Result<Arc<Translated>, DataError> {
        if let Some(known) = self.translations.get(sql) {
            return Ok(Arc::clone(known));
        }
        let translated = Arc::new(text::translate(Dialect::MySql, sql)?);
        if self.translations.len() >= STATEMENTS {
            self.translations.clear();
        }
        let kept = Arc::clone(&translated);
        self.translations.insert(Arc::clone(sql), kept);
        Ok(translated)
    }
}
