//! The structures of Hrana over HTTP, in JSON (docs/HRANA_3_SPEC.md of libSQL).

use std::time::Duration;

use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD_NO_PAD,
    },
};
use serde_json::{Value, json};

use super::{
    super::{
        call::{ResultBytes, SqlMeta, SqlPart, SqlResult, SqlValue, Statement, in_batch},
        tokens::Dialect,
        verb::Verb,
    },
    dial::unreachable,
};
use crate::error::{Constraint, DataError};

/// Base64 with padding or without, as servers differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Characters of a server's own words that are shown.
const MOST_WORDS: usize = 500;

/// `Stmt`, with the values of its parameters; without them for a statement whose rows are dropped.
pub(super) fn statement(sql: &str, with: Option<&Statement>) -> Result<Value, DataError> {
    let Some(with) = with else {
        return Ok(json!({"sql": sql, "want_rows": false}));
    };
    let values = with.values.iter().enumerate();
    let args: Vec<_> = values
        .map(|(at, value)| encoded(at, value))
        .collect::<Result<_, _>>()?;
    Ok(json!({"sql": sql, "args": args, "want_rows": true}))
}

fn encoded(at: usize, value: &SqlValue) -> Result<Value, DataError> {
    Ok(match value {
        SqlValue::Null => json!({"type": "null"}),
        SqlValue::Bool(yes) => json!({"type": "integer", "value": u8::from(*yes).to_string()}),
        SqlValue::Integer(number) => json!({"type": "integer", "value": number.to_string()}),
        SqlValue::Real(number) if number.is_finite() => json!({"type": "float", "value": number}),
        SqlValue::Real(number) => {
            return Err(DataError::Invalid(format!(
                "bind: value {} is {number}, which the protocol of libSQL cannot carry; bind it as str",
                at + 1
            )));
        }
        SqlValue::Text(text) => json!({"type": "text", "value": text}),
        SqlValue::Blob(bytes) => json!({"type": "blob", "base64": STANDARD_NO_PAD.encode(bytes)}),
    })
}

fn decoded(value: &Value) -> Option<SqlValue> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    Some(match text("type")? {
        "null" => SqlValue::Null,
        "integer" => SqlValue::Integer(text("value")?.parse().ok()?),
        "float" => SqlValue::Real(value.get("value")?.as_f64()?),
        "text" => SqlValue::Text(text("value")?.to_owned()),
        "blob" => SqlValue::Blob(BASE64.decode(text("base64")?).ok()?),
        _ => return None,
    })
}

/// A batch that is one transaction: each statement runs if the one before it did, and the end depends on the last.
pub(super) fn transaction(statements: Vec<Value>) -> Value {
    let after = |step: usize| json!({"type": "ok", "step": step});
    let mut steps = vec![json!({"stmt": {"sql": "BEGIN IMMEDIATE", "want_rows": false}})];
    for statement in statements {
        let condition = after(steps.len() - 1);
        steps.push(json!({"condition": condition, "stmt": statement}));
    }
    let commit = steps.len();
    steps.push(
        json!({"condition": after(commit - 1), "stmt": {"sql": "COMMIT", "want_rows": false}}),
    );
    let not_committed = json!({"type": "not", "cond": after(commit)});
    let undone = json!({"type": "and", "conds": [after(0), not_committed]});
    steps.push(json!({"condition": undone, "stmt": {"sql": "ROLLBACK", "want_rows": false}}));
    json!({"type": "batch", "batch": {"steps": steps}})
}

fn garbled() -> DataError {
    unreachable("sent a response that is none of its protocol")
}

/// The result of the first request of a pipeline.
fn first(response: &[u8], kind: &str) -> Result<Value, DataError> {
    let mut response: Value = serde_json::from_slice(response).map_err(|_| garbled())?;
    let found = response
        .get_mut("results")
        .and_then(|all| all.get_mut(0))
        .ok_or_else(garbled)?;
    if let Some(error) = found.get("error") {
        return Err(failure(error));
    }
    let response = found.get_mut("response").ok_or_else(garbled)?;
    if response.get("type").and_then(Value::as_str) != Some(kind) {
        return Err(garbled());
    }
    let result = response.get_mut("result").ok_or_else(garbled)?;
    Ok(result.take())
}

/// The `StmtResult` of an `execute`.
pub(super) fn executed(response: &[u8]) -> Result<Value, DataError> {
    first(response, "execute")
}

/// Each `StmtResult` of a transaction; `place` has the part that each statement belongs to.
pub(super) fn transacted(
    response: &[u8],
    place: &[usize],
    parts: &[SqlPart],
) -> Result<Vec<Value>, DataError> {
    let mut batch = first(response, "batch")?;
    let list = |of: &mut Value, name: &str| match of.get_mut(name).map(Value::take) {
        Some(Value::Array(all)) => Ok(all),
        _ => Err(garbled()),
    };
    let (results, errors) = (
        list(&mut batch, "step_results")?,
        list(&mut batch, "step_errors")?,
    );
    // Beside those of the call there are BEGIN before them, COMMIT and ROLLBACK after them.
    let commit = place.len() + 1;
    if results.len() != commit + 2 || errors.len() != results.len() {
        return Err(garbled());
    }
    if let Some((at, error)) = errors.iter().enumerate().find(|(_, it)| !it.is_null()) {
        let error = failure(error);
        let part = at.checked_sub(1).and_then(|at| place.get(at));
        return Err(match part {
            Some(part) => in_batch(error, *part, parts),
            None => error,
        });
    }
    if results.get(commit).is_none_or(Value::is_null) {
        return Err(garbled());
    }
    Ok(results.into_iter().skip(1).take(place.len()).collect())
}

