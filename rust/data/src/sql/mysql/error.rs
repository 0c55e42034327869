//! Errors of MySQL and MariaDB, for the program that called.

use std::time::Duration;

use mysql_async::{DriverError, Error};

use super::super::{connection::Trouble, pool::Access};
use crate::error::{Constraint, DataError};

/// The words of the driver, which says twice that an error is one of input or output.
pub(super) fn said(error: &Error) -> String {
    let text = error.to_string();
    text.trim_start_matches("Input/output error: ").to_owned()
}

pub(super) fn trouble(error: &Error, patience: Duration, access: Access) -> Trouble {
    let unreachable =
        |why: &dyn std::fmt::Display| DataError::Unreachable(format!("the MySQL server: {why}"));
    let server = match error {
        Error::Server(server) => server,
        Error::Driver(DriverError::PacketTooLarge) => {
            let why = "a row or statement is larger than a packet may be (64 MiB)";
            return Trouble::Lost(DataError::Refused(why.to_owned()));
        }
        other => return Trouble::Lost(unreachable(&said(other))),
    };
    let message = &server.message;
    let violated = |constraint| DataError::Violated {
        constraint,
        message: message.clone(),
    };
    let failed = match server.code {
        1062 | 1586 => violated(Constraint::Unique),
        1216 | 1217 | 1451 | 1452 => violated(Constraint::ForeignKey),
        1048 | 1364 => violated(Constraint::NotNull),
        3819 | 4025 => violated(Constraint::Check),
        // max_statement_time of MariaDB, max_execution_time of MySQL: the time of an operation.
        1969 | 3024 => DataError::TimedOut(patience),
        // No connection, no right to one, no database of the name, no resources, the end of the server.
        1040..=1045
        | 1049
        | 1053
        | 1077..=1079
        | 1129
        | 1130
        | 1152..=1161
        | 1203
        | 1226
        | 1698
        | 1927
        | 3159
        | 4031 => {
            return Trouble::Lost(unreachable(message));
        }
        // --read-only, which one of many options is, and the mode of MySQL.
        1290 | 1836
            if access == Access::Write && message.to_ascii_lowercase().contains("read-only") =>
        {
            return Trouble::NoPrimary(DataError::Refused(message.clone()));
        }
        _ => DataError::Refused(message.clone()),
    };
    Trouble::Failed(failed)
}
