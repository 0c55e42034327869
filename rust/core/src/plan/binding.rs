//! Bindings: the data that functions find by a name on `ctx.env`, and the addresses that say which engine keeps it.

use std::{sync::Arc, time::Duration};

use super::{
    database_server::{DatabaseServer, ServerProduct},
    dynamodb::DynamoTable,
    libsql_server::LibSqlServer,
};
use crate::secret::Secret;

/// The longest key of a key-value store, in bytes of UTF-8.
pub const LONGEST_KEY: usize = 512;

/// A binding of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// A name of Python.
    pub name: Arc<str>,
    /// The operations that it has.
    pub kind: BindingKind,
    /// The file or server that keeps the data.
    pub address: DataAddress,
    /// Time for which reads are answered without the file or server; zero: they never are. With replicas: the time that
    /// one may be behind the primary.
    pub staleness: Duration,
    /// Servers that follow the one of the address, and answer reads in its place.
    pub replicas: Vec<DatabaseServer>,
    /// Authenticates the positions that clients bring back; `None`: a random one of the process.
    pub bookmark_key: Option<Secret>,
    /// The token by which a libSQL server knows the edge.
    pub auth_token: Option<Secret>,
}

/// Replicas of one database.
pub const MOST_REPLICAS: usize = 8;
/// Bytes of the key of bookmarks, at least.
pub const SHORTEST_BOOKMARK_KEY: usize = 32;

/// Kinds of bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingKind {
    /// `edge.kv`.
    KeyValue,
    /// `edge.database`.
    Database,
    /// `edge.documents`.
    Documents,
}

impl BindingKind {
    /// The word for it in plans and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyValue => "kv",
            Self::Database => "database",
            Self::Documents => "documents",
        }
    }
}

/// The engine of a binding, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataAddress {
    /// The memory of this process.
    Memory,
    /// A SQLite file.
    Sqlite(Box<str>),
    /// A server that speaks the protocol of Redis. The URL may hold a password.
    Redis(Secret),
    /// A table of DynamoDB.
    Dynamo(Box<DynamoTable>),
    /// A database on a server.
    Server(Box<DatabaseServer>),
    /// A database on a libSQL server.
    LibSql(Box<LibSqlServer>),
}

/// True if Python can name an attribute like this, and it is none of its own.
pub(crate) fn is_name(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_alphabetic())
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl DataAddress {
    /// Reads an address; `Err` has the reason and the remedy, and nothing of the address, which may hold a password.
    pub(crate) fn parse(url: &Secret) -> Result<Self, &'static str> {
        let Ok(text) = std::str::from_utf8(url.as_bytes()) else {
            return Err("must be text");
        };
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(KNOWN);
        };
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => {
                Err("must be memory: and nothing more; stores of different names are apart")
            }
            "sqlite" => sqlite(rest).map(|path| Self::Sqlite(path.into())),
            "redis" | "rediss" if rest.len() > 2 && rest.starts_with("//") => {
                Ok(Self::Redis(url.clone()))
            }
            "redis" | "rediss" => Err("must name the server, as in redis://127.0.0.1:6379/0"),
            "dynamodb" => DynamoTable::parse(rest).map(|it| Self::Dynamo(Box::new(it))),
            "postgresql" | "postgres" => server(ServerProduct::Postgres, rest),
            "mysql" | "mariadb" => server(ServerProduct::MySql, rest),
            "libsql" | "https+libsql" => libsql(rest, false),
            "http+libsql" => libsql(rest, true),
            _ => Err(KNOWN),
        }
    }

    /// The reason for which a binding of a kind cannot be here, and the remedy.
    pub(crate) fn misfit(&self, kind: BindingKind) -> Option<&'static str> {
        match (kind, self) {
            (BindingKind::KeyValue, Self::Server(_) | Self::LibSql(_)) => Some(
                "must be memory:, sqlite:FILE, redis://, rediss:// or dynamodb:// for a key-value store",
            ),
            (BindingKind::Documents, Self::Server(server))
                if server.product == ServerProduct::Postgres =>
            {
                None
            }
            (
                BindingKind::Documents,
                Self::Memory | Self::Dynamo(_) | Self::Server(_) | Self::LibSql(_),
            ) => Some(
                "must be sqlite:FILE, postgresql://, or redis:// with its JSON module for documents",
            ),
            (BindingKind::Database, Self::Memory | Self::Redis(_) | Self::Dynamo(_)) => {
                Some("must be sqlite:FILE, postgresql://, mysql:// or libsql:// for a database")
            }
            _ => None,
        }
    }
}

