//! JSON read strictly: an object with two members of one name is refused at every depth.
//!
//! RFC 7515 §4 and RFC 7519 §4 let a parser take the last of two, so two programs could read two different tokens from
//! the same signed bytes. An order for a purge that names `urls` twice would purge half of what its author meant.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

/// With more members than this, duplicates are found by sorting.
const FEW: usize = 16;

/// A value; strings without escapes are borrowed from the text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(JsonMembers<'a>),
}

pub(crate) type JsonMembers<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

impl<'a> Json<'a> {
    /// The members of a text that is one JSON object and nothing more.
    pub(crate) fn object(text: &'a [u8]) -> Option<JsonMembers<'a>> {
        // serde_json bounds the depth (128) and refuses trailing characters and numbers beyond f64.
        match serde_json::from_slice(text) {
            Ok(Self::Object(members)) => Some(members),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Number(number) => Value::Number(number),
            Self::String(text) => Value::String(text.into_owned()),
            Self::Array(items) => items.into_iter().map(Self::into_value).collect(),
            Self::Object(members) => members
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value.into_value()))
                .collect(),
        }
    }
}

/// The value of a text. An error names a member that stands twice.
pub fn value(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text).map(Json::into_value)
}

/// The value of the member `name`.
pub(crate) fn member<'o, 'a>(
    object: &'o [(Cow<'a, str>, Json<'a>)],
    name: &str,
) -> Option<&'o Json<'a>> {
    object.iter().find(|(n, _)| n == name).map(|(_, v)| v)
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut members: JsonMembers<'de> = Vec::with_capacity(8);
        // A member's name is read as a value too: it is a string.
        while let Some((Json::String(name), value)) = map.next_entry::<Json<'de>, Json<'de>>()? {
            if members.len() < FEW && members.iter().any(|(n, _)| *n == name) {
                return Err(twice(&name));
            }
            members.push((name, value));
        }
        if members.len() > FEW {
            let mut names: Vec<&str> = members.iter().map(|(n, _)| &**n).collect();
            names.sort_unstable();
            let mut pairs = names.windows(2);
            if let Some([name, _]) = pairs.find(|pair| pair.first() == pair.last()) {
                return Err(twice(name));
            }
        }
        Ok(Json::Object(members))
    }
}

fn twice<E: Error>(name: &str) -> E {
    let shown: String = name.chars().take(64).collect();
    E::custom(format_args!("the key {shown:?} stands twice"))
}
