//! The calls of databases, their bounds, and the values of SQL.

use std::{sync::Arc, time::Duration};

use edgerouter_core::plan::limits::DataLimits;

use crate::error::DataError;

/// Statements of one batch.
pub const MOST_STATEMENTS: usize = 1_000;
/// Bytes of one statement or script.
pub const LONGEST_SQL: usize = 1 << 20;
/// Bytes that a value of a result takes beside its text or bytes.
const VALUE_OVERHEAD: usize = 32;

/// A value of SQL.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlValue {
    /// No value.
    Null,
    /// True or false, in results of engines that have it.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl SqlValue {
    fn weight(&self) -> usize {
        VALUE_OVERHEAD
            + match self {
                Self::Null | Self::Bool(_) | Self::Integer(_) | Self::Real(_) => 0,
                Self::Text(text) => text.len(),
                Self::Blob(bytes) => bytes.len(),
            }
    }
}

/// A statement and the values of its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// One statement.
    pub sql: Arc<str>,
    /// In the order of the parameters.
    pub values: Vec<SqlValue>,
}

/// A part of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlPart {
    /// A statement, which has a result.
    Statement(Statement),
    /// Statements without parameters, whose rows are dropped.
    Script(Box<str>),
}

/// An operation.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlCall {
    /// One statement, in a transaction of its own.
    Query {
        /// The statement.
        statement: Statement,
        /// Only the first row is wanted.
        first: bool,
    },
    /// Parts in one transaction: all take effect, or none does.
    Batch(Vec<SqlPart>),
    /// Reaches the engine.
    Ping,
}

/// Facts about a statement that has run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SqlMeta {
    /// Time in the engine.
    pub duration: Duration,
    /// Rows that were inserted, changed or removed.
    pub changes: u64,
    /// Of the row that was inserted last; 0: none was.
    pub last_row_id: i64,
    /// Rows of the result.
    pub rows_read: u64,
}

/// The result of a statement.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SqlResult {
    /// Names of the columns; empty for a statement without rows.
    pub columns: Vec<String>,
    /// Each has a value for each column.
    pub rows: Vec<Vec<SqlValue>>,
    /// Facts about it.
    pub meta: SqlMeta,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlReply {
    /// One for each statement; `count` has the statements of scripts, too.
    Results {
        /// Of each statement.
        results: Vec<SqlResult>,
        /// Statements that have run.
        count: u64,
        /// Time in the engine.
        duration: Duration,
    },
    /// Of `Ping`.
    Reached,
}

/// Bounds on the rows of one call, which are kept until the last has come.
#[derive(Debug)]
pub(super) struct ResultBytes {
    left: usize,
    most: usize,
}

impl ResultBytes {
    pub(super) fn new(most: usize) -> Self {
        Self { left: most, most }
    }

    pub(super) fn take(&mut self, row: &[SqlValue]) -> Result<(), DataError> {
        let bytes: usize = row.iter().map(SqlValue::weight).sum();
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(DataError::Refused(format!(
                "the result has more than {} bytes (limits.data.result_bytes); read fewer rows with LIMIT, or raise it",
                self.most
            ))),
        }
    }
}

/// The number that has the same shortest digits.
pub(super) fn widened(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}

/// A failure within a batch, with the place in it.
pub(super) fn in_batch(error: DataError, at: usize, parts: &[SqlPart]) -> DataError {
    let place = format!("statement {} of the batch, which changed nothing: ", at + 1);
    match error {
        DataError::Refused(why) if parts.len() > 1 => DataError::Refused(place + &why),
        DataError::Violated {
            constraint,
            message,
        } if parts.len() > 1 => DataError::Violated {
            constraint,
            message: place + &message,
        },
        other => other,
    }
}

impl SqlCall {
    /// The label in metrics.
    pub(crate) fn operation(&self) -> usize {
        match self {
            Self::Query { .. } | Self::Ping => 5,
            Self::Batch(_) => 6,
        }
    }

    pub(super) fn check(&self, limits: &DataLimits) -> Result<(), DataError> {
        match self {
            Self::Query { statement, .. } => check_statement(statement, limits),
            Self::Batch(parts) => {
                if parts.len() > MOST_STATEMENTS {
                    return Err(DataError::Invalid(format!(
                        "batch: has {} statements, and {MOST_STATEMENTS} are the most; use several batches",
                        parts.len()
                    )));
                }
                parts.iter().try_for_each(|part| match part {
                    SqlPart::Statement(statement) => check_statement(statement, limits),
                    SqlPart::Script(sql) => check_text(sql),
                })
            }
            Self::Ping => Ok(()),
        }
    }
}

fn check_text(sql: &str) -> Result<(), DataError> {
    let why = if sql.trim().is_empty() {
        "is empty".to_owned()
    } else if sql.len() > LONGEST_SQL {
        format!("has {} bytes, and {LONGEST_SQL} are the most", sql.len())
    } else if sql.contains('\0') {
        "has a zero character; bind values in place of writing them into the statement".to_owned()
    } else {
        return Ok(());
    };
    Err(DataError::Invalid(format!("sql: {why}")))
}

fn check_statement(statement: &Statement, limits: &DataLimits) -> Result<(), DataError> {
    check_text(&statement.sql)?;
    for (at, value) in statement.values.iter().enumerate() {
        let bytes = value.weight() - VALUE_OVERHEAD;
        if bytes > limits.value_bytes {
            return Err(DataError::Invalid(format!(
                "bind: value {} has {bytes} bytes, and limits.data.value_bytes is {}; raise it, or store less",
                at + 1,
                limits.value_bytes
            )));
        }
    }
    Ok(())
}
