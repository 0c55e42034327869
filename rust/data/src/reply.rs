//! The results of operations.

use crate::{documents::call::DocumentReply, kv::call::KvReply, sql::call::SqlReply};

/// The result of an operation, by the kind of its binding.
#[derive(Debug, Clone, PartialEq)]
pub enum DataReply {
    /// Of a key-value store.
    KeyValue(KvReply),
    /// Of a database.
    Sql(SqlReply),
    /// Of documents that are not in a database.
    Document(DocumentReply),
}

impl From<DocumentReply> for DataReply {
    fn from(reply: DocumentReply) -> Self {
        Self::Document(reply)
    }
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