/// Reads the address of a replica; `Err` as from [`DataAddress::parse`].
pub(crate) fn replica(url: &Secret, primary: &DataAddress) -> Result<DatabaseServer, &'static str> {
    let primary = match primary {
        DataAddress::Server(primary) => primary,
        DataAddress::Sqlite(_) => {
            return Err(
                "is a replica of a SQLite file, which has none here; keep a copy by Litestream, or use postgresql://",
            );
        }
        DataAddress::LibSql(_) => {
            return Err(
                "is a replica of a libSQL database, whose server chooses among its own; remove it",
            );
        }
        DataAddress::Memory | DataAddress::Redis(_) | DataAddress::Dynamo(_) => {
            return Err("is a replica of a binding that has none; use postgresql:// or mysql://");
        }
    };
    let DataAddress::Server(found) = DataAddress::parse(url)? else {
        return Err("must be a server of the same product as the primary");
    };
    if found.product != primary.product {
        return Err("must be a server of the same product as the primary");
    }
    if found.place == primary.place {
        return Err("is the primary itself; reads go there anyway when no replica can answer");
    }
    Ok(*found)
}

fn libsql(rest: &str, is_plain: bool) -> Result<DataAddress, &'static str> {
    LibSqlServer::parse(rest, is_plain).map(|it| DataAddress::LibSql(Box::new(it)))
}

fn server(product: ServerProduct, rest: &str) -> Result<DataAddress, &'static str> {
    DatabaseServer::parse(product, rest).map(|it| DataAddress::Server(Box::new(it)))
}

const KNOWN: &str = "must be memory:, sqlite:FILE, or the URL of a server: redis://, rediss://, dynamodb://, \
    postgresql://, mysql:// or libsql://";

fn sqlite(rest: &str) -> Result<&str, &'static str> {
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => {
            return Err(
                "must be sqlite:FILE, or sqlite:///FILE from the root: no host is possible",
            );
        }
        None => rest,
    };
    if path.is_empty() || path.contains('\0') || path.ends_with('/') {
        return Err("must name a file, as in sqlite:kv.db");
    }
    if path.contains(['?', '#']) || path.starts_with(":memory:") {
        return Err(
            "must be the name of a file without ? and #; for a store in memory write memory:",
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_engine() {
        let parse = |text: &str| DataAddress::parse(&Secret(text.into()));
        assert_eq!(parse("memory:"), Ok(DataAddress::Memory));
        for (text, path) in [
            ("sqlite:kv.db", "kv.db"),
            ("sqlite:data/kv.db", "data/kv.db"),
            ("sqlite:/srv/kv.db", "/srv/kv.db"),
            ("sqlite:///srv/kv.db", "/srv/kv.db"),
        ] {
            assert_eq!(parse(text), Ok(DataAddress::Sqlite(path.into())));
        }
        for text in [
            "redis://127.0.0.1:6379/0",
            "rediss://user:pass@cache.example.com",
        ] {
            assert_eq!(parse(text), Ok(DataAddress::Redis(Secret(text.into()))));
        }
        for text in [
            "",
            "kv.db",
            "memory:x",
            "sqlite:",
            "sqlite://host/kv.db",
            "sqlite::memory:",
            "sqlite:kv.db?mode=ro",
            "sqlite:kv/",
            "redis:",
            "redis://",
            "mongodb://secret@host",
            "SQLITE:kv.db",
        ] {
            let refused = parse(text).err();
            assert!(refused.is_some_and(|why| !why.contains("secret")), "{text}");
        }
    }

    #[test]
    fn a_name_is_an_attribute_of_python_and_none_of_its_own() {
        for name in ["EXPERIMENTS", "kv2", "a_b"] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "_x",
            "__class__",
            "2kv",
            "a-b",
            "é",
            "a b",
            &"a".repeat(65),
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
