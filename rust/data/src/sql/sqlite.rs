//! A database in a SQLite file. Every commit is on the disk before it is acknowledged.

use std::{sync::Arc, time::Instant};

use edgerouter_core::plan::limits::DataLimits;
use rusqlite::{
    Batch, Connection, Transaction, TransactionBehavior,
    fallible_iterator::FallibleIterator as _,
    limits::Limit,
    types::{ToSqlOutput, Value, ValueRef},
};

use super::call::{
    ResultBytes, SqlCall, SqlMeta, SqlPart, SqlReply, SqlResult, SqlValue, Statement, in_batch,
};
use crate::{
    answer::{Answer, DataResult},
    error::DataError,
    sqlite::{Access, Durability, SqliteFile},
};

/// A database in a file.
#[derive(Debug)]
pub(crate) struct SqliteDatabase {
    file: Arc<SqliteFile>,
    result_bytes: usize,
}

impl SqliteDatabase {
    pub(crate) fn new(path: &str, limits: &DataLimits) -> Self {
        Self {
            file: SqliteFile::new(path, Durability::Full, confine, limits),
            result_bytes: limits.result_bytes,
        }
    }

    pub(crate) fn begin(&self, call: SqlCall, answer: Answer) {
        let reads = match &call {
            SqlCall::Query { statement, .. } => only_reads(&statement.sql),
            SqlCall::Batch(_) => false,
            SqlCall::Ping => true,
        };
        let access = if reads { Access::Read } else { Access::Write };
        let (file, most) = (Arc::clone(&self.file), self.result_bytes);
        self.file.begin(access, answer, move |connection| {
            done(&file, connection, &call, most)
        });
    }

    pub(crate) fn close(&self) {
        self.file.close();
    }
}

/// A statement without the comments before it; empty if there is nothing else.
fn uncommented(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map(|(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map(|(_, after)| after)
        } else {
            return rest;
        };
        rest = after.unwrap_or_default().trim_start();
    }
}

fn first_word(sql: &str) -> String {
    let word = uncommented(sql)
        .chars()
        .take_while(char::is_ascii_alphabetic);
    word.map(|letter| letter.to_ascii_uppercase()).collect()
}

/// True if a statement changes nothing. In doubt it is false, which is never wrong: the writer may read as well.
fn only_reads(sql: &str) -> bool {
    match &*first_word(sql) {
        "SELECT" | "VALUES" | "EXPLAIN" => true,
        "WITH" => {
            let upper = sql.to_ascii_uppercase();
            let changes = ["INSERT", "UPDATE", "DELETE", "REPLACE"];
            !changes.iter().any(|word| upper.contains(word))
        }
        _ => false,
    }
}

/// The reason for which a statement must not run on a connection that others share.
pub(super) fn misplaced(sql: &str) -> Option<&'static str> {
    match &*first_word(sql) {
        "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" => Some(
            "a transaction cannot be begun or ended by a statement, as others use the connection, too; use batch([...]), which is one",
        ),
        "ATTACH" | "DETACH" => {
            Some("other files cannot be attached; declare them with edge.database")
        }
        "VACUUM" => Some(
            "VACUUM is not run by a binding, whose connections it would block; run it with the sqlite3 command",
        ),
        "PRAGMA" if sets(sql) => {
            Some("a PRAGMA that sets something would hold for one of several connections only")
        }
        _ => None,
    }
}

