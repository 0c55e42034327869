//! The calls of documents that are in no database.

use std::sync::Arc;

use crate::error::DataError;

/// Their operations; the first ones in the metrics.
pub(crate) const OPERATIONS: [&str; 4] = ["get", "put", "delete", "list"];

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentCall {
    /// Runs a script.
    Run {
        /// Its place among the names of operations in metrics.
        operation: usize,
        /// In Lua. The server knows it by its hash once it has run.
        script: Arc<str>,
        /// The first part of all its keys.
        prefix: Arc<str>,
        /// The arguments after the first, which is the most bytes of a reply.
        arguments: Vec<String>,
    },
    /// Reaches the server.
    Ping,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentReply {
    /// The strings that a script returned.
    Parts(Vec<String>),
    /// Of `Ping`.
    Reached,
}

impl DocumentCall {
    /// A run of a script. `Err`: no operation of a binding has this name.
    pub fn run(
        operation: &str,
        script: &str,
        prefix: &str,
        arguments: Vec<String>,
    ) -> Result<Self, DataError> {
        let operation = OPERATIONS.iter().position(|known| *known == operation);
        let unknown = || {
            let known = OPERATIONS.join(", ");
            DataError::Invalid(format!("operation: must be one of {known}"))
        };
        Ok(Self::Run {
            operation: operation.ok_or_else(unknown)?,
            script: script.into(),
            prefix: prefix.into(),
            arguments,
        })
    }

    /// The label in metrics.
    pub(crate) fn operation(&self) -> usize {
        match self {
            Self::Run { operation, .. } => *operation,
            Self::Ping => 0,
        }
    }
}
