//! SQL databases: statements with bound values, batches in one transaction, scripts.
//!
//! A call is checked here and goes to its engine, which answers through the `Answer` that comes with the call.

pub(crate) mod bookmark;
pub(crate) mod calendar;
pub(crate) mod call;
mod connection;
mod libsql;
mod mysql;
mod pool;
mod position;
mod postgres;
pub(crate) mod replicas;
pub(crate) mod roots;
mod server;
pub(crate) mod session;
mod sqlite;
mod text;
mod tokens;
mod verb;

use std::sync::Arc;

use edgerouter_core::plan::{
    binding::{Binding, DataAddress},
    database_server::{DatabaseServer, ServerProduct},
    limits::DataLimits,
};
use tokio::runtime::Handle;

use crate::{answer::Answer, error::DataError, remote::RemoteThread};
use bookmark::Bookmarks;
use call::SqlCall;
use connection::Connection;
use pool::{Access, Dial, Pool};
use replicas::{Facts, Replicas};
use server::ServerDatabase;
use session::Session;

/// A random key, where a plan names none.
pub(crate) type BookmarkKey = [u8; 32];

/// The statements of a script for MySQL: the first words of each, and true if it ends the transaction that it is in.
pub fn mysql_statements(script: &str) -> Vec<(String, bool)> {
    let statements = text::statements(tokens::Dialect::MySql, script).into_iter();
    let about = |sql| {
        let commits = verb::Verb::of(tokens::Dialect::MySql, sql).commits();
        (text::first_words(sql), commits)
    };
    statements.map(about).collect()
}

#[derive(Debug)]
enum SqlEngine {
    Sqlite(sqlite::SqliteDatabase),
    Postgres(ServerDatabase<postgres::PostgresDial>),
    MySql(ServerDatabase<mysql::MySqlDial>),
    LibSql(libsql::LibSqlDatabase),
}

/// A database.
#[derive(Debug)]
pub(crate) struct SqlDatabase {
    engine: SqlEngine,
    limits: DataLimits,
    /// Of a database with replicas.
    bookmarks: Option<Arc<Bookmarks>>,
}

/// A database on servers, whose dials `dial` makes.
fn on_servers<D: Dial<Connection: Connection>>(
    (binding, server): (&Binding, &DatabaseServer),
    limits: &DataLimits,
    handle: Handle,
    dial: impl Fn(&DatabaseServer, Access) -> Result<D, String>,
) -> Result<ServerDatabase<D>, String> {
    let pool = |server, access| {
        let made = Pool::new(dial(server, access)?, limits.connections);
        Ok::<_, String>(Arc::new(made))
    };
    let primary = pool(server, Access::Write)?;
    let followers = binding.replicas.iter();
    let followers: Vec<_> = followers
        .map(|server| pool(server, Access::Read))
        .collect::<Result<_, _>>()?;
    let replicas = (!followers.is_empty()).then(|| {
        let about = (limits.timeout, &binding.name);
        Replicas::new(&primary, followers, binding.staleness, about, &handle)
    });
    Ok(ServerDatabase::new(primary, replicas, limits, handle))
}

impl SqlDatabase {
    pub(crate) fn open(
        binding: &Binding,
        limits: &DataLimits,
        remote: &RemoteThread,
        key: impl FnOnce() -> Result<BookmarkKey, String>,
    ) -> Result<Self, String> {
        let bookmarks = match (&binding.bookmark_key, binding.replicas.is_empty()) {
            (_, true) => None,
            (Some(key), false) => Some(Bookmarks::new(key.as_bytes(), &binding.name)),
            (None, false) => Some(Bookmarks::new(&key()?, &binding.name)),
        };
        let engine = match &binding.address {
            DataAddress::Sqlite(path) => {
                SqlEngine::Sqlite(sqlite::SqliteDatabase::new(path, limits))
            }
            DataAddress::Server(server) => {
                let handle = remote.events()?;
                let about = (binding, &**server);
                match server.product {
                    ServerProduct::Postgres => {
                        let events = handle.clone();
                        SqlEngine::Postgres(on_servers(about, limits, handle, |server, access| {
                            postgres::dial(server, limits, access, events.clone())
                        })?)
                    }
                    ServerProduct::MySql => {
                        SqlEngine::MySql(on_servers(about, limits, handle, |server, access| {
                            mysql::dial(server, limits, access)
                        })?)
                    }
                }
            }
            DataAddress::LibSql(server) => {
                let handle = remote.events()?;
                let token = binding.auth_token.as_ref();
                SqlEngine::LibSql(libsql::open(server, token, limits, handle)?)
            }
            DataAddress::Memory | DataAddress::Redis(_) | DataAddress::Dynamo(_) => {
                return Err(
                    "must be sqlite:FILE, postgresql://, mysql:// or libsql:// for a database"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            engine,
            limits: limits.clone(),
            bookmarks: bookmarks.map(Arc::new),
        })
    }

    /// The refusal of a call whose arguments are out of bounds.
    pub(crate) fn at_once(&self, call: &SqlCall) -> Option<DataError> {
        call.check(&self.limits).err()
    }

    pub(crate) fn begin(&self, call: SqlCall, session: Option<Arc<Session>>, answer: Answer) {
        match &self.engine {
            SqlEngine::Sqlite(database) => database.begin(call, answer),
            SqlEngine::Postgres(database) => database.begin(call, session, answer),
            SqlEngine::MySql(database) => database.begin(call, session, answer),
            SqlEngine::LibSql(database) => database.begin(call, answer),
        }
    }

    /// For the sessions of a database with replicas.
    pub(crate) fn bookmarks(&self) -> Option<&Arc<Bookmarks>> {
        self.bookmarks.as_ref()
    }

    /// The facts about its servers; `None`: it has no replicas.
    pub(crate) fn facts(&self) -> Option<&Arc<Facts>> {
        match &self.engine {
            SqlEngine::Sqlite(_) | SqlEngine::LibSql(_) => None,
            SqlEngine::Postgres(database) => database.facts(),
            SqlEngine::MySql(database) => database.facts(),
        }
    }

    /// The name of its dialect of SQL.
    pub(crate) fn engine(&self) -> &'static str {
        match &self.engine {
            SqlEngine::Sqlite(_) | SqlEngine::LibSql(_) => "sqlite",
            SqlEngine::Postgres(_) => "postgresql",
            SqlEngine::MySql(_) => "mysql",
        }
    }

    pub(crate) fn close(&self) {
        match &self.engine {
            SqlEngine::Sqlite(database) => database.close(),
            SqlEngine::Postgres(database) => database.close(),
            SqlEngine::MySql(database) => database.close(),
            SqlEngine::LibSql(database) => database.close(),
        }
    }
}
