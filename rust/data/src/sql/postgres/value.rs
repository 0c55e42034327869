//! Values on their way to PostgreSQL, as text that the server reads by the type of the parameter, and back from its
//! binary forms.

use std::{error::Error, net::IpAddr};

use bytes::BytesMut;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

use super::super::{
    calendar,
    call::{SqlValue, widened},
};
use crate::error::DataError;

/// A value that is bound without a copy of its own.
#[derive(Debug)]
pub(super) struct Bound<'a>(pub(super) &'a SqlValue);

impl ToSql for Bound<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            SqlValue::Null => return Ok(IsNull::Yes),
            SqlValue::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
            SqlValue::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
            SqlValue::Real(number) => out.extend_from_slice(number.to_string().as_bytes()),
            SqlValue::Text(text) => out.extend_from_slice(text.as_bytes()),
            SqlValue::Blob(bytes) => out.extend_from_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, parameter: &Type) -> Format {
        // The text of bytes is another one than the bytes.
        if base(parameter) == &Type::BYTEA {
            Format::Binary
        } else {
            Format::Text
        }
    }

    to_sql_checked!();
}

/// Refuses values that the type of their parameter cannot hold in any form.
pub(super) fn check(values: &[SqlValue], parameters: &[Type]) -> Result<(), DataError> {
    for (at, (value, parameter)) in values.iter().zip(parameters).enumerate() {
        let is_bytes = base(parameter) == &Type::BYTEA;
        let why = match value {
            SqlValue::Blob(_) if !is_bytes => {
                format!("is bytes, and the parameter has the type {}; bind str, or cast it to bytea", parameter.name())
            }
            SqlValue::Text(text) if !is_bytes && text.contains('\0') => {
                "has a zero character, which PostgreSQL cannot store in text; bind bytes for a column of bytea".to_owned()
            }
            SqlValue::Bool(_) | SqlValue::Integer(_) | SqlValue::Real(_) if is_bytes => {
                "is a number, and the parameter has the type bytea; bind bytes".to_owned()
            }
            _ => continue,
        };
        return Err(DataError::Invalid(format!("bind: value {} {why}", at + 1)));
    }
    Ok(())
}

/// The type below the domains.
fn base(of: &Type) -> &Type {
    let mut of = of;
    while let Kind::Domain(below) = of.kind() {
        of = below;
    }
    of
}

/// The bytes of a value, whatever its type is.
pub(super) struct RawValue<'a>(&'a [u8]);