/// A `StmtResult` as a result.
pub(super) fn result(
    found: Value,
    sql: &str,
    first: bool,
    bytes: &mut ResultBytes,
) -> Result<SqlResult, DataError> {
    let columns = found.get("cols").and_then(Value::as_array);
    let columns: Vec<String> = columns
        .ok_or_else(garbled)?
        .iter()
        .map(|column| {
            let name = column.get("name").and_then(Value::as_str);
            name.unwrap_or_default().to_owned()
        })
        .collect();
    let found_rows = found.get("rows").and_then(Value::as_array);
    let mut rows = Vec::new();
    let most = if first { 1 } else { usize::MAX };
    for row in found_rows.ok_or_else(garbled)?.iter().take(most) {
        let values: Option<Vec<_>> = row
            .as_array()
            .and_then(|it| it.iter().map(decoded).collect());
        let values = values.ok_or_else(garbled)?;
        if values.len() != columns.len() {
            return Err(garbled());
        }
        bytes.take(&values)?;
        rows.push(values);
    }
    let verb = Verb::of(Dialect::Sqlite, sql);
    let changes = match verb.changes_rows() {
        true => found
            .get("affected_row_count")
            .and_then(Value::as_u64)
            .unwrap_or(0),
        false => 0,
    };
    let inserted = found.get("last_insert_rowid").and_then(Value::as_str);
    let inserted = inserted.filter(|_| changes > 0 && verb.inserts());
    Ok(SqlResult {
        meta: SqlMeta {
            duration: milliseconds(&found),
            changes,
            last_row_id: inserted.and_then(|id| id.parse().ok()).unwrap_or(0),
            rows_read: rows.len() as u64,
        },
        columns,
        rows,
    })
}

/// Version 2 of the protocol does not say it.
fn milliseconds(found: &Value) -> Duration {
    let millis = found.get("query_duration_ms").and_then(Value::as_f64);
    Duration::try_from_secs_f64(millis.unwrap_or(0.0) / 1_000.0).unwrap_or_default()
}

/// `Error`.
fn failure(error: &Value) -> DataError {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let (message, code) = (shortened(text("message")), text("code"));
    // Servers put the words of SQLite behind some of their own.
    let of = |kind: &str, words: &str| code.ends_with(kind) || message.contains(words);
    let constraint = if of("_UNIQUE", "UNIQUE constraint") || code.ends_with("_PRIMARYKEY") {
        Constraint::Unique
    } else if of("_FOREIGNKEY", "FOREIGN KEY constraint") {
        Constraint::ForeignKey
    } else if of("_NOTNULL", "NOT NULL constraint") {
        Constraint::NotNull
    } else if of("_CONSTRAINT_CHECK", "CHECK constraint") {
        Constraint::Check
    } else {
        return DataError::Refused(message);
    };
    DataError::Violated {
        constraint,
        message,
    }
}

/// The words of an error's body, with what separates them from those before; empty if it has none.
pub(super) fn message(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let text = |name: &str| parsed.as_ref()?.get(name)?.as_str();
    match text("message").or_else(|| text("error")) {
        Some(words) => format!(": {}", shortened(words)),
        None => String::new(),
    }
}

fn shortened(words: &str) -> String {
    words.chars().take(MOST_WORDS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_forms_in_both_directions() {
        for (value, text) in [
            (SqlValue::Null, r#"{"type":"null"}"#),
            (
                SqlValue::Integer(i64::MIN),
                r#"{"type":"integer","value":"-9223372036854775808"}"#,
            ),
            (SqlValue::Real(1.5), r#"{"type":"float","value":1.5}"#),
            (
                SqlValue::Text("ü\0".into()),
                r#"{"type":"text","value":"ü\u0000"}"#,
            ),
            (
                SqlValue::Blob(vec![255]),
                r#"{"base64":"/w","type":"blob"}"#,
            ),
        ] {
            let made = encoded(0, &value).unwrap();
            assert_eq!(made, serde_json::from_str::<Value>(text).unwrap());
            assert_eq!(decoded(&made), Some(value));
        }
        let padded = json!({"type": "blob", "base64": "/w=="});
        assert_eq!(decoded(&padded), Some(SqlValue::Blob(vec![255])));
        assert!(encoded(0, &SqlValue::Real(f64::NAN)).is_err());
    }

    #[test]
    fn responses_of_another_form_are_failures() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"results": []}"#,
            r#"{"results": [{"type": "ok"}]}"#,
            r#"{"results": [{"type": "ok", "response": {"type": "close", "result": {}}}]}"#,
        ] {
            let failed = executed(text.as_bytes()).unwrap_err();
            assert!(matches!(failed, DataError::Unreachable(_)), "{text}");
        }
        for text in [
            r#"{}"#,
            r#"{"cols": [], "rows": [[{"type": "null"}]]}"#,
            r#"{"cols": [{"name": "a"}], "rows": [[{"type": "integer", "value": 1}]]}"#,
            r#"{"cols": [{"name": "a"}], "rows": [[{"type": "moon"}]]}"#,
        ] {
            let found = serde_json::from_str(text).unwrap();
            let mut bytes = ResultBytes::new(1_000);
            assert!(
                result(found, "SELECT 1", false, &mut bytes).is_err(),
                "{text}"
            );
        }
    }
}
