//! SQL databases: statements with bound values, batches in one transaction, scripts.
//!
//! A call is checked here and goes to its engine, which answers through the `Answer` that comes with the call.

mod calendar;
pub(crate) mod call;
mod mysql;
mod pool;
mod postgres;
mod roots;
mod server;
mod sqlite;
mod text;

use edgerouter_core::plan::{
    binding::{Binding, DataAddress},
    database_server::ServerProduct,
    limits::DataLimits,
};

use crate::{answer::Answer, error::DataError, remote::RemoteThread};
use call::SqlCall;

/// The statements of a script for MySQL: the first words of each, and true if it ends the transaction that it is in.
pub fn mysql_statements(script: &str) -> Vec<(String, bool)> {
    let statements = text::statements(text::Dialect::MySql, script).into_iter();
    let about = |sql| {
        let commits = text::Verb::of(text::Dialect::MySql, sql).commits();
        (text::first_words(sql), commits)
    };
    statements.map(about).collect()
}

#[derive(Debug)]
enum SqlEngine {
    Sqlite(sqlite::SqliteDatabase),
    Postgres(postgres::PostgresDatabase),
    MySql(mysql::MySqlDatabase),
}

/// A database.
#[derive(Debug)]
pub(crate) struct SqlDatabase {
    engine: SqlEngine,
    limits: DataLimits,
}

impl SqlDatabase {
    pub(crate) fn open(
        binding: &Binding,
        limits: &DataLimits,
        remote: &RemoteThread,
    ) -> Result<Self, String> {
        let engine = match &binding.address {
            DataAddress::Sqlite(path) => {
                SqlEngine::Sqlite(sqlite::SqliteDatabase::new(path, limits))
            }
            DataAddress::Server(server) => {
                let handle = remote.handle().map_err(|error| {
                    format!("the thread for servers could not be started: {error}")
                })?;
                match server.product {
                    ServerProduct::Postgres => {
                        SqlEngine::Postgres(postgres::open(server, limits, handle)?)
                    }
                    ServerProduct::MySql => SqlEngine::MySql(mysql::open(server, limits, handle)?),
                }
            }
            DataAddress::Memory | DataAddress::Redis(_) => {
                return Err(
                    "must be sqlite:FILE, postgresql:// or mysql:// for a database".to_owned(),
                );
            }
        };
        Ok(Self {
            engine,
            limits: limits.clone(),
        })
    }

    /// The refusal of a call whose arguments are out of bounds.
    pub(crate) fn at_once(&self, call: &SqlCall) -> Option<DataError> {
        call.check(&self.limits).err()
    }

    pub(crate) fn begin(&self, call: SqlCall, answer: Answer) {
        match &self.engine {
            SqlEngine::Sqlite(database) => database.begin(call, answer),
            SqlEngine::Postgres(database) => database.begin(call, answer),
            SqlEngine::MySql(database) => database.begin(call, answer),
        }
    }

    /// The name of its dialect of SQL.
    pub(crate) fn engine(&self) -> &'static str {
        match &self.engine {
            SqlEngine::Sqlite(_) => "sqlite",
            SqlEngine::Postgres(_) => "postgresql",
            SqlEngine::MySql(_) => "mysql",
        }
    }

    pub(crate) fn close(&self) {
        match &self.engine {
            SqlEngine::Sqlite(database) => database.close(),
            SqlEngine::Postgres(database) => database.close(),
            SqlEngine::MySql(database) => database.close(),
        }
    }
}
