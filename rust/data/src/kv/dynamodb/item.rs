//! Entries as items of a table.
//!
//! The sort key is the key of the entry. `kv_value` has its value, except for the text of a whole number of 64 bits,
//! which is the number `kv_number`, so that the service can add to it. `kv_expires` is in milliseconds; `ttl`, in
//! seconds, is for the service, which removes items some time later.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{error::DataError, kv::call::Entry};

/// An item that was read.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) entry: Entry,
    /// The value is a number of the service.
    pub(super) is_number: bool,
}

/// The number whose text a value is, if it has no other spelling.
fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The attributes of an entry besides its keys. `expires`: in milliseconds.
pub(super) fn attributes(
    value: &[u8],
    metadata: Option<&str>,
    expires: Option<u64>,
    version: &str,
) -> Map<String, Value> {
    let mut item = Map::new();
    match number(value) {
        Some(number) => item.insert("kv_number".to_owned(), json!({"N": number.to_string()})),
        None => item.insert("kv_value".to_owned(), json!({"B": STANDARD.encode(value)})),
    };
    item.insert("kv_version".to_owned(), json!({"S": version}));
    if let Some(metadata) = metadata {
        item.insert("kv_metadata".to_owned(), json!({"S": metadata}));
    }
    if let Some(expires) = expires {
        item.insert("kv_expires".to_owned(), json!({"N": expires.to_string()}));
        let ttl = expires.div_ceil(1_000).to_string();
        item.insert("ttl".to_owned(), json!({"N": ttl}));
    }
    item
}

fn text<'v>(item: &'v Value, name: &str, kind: &str) -> Option<&'v str> {
    item.get(name)?.get(kind)?.as_str()
}

/// The entry of an item; `None`: its time has ended.
pub(super) fn read(item: &Value, now: u64, most: usize) -> Result<Option<Item>, DataError> {
    let expires = text(item, "kv_expires", "N").and_then(|millis| millis.parse::<u64>().ok());
    if expires.is_some_and(|expires| expires <= now) {
        return Ok(None);
    }
    let number = text(item, "kv_number", "N");
    let value: Option<Bytes> = match number {
        Some(number) => Some(number.to_owned().into()),
        None => text(item, "kv_value", "B")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .map(Bytes::from)
            .or_else(|| text(item, "kv_value", "S").map(|text| text.to_owned().into())),
    };
    let Some(value) = value else {
        let why = "the item of this key has no kv_value: another program wrote it";
        return Err(DataError::Refused(why.to_owned()));
    };
    if value.len() > most {
        let why = "the stored value is larger than limits.data.value_bytes";
        return Err(DataError::Refused(why.to_owned()));
    }
    Ok(Some(Item {
        entry: Entry {
            value,
            metadata: text(item, "kv_metadata", "S").map(Into::into),
            version: text(item, "kv_version", "S").unwrap_or_default().into(),
            expires,
        },
        is_number: number.is_some(),
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_read_as_the_entry_that_was_written() {
        for value in [
            &b""[..],
            b"text",
            b"\xff\x00",
            b"7",
            b"-7",
            b"007",
            b"+7",
            b"9223372036854775808",
        ] {
            let written = Value::Object(attributes(value, Some("{}"), Some(1_500), "v"));
            let is_number = matches!(value, b"7" | b"-7");
            assert_eq!(written.get("kv_number").is_some(), is_number, "{value:?}");
            assert_eq!(text(&written, "ttl", "N"), Some("2"));
            let found = read(&written, 1_499, 100).unwrap().unwrap();
            assert_eq!(
                (&found.entry.value[..], found.is_number),
                (value, is_number)
            );
            assert_eq!(found.entry.expires, Some(1_500));
            assert!(read(&written, 1_500, 100).unwrap().is_none());
        }
        assert!(read(&json!({"sk": {"S": "k"}}), 0, 100).is_err());
        assert!(
            read(&json!({"kv_value": {"S": "from elsewhere"}}), 0, 100)
                .unwrap()
                .is_some()
        );
        assert!(read(&json!({"kv_value": {"S": "from elsewhere"}}), 0, 10).is_err());
    }
}