impl<'a> FromSql<'a> for RawValue<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Refuses columns of types that have no form here, before anything has run.
pub(super) fn check_columns<'a>(
    columns: impl Iterator<Item = (&'a str, &'a Type)>,
) -> Result<(), DataError> {
    for (name, of) in columns {
        if form(of).is_none() {
            return Err(DataError::Refused(format!(
                "column {name} has the type {}, which has no counterpart; cast it, as in {name}::text or to_json({name})",
                of.name()
            )));
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Char,
    Float4,
    Float8,
    Text,
    Jsonb,
    Bytes,
    Uuid,
    Numeric,
    Moment,
    MomentUtc,
    Date,
    Time,
    Interval,
    Address,
    Position,
    Void,
}

fn form(of: &Type) -> Option<Form> {
    let of = base(of);
    if matches!(of.kind(), Kind::Enum(_)) {
        return Some(Form::Text);
    }
    Some(match *of {
        Type::BOOL => Form::Bool,
        Type::INT2 => Form::Int2,
        Type::INT4 => Form::Int4,
        Type::INT8 => Form::Int8,
        Type::OID | Type::XID | Type::CID | Type::REGCLASS | Type::REGTYPE => Form::Oid,
        Type::CHAR => Form::Char,
        Type::FLOAT4 => Form::Float4,
        Type::FLOAT8 => Form::Float8,
        Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::NAME
        | Type::UNKNOWN
        | Type::JSON
        | Type::XML => Form::Text,
        Type::JSONB | Type::JSONPATH => Form::Jsonb,
        Type::BYTEA => Form::Bytes,
        Type::UUID => Form::Uuid,
        Type::NUMERIC => Form::Numeric,
        Type::TIMESTAMP => Form::Moment,
        Type::TIMESTAMPTZ => Form::MomentUtc,
        Type::DATE => Form::Date,
        Type::TIME => Form::Time,
        Type::INTERVAL => Form::Interval,
        Type::INET | Type::CIDR => Form::Address,
        Type::PG_LSN => Form::Position,
        Type::VOID => Form::Void,
        _ if of.name() == "citext" => Form::Text,
        _ => return None,
    })
}

/// Days from 1970-01-01 to 2000-01-01, from which PostgreSQL counts.
const EPOCH_DAYS: i64 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS * 86_400_000_000;

/// The value of a column; `None` if its bytes are not of its type.
pub(super) fn value(of: &Type, raw: Option<RawValue<'_>>) -> Option<SqlValue> {
    let Some(RawValue(raw)) = raw else {
        return Some(SqlValue::Null);
    };
    let text = |text: String| Some(SqlValue::Text(text));
    let of_text = |raw: &[u8]| Some(SqlValue::Text(std::str::from_utf8(raw).ok()?.to_owned()));
    match form(of)? {
        Form::Bool => Some(SqlValue::Bool(raw.first()? != &0)),
        Form::Int2 => Some(SqlValue::Integer(
            i16::from_be_bytes(raw.try_into().ok()?).into(),
        )),
        Form::Int4 => Some(SqlValue::Integer(
            i32::from_be_bytes(raw.try_into().ok()?).into(),
        )),
        Form::Int8 => Some(SqlValue::Integer(i64::from_be_bytes(raw.try_into().ok()?))),
        Form::Oid => Some(SqlValue::Integer(
            u32::from_be_bytes(raw.try_into().ok()?).into(),
        )),
        Form::Char => text(char::from(*raw.first()?).to_string()),
        Form::Float4 => Some(SqlValue::Real(widened(f32::from_be_bytes(
            raw.try_into().ok()?,
        )))),
        Form::Float8 => Some(SqlValue::Real(f64::from_be_bytes(raw.try_into().ok()?))),
        Form::Text => of_text(raw),
        // A version comes first.
        Form::Jsonb => of_text(raw.strip_prefix(&[1])?),
        Form::Bytes => Some(SqlValue::Blob(raw.to_vec())),
        Form::Uuid => text(uuid(raw.try_into().ok()?)),
        Form::Numeric => numeric(raw),
        Form::Moment => text(moment(i64::from_be_bytes(raw.try_into().ok()?), "")),
        Form::MomentUtc => text(moment(i64::from_be_bytes(raw.try_into().ok()?), "+00:00")),
        Form::Date => text(match i32::from_be_bytes(raw.try_into().ok()?) {
            i32::MAX => "infinity".to_owned(),
            i32::MIN => "-infinity".to_owned(),
            days => calendar::date(i64::from(days) + EPOCH_DAYS),
        }),
        Form::Time => text(calendar::time(u64::from_be_bytes(raw.try_into().ok()?))),
        Form::Interval => {
            let (micros, rest) = raw.split_first_chunk::<8>()?;
            let (days, months) = rest.split_first_chunk::<4>()?;
            let months = i32::from_be_bytes(months.try_into().ok()?);
            text(interval(
                months,
                i32::from_be_bytes(*days),
                i64::from_be_bytes(*micros),
            ))
        }
        Form::Address => text(address(raw)?),
        Form::Position => {
            let position = u64::from_be_bytes(raw.try_into().ok()?);
            text(format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff))
        }
        Form::Void => Some(SqlValue::Null),
    }
}

fn moment(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        _ => {
            let text = calendar::moment(micros.saturating_add(EPOCH_MICROS));
            match text.strip_suffix(" BC") {
                Some(text) => format!("{text}{zone} BC"),
                None => text + zone,
            }
        }
    }
}

fn uuid(raw: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(raw));
    let mut text = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// A length of time in the form of ISO 8601, which the server reads as well.
fn interval(months: i32, days: i32, micros: i64) -> String {
    let mut text = "P".to_owned();
    for (number, unit) in [(months / 12, 'Y'), (months % 12, 'M'), (days, 'D')] {
        if number != 0 {
            text.push_str(&format!("{number}{unit}"));
        }
    }
    if micros != 0 || text.len() == 1 {
        let (seconds, fraction) = (micros / 1_000_000, micros.unsigned_abs() % 1_000_000);
        text.push('T');
        let sign = if seconds == 0 && micros < 0 { "-" } else { "" };
        text.push_str(&format!("{sign}{seconds}"));
        if fraction > 0 {
            text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
        }
        text.push('S');
    }
    text
}

fn address(raw: &[u8]) -> Option<String> {
    let (&[_family, bits, _is_cidr, length], rest) = raw.split_first_chunk::<4>()?;
    let address: IpAddr = match length {
        4 => <[u8; 4]>::try_from(rest).ok()?.into(),
        16 => <[u8; 16]>::try_from(rest).ok()?.into(),
        _ => return None,
    };
    Some(match bits {
        _ if usize::from(bits) == rest.len() * 8 => address.to_string(),
        _ => format!("{address}/{bits}"),
    })
}

