//! The results of operations.

use crate::kv::call::KvReply;

/// The result of an operation, by the kind of its binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataReply {
    /// Of a key-value store.
    KeyValue(KvReply),
}

impl From<KvReply> for DataReply {
    fn from(reply: KvReply) -> Self {
        Self::KeyValue(reply)
    }
}