/// PRAGMAs whose argument says what they are about; with any other one, an argument is a new value.
const ABOUT: [&str; 11] = [
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// True if a PRAGMA has a new value, as in `name = value` or `name(value)`.
fn sets(sql: &str) -> bool {
    let Some((name, _)) = sql.split_once('(') else {
        return sql.contains('=');
    };
    let name = name
        .rsplit([' ', '.', '\n', '\t', '/'])
        .find(|it| !it.is_empty());
    let is_about = |name: &str| ABOUT.iter().any(|about| about.eq_ignore_ascii_case(name));
    sql.contains('=') || !name.is_some_and(is_about)
}

fn done(file: &SqliteFile, connection: &mut Connection, call: &SqlCall, most: usize) -> DataResult {
    let began = Instant::now();
    let mut bytes = ResultBytes::new(most);
    let (results, count) = match call {
        SqlCall::Ping => {
            let reached = connection.query_row("SELECT 1", [], |_| Ok(()));
            return match reached {
                Ok(()) => Ok(SqlReply::Reached.into()),
                Err(error) => Err(file.failure(&error)),
            };
        }
        SqlCall::Query { statement, first } => {
            let result = run(file, connection, statement, *first, &mut bytes)?;
            if !connection.is_autocommit() {
                return Err(DataError::Refused(
                    "the statement left a transaction open, which was undone; use batch([...])"
                        .to_owned(),
                ));
            }
            (vec![result], 1)
        }
        SqlCall::Batch(parts) => {
            let failed = |error: rusqlite::Error| file.failure(&error);
            let change =
                Transaction::new(connection, TransactionBehavior::Immediate).map_err(failed)?;
            let (mut results, mut count) = (Vec::with_capacity(parts.len()), 0);
            for (at, part) in parts.iter().enumerate() {
                let ran = match part {
                    SqlPart::Statement(statement) => {
                        run(file, &change, statement, false, &mut bytes).map(|result| {
                            results.push(result);
                            1
                        })
                    }
                    SqlPart::Script(sql) => script(file, &change, sql),
                };
                count += ran.map_err(|error| in_batch(error, at, parts))?;
            }
            change.commit().map_err(failed)?;
            (results, count)
        }
    };
    Ok(SqlReply::Results {
        results,
        count,
        duration: began.elapsed(),
    }
    .into())
}

/// Runs the statements of a script. The number of them.
fn script(file: &SqliteFile, connection: &Connection, sql: &str) -> Result<u64, DataError> {
    let failed = |error: rusqlite::Error| file.failure(&error);
    let mut batch = Batch::new(connection, sql);
    let mut count = 0;
    while let Some(mut statement) = batch.next().map_err(failed)? {
        if let Some(why) = statement.expanded_sql().as_deref().and_then(misplaced) {
            return Err(DataError::Refused(why.to_owned()));
        }
        let mut rows = statement.query([]).map_err(failed)?;
        while rows.next().map_err(failed)?.is_some() {}
        count += 1;
    }
    Ok(count)
}

fn run(
    file: &SqliteFile,
    connection: &Connection,
    statement: &Statement,
    first: bool,
    bytes: &mut ResultBytes,
) -> Result<SqlResult, DataError> {
    if let Some(why) = misplaced(&statement.sql) {
        return Err(DataError::Refused(why.to_owned()));
    }
    let failed = |error: rusqlite::Error| file.failure(&error);
    let began = Instant::now();
    let changed = connection.total_changes();
    let mut prepared = connection.prepare_cached(&statement.sql).map_err(failed)?;
    let wanted = prepared.parameter_count();
    if wanted != statement.values.len() {
        return Err(DataError::Invalid(format!(
            "bind: the statement has {wanted} parameters, and {} values were bound",
            statement.values.len()
        )));
    }
    let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
    let values = statement.values.iter().map(Bound);
    let mut found = prepared
        .query(rusqlite::params_from_iter(values))
        .map_err(failed)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        let values: Vec<SqlValue> = (0..columns.len())
            .map(|at| row.get_ref(at).map(value))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        bytes.take(&values)?;
        rows.push(values);
        if first {
            break;
        }
    }
    drop(found);
    let changes = connection.total_changes().saturating_sub(changed);
    let inserts = matches!(&*first_word(&statement.sql), "INSERT" | "REPLACE" | "WITH");
    Ok(SqlResult {
        meta: SqlMeta {
            duration: began.elapsed(),
            changes,
            last_row_id: if changes > 0 && inserts {
                connection.last_insert_rowid()
            } else {
                0
            },
            rows_read: rows.len() as u64,
        },
        columns,
        rows,
    })
}

/// A value that is bound without a copy.
struct Bound<'a>(&'a SqlValue);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            SqlValue::Null => ToSqlOutput::Owned(Value::Null),
            SqlValue::Bool(yes) => ToSqlOutput::Owned(Value::Integer(i64::from(*yes))),
            SqlValue::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            SqlValue::Real(number) => ToSqlOutput::Owned(Value::Real(*number)),
            SqlValue::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            SqlValue::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

fn value(found: ValueRef<'_>) -> SqlValue {
    match found {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(number) => SqlValue::Integer(number),
        ValueRef::Real(number) => SqlValue::Real(number),
        // SQLite stores what it is given; text that is no UTF-8 came from another program.
        ValueRef::Text(text) => SqlValue::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => SqlValue::Blob(bytes.to_vec()),
    }
}

/// Sets a connection up for statements of programs.
fn confine(connection: &Connection, _first: bool) -> rusqlite::Result<()> {
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.pragma_update(None, "foreign_keys", true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_that_change_nothing_are_for_readers() {
        for sql in [
            "SELECT 1",
            "  select * from t",
            "-- a comment\nSELECT 1",
            "/* one */ -- two\n VALUES (1)",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "EXPLAIN SELECT 1",
        ] {
            assert!(only_reads(sql), "{sql}");
        }
        for sql in [
            "INSERT INTO t VALUES (1)",
            "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
            "UPDATE t SET a = 1 RETURNING a",
            "PRAGMA optimize",
            "-- SELECT",
            "/* SELECT",
            "",
        ] {
            assert!(!only_reads(sql), "{sql}");
        }
    }
}