/// An exact number: an integer where it has no fraction and fits, its digits as text otherwise.
fn numeric(raw: &[u8]) -> Option<SqlValue> {
    let (head, groups) = raw.split_first_chunk::<8>()?;
    let [a, b, c, d, e, f, g, h] = *head;
    let count = usize::from(u16::from_be_bytes([a, b]));
    let weight = i32::from(i16::from_be_bytes([c, d]));
    let sign = u16::from_be_bytes([e, f]);
    let scale = usize::from(u16::from_be_bytes([g, h]));
    match sign {
        0xC000 => return Some(SqlValue::Text("NaN".to_owned())),
        0xD000 => return Some(SqlValue::Text("Infinity".to_owned())),
        0xF000 => return Some(SqlValue::Text("-Infinity".to_owned())),
        _ => {}
    }
    if groups.len() != count * 2 {
        return None;
    }
    let group = |at: i32| {
        let at = usize::try_from(at).ok()? * 2;
        Some(u16::from_be_bytes([*groups.get(at)?, *groups.get(at + 1)?]))
    };
    let mut text = if sign == 0x4000 { "-" } else { "" }.to_owned();
    if weight < 0 {
        text.push('0');
    } else {
        for at in 0..=weight {
            let digits = group(at).unwrap_or(0);
            let next = if at == 0 {
                format!("{digits}")
            } else {
                format!("{digits:04}")
            };
            text.push_str(&next);
        }
    }
    if scale == 0 {
        return Some(text.parse().map_or(SqlValue::Text(text), SqlValue::Integer));
    }
    text.push('.');
    let (mut at, end) = (weight + 1, text.len() + scale);
    while text.len() < end {
        text.push_str(&format!("{:04}", group(at).unwrap_or(0)));
        at += 1;
    }
    text.truncate(end);
    Some(SqlValue::Text(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of_groups(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> Option<SqlValue> {
        let mut raw = Vec::new();
        raw.extend(u16::try_from(groups.len()).unwrap().to_be_bytes());
        raw.extend(weight.to_be_bytes());
        raw.extend(sign.to_be_bytes());
        raw.extend(scale.to_be_bytes());
        raw.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        numeric(&raw)
    }

    #[test]
    fn exact_numbers_keep_their_digits() {
        let text = |text: &str| Some(SqlValue::Text(text.to_owned()));
        assert_eq!(of_groups(0, 0, 0, &[]), Some(SqlValue::Integer(0)));
        assert_eq!(
            of_groups(1, 0x4000, 0, &[1, 20]),
            Some(SqlValue::Integer(-10_020))
        );
        assert_eq!(
            of_groups(2, 0, 0, &[1]),
            Some(SqlValue::Integer(100_000_000))
        );
        assert_eq!(of_groups(0, 0, 2, &[12, 5_000]), text("12.50"));
        assert_eq!(of_groups(-1, 0x4000, 3, &[50]), text("-0.005"));
        assert_eq!(of_groups(-2, 0, 6, &[100]), text("0.000001"));
        assert_eq!(of_groups(0, 0, 5, &[7]), text("7.00000"));
        assert_eq!(of_groups(5, 0, 0, &[1]), text("100000000000000000000"));
        assert_eq!(of_groups(0, 0xC000, 0, &[]), text("NaN"));
        assert_eq!(numeric(&[0, 1, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(numeric(&[0]), None);
    }

    #[test]
    fn bytes_that_are_not_of_their_type_have_no_value() {
        for of in [
            Type::INT4,
            Type::UUID,
            Type::INTERVAL,
            Type::INET,
            Type::JSONB,
            Type::DATE,
            Type::BOOL,
        ] {
            assert_eq!(value(&of, Some(RawValue(&[]))), None, "{of}");
        }
        assert_eq!(value(&Type::TEXT, Some(RawValue(&[0xff]))), None);
        assert_eq!(value(&Type::INT4, None), Some(SqlValue::Null));
    }

    #[test]
    fn lengths_of_time_have_the_form_of_iso_8601() {
        for (months, days, micros, want) in [
            (0, 0, 0, "PT0S"),
            (14, -3, 0, "P1Y2M-3D"),
            (0, 0, -500_000, "PT-0.5S"),
            (0, 1, 3_661_000_000, "P1DT3661S"),
        ] {
            assert_eq!(interval(months, days, micros), want);
        }
    }
}
