//! Errors of PostgreSQL, for the program that called.

use std::{error::Error as _, time::Duration};

use tokio_postgres::Error;

use super::server;
use crate::error::{Constraint, DataError};

/// The way in which work on a connection failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection is as before.
    Failed(DataError),
    /// The connection must not be used any more.
    Lost(DataError),
    /// A prepared statement does not fit the schema any more.
    Stale(DataError),
}

impl From<DataError> for Trouble {
    fn from(error: DataError) -> Self {
        Self::Failed(error)
    }
}

impl From<Trouble> for server::Trouble {
    fn from(trouble: Trouble) -> Self {
        Self {
            is_lost: matches!(trouble, Trouble::Lost(_)),
            error: trouble.into_error(),
        }
    }
}

impl Trouble {
    pub(super) fn of(error: &Error, patience: Duration) -> Self {
        let Some(server) = error.as_db_error() else {
            return Self::Lost(lost(error));
        };
        let (code, message) = (server.code().code(), server.message());
        let failed = failure(code, message, patience);
        match code {
            "0A000" if message.starts_with("cached plan") => Self::Stale(failed),
            "26000" => Self::Stale(failed),
            _ if matches!(failed, DataError::Unreachable(_)) => Self::Lost(failed),
            _ => Self::Failed(failed),
        }
    }

    pub(super) fn into_error(self) -> DataError {
        match self {
            Self::Failed(error) | Self::Lost(error) | Self::Stale(error) => error,
        }
    }
}

fn lost(error: &Error) -> DataError {
    let why = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    DataError::Unreachable(format!("the PostgreSQL server: {why}"))
}

fn failure(code: &str, message: &str, patience: Duration) -> DataError {
    let violated = |constraint| DataError::Violated {
        constraint,
        message: message.to_owned(),
    };
    match code {
        // statement_timeout, which is the time of an operation.
        "57014" => DataError::TimedOut(patience),
        "23505" => violated(Constraint::Unique),
        "23503" => violated(Constraint::ForeignKey),
        "23502" => violated(Constraint::NotNull),
        "23514" => violated(Constraint::Check),
        "42P18" => DataError::Refused(format!("{message}; cast it, as in CAST(? AS text)")),
        // No connection, no right to one, no database of the name, no resources, the end of the server.
        _ if ["08", "28", "3D", "53", "57P", "58"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            DataError::Unreachable(format!("the PostgreSQL server: {message}"))
        }
        _ => DataError::Refused(message.to_owned()),
    }
}

/// An error of connecting.
pub(super) fn not_connected(error: &Error) -> DataError {
    match error.as_db_error() {
        Some(server) => {
            DataError::Unreachable(format!("the PostgreSQL server: {}", server.message()))
        }
        None => lost(error),
    }
}
