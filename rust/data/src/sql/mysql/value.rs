//! Values on their way to MySQL and MariaDB, and back.

use mysql_async::{Column, Value, consts::ColumnType};

use super::super::{
    calendar,
    call::{SqlValue, widened},
};

/// The number of the character set of bytes.
const BINARY: u16 = 63;

/// A value of a parameter.
pub(super) fn bound(value: &SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::NULL,
        SqlValue::Bool(yes) => Value::Int(i64::from(*yes)),
        SqlValue::Integer(number) => Value::Int(*number),
        SqlValue::Real(number) => Value::Double(*number),
        SqlValue::Text(text) => Value::Bytes(text.clone().into_bytes()),
        SqlValue::Blob(bytes) => Value::Bytes(bytes.clone()),
    }
}

/// The value of a column.
pub(super) fn value(column: &Column, found: Value) -> SqlValue {
    match found {
        Value::NULL => SqlValue::Null,
        Value::Int(number) => SqlValue::Integer(number),
        Value::UInt(number) => match i64::try_from(number) {
            Ok(number) => SqlValue::Integer(number),
            Err(_) => SqlValue::Text(number.to_string()),
        },
        Value::Float(number) => SqlValue::Real(widened(number)),
        Value::Double(number) => SqlValue::Real(number),
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let date = format!("{year:04}-{month:02}-{day:02}");
            SqlValue::Text(match column.column_type() {
                ColumnType::MYSQL_TYPE_DATE => date,
                _ => format!("{date} {}", time(0, [hour, minute, second], micros)),
            })
        }
        Value::Time(is_negative, days, hours, minutes, seconds, micros) => {
            let sign = if is_negative { "-" } else { "" };
            SqlValue::Text(format!(
                "{sign}{}",
                time(days, [hours, minutes, seconds], micros)
            ))
        }
        Value::Bytes(bytes) => of_bytes(column, bytes),
    }
}

fn time(days: u32, [hours, minutes, seconds]: [u8; 3], micros: u32) -> String {
    let hours = u64::from(days) * 24 + u64::from(hours);
    let seconds = (hours * 60 + u64::from(minutes)) * 60 + u64::from(seconds);
    // A server may send any number of days.
    let whole = seconds.saturating_mul(1_000_000);
    calendar::time(whole.saturating_add(u64::from(micros)))
}

fn of_bytes(column: &Column, bytes: Vec<u8>) -> SqlValue {
    let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    match column.column_type() {
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => {
            let digits = text(bytes);
            digits
                .parse()
                .map_or(SqlValue::Text(digits), SqlValue::Integer)
        }
        ColumnType::MYSQL_TYPE_JSON => SqlValue::Text(text(bytes)),
        ColumnType::MYSQL_TYPE_BIT if bytes.len() < 8 => {
            let number = bytes
                .iter()
                .fold(0_i64, |sum, &byte| sum << 8 | i64::from(byte));
            SqlValue::Integer(number)
        }
        _ if column.character_set() == BINARY => SqlValue::Blob(bytes),
        _ => SqlValue::Text(text(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(of: ColumnType, character_set: u16) -> Column {
        Column::new(of).with_character_set(character_set)
    }

    #[test]
    fn values_have_the_type_of_their_column() {
        use ColumnType::*;
        let text = |text: &str| SqlValue::Text(text.to_owned());
        let of_bytes =
            |of, set, bytes: &[u8]| value(&column(of, set), Value::Bytes(bytes.to_vec()));
        assert_eq!(of_bytes(MYSQL_TYPE_NEWDECIMAL, 63, b"12.50"), text("12.50"));
        assert_eq!(
            of_bytes(MYSQL_TYPE_NEWDECIMAL, 63, b"-7"),
            SqlValue::Integer(-7)
        );
        assert_eq!(
            of_bytes(MYSQL_TYPE_BLOB, 63, b"\xff"),
            SqlValue::Blob(vec![0xff])
        );
        assert_eq!(of_bytes(MYSQL_TYPE_BLOB, 45, "ü".as_bytes()), text("ü"));
        assert_eq!(of_bytes(MYSQL_TYPE_JSON, 63, b"{}"), text("{}"));
        assert_eq!(
            of_bytes(MYSQL_TYPE_BIT, 63, &[1, 0]),
            SqlValue::Integer(256)
        );
        let of = |of, found| value(&column(of, 63), found);
        assert_eq!(
            of(MYSQL_TYPE_LONGLONG, Value::UInt(u64::MAX)),
            text("18446744073709551615")
        );
        assert_eq!(
            of(MYSQL_TYPE_FLOAT, Value::Float(2.72)),
            SqlValue::Real(2.72)
        );
        assert_eq!(
            of(
                MYSQL_TYPE_TIME,
                Value::Time(false, u32::MAX, 23, 59, 59, 999_999)
            ),
            text("5124095576:01:49.551615"),
            "the longest time that can be told"
        );
        let moment = Value::Date(2026, 11, 27, 16, 0, 1, 500_000);
        assert_eq!(
            of(MYSQL_TYPE_DATETIME, moment.clone()),
            text("2026-11-27 16:00:01.5")
        );
        assert_eq!(of(MYSQL_TYPE_DATE, moment), text("2026-11-27"));
        assert_eq!(
            of(MYSQL_TYPE_TIME, Value::Time(true, 1, 2, 3, 4, 0)),
            text("-26:03:04")
        );
    }
}
