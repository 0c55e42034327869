//! The results of operations.

use crate::{kv::call::KvReply, sql::call::SqlReply};

/// The result of an operation, by the kind of its binding.
#[derive(Debug, Clone, PartialEq)]
pub enum DataReply {
    /// Of a key-value store.
    KeyValue(KvReply),
    /// Of a database.
    Sql(SqlReply),
}

impl From<KvReply> for DataReply {
    fn from(reply: KvReply) -> Self {
        Self::KeyValue(reply)
    }
}

impl From<SqlReply> for DataReply {
    fn from(reply: SqlReply) -> Self {
        Self::Sql(reply)
    }
}
