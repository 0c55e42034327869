//! Errors of PostgreSQL, for the program that called.

use std::{error::Error as _, time::Duration};

use tokio_postgres::Error;

use super::super::{
    connection::Trouble,
    pool::{Access, FEWER},
};
use crate::error::{Constraint, DataError};

pub(super) fn trouble(error: &Error, patience: Duration, access: Access) -> Trouble {
    let Some(server) = error.as_db_error() else {
        return Trouble::Lost(lost(error));
    };
    let (code, message) = (server.code().code(), server.message());
    let failed = failure(code, message, patience);
    match code {
        "0A000" if message.starts_with("cached plan") => Trouble::Stale(failed),
        "26000" => Trouble::Stale(failed),
        "25006" if access == Access::Write => Trouble::NoPrimary(failed),
        _ if failed.is_unreachable() => Trouble::Lost(failed),
        _ => Trouble::Failed(failed),
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
            let why = match server.code().code() {
                "53300" => format!("{}; {FEWER}", server.message()),
                _ => server.message().to_owned(),
            };
            DataError::Unreachable(format!("the PostgreSQL server: {why}"))
        }
        None => lost(error),
    }
}
