//! The calls of key-value stores, their bounds, and the parts that several engines share.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
pub use edgerouter_core::plan::binding::LONGEST_KEY;
use edgerouter_core::plan::limits::DataLimits;

use crate::error::DataError;

/// The longest metadata, in bytes of JSON.
pub const LONGEST_METADATA: usize = 1_024;
/// Keys in one page of a list.
pub const MOST_LISTED: usize = 1_000;
/// The longest time to live: a hundred years.
const LONGEST_TTL: Duration = Duration::from_secs(100 * 366 * 86_400);

/// The rule for a time to live.
pub const LIFETIMES: &str = "must be from 0.001 seconds to a hundred years; None never expires";

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvCall {
    /// The entry of a key. `exact`: with its version and never from the read cache.
    Get {
        /// The key.
        key: Box<str>,
        /// Not from the read cache.
        exact: bool,
    },
    /// Stores an entry.
    Put {
        /// The key.
        key: Box<str>,
        /// The new value.
        value: Bytes,
        /// As JSON text.
        metadata: Option<Box<str>>,
        /// `None`: it does not expire.
        ttl: Option<Duration>,
        /// The state of the key that it is for.
        condition: PutCondition,
    },
    /// Removes an entry.
    Delete {
        /// The key.
        key: Box<str>,
    },
    /// A page of keys.
    List {
        /// Of the keys.
        prefix: Box<str>,
        /// The end of the page before.
        cursor: Option<Box<str>>,
        /// Of keys in the page.
        limit: usize,
    },
    /// Adds to a counter, which is the decimal text of a whole number.
    Add {
        /// The key.
        key: Box<str>,
        /// The number that is added.
        by: i64,
        /// Of a counter that this makes; an existing one keeps its own.
        ttl: Option<Duration>,
    },
    /// Reaches the engine.
    Ping,
}

/// The state of a key that a put is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutCondition {
    /// Any.
    Always,
    /// Nothing is stored.
    Absent,
    /// The stored entry has this version.
    Version(Box<str>),
}

/// A stored entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// As JSON text.
    pub metadata: Option<Arc<str>>,
    /// Empty unless the call was exact.
    pub version: Arc<str>,
    /// Milliseconds since the Unix epoch.
    pub expires: Option<u64>,
}

/// A page of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// `None`: this is the last page.
    pub cursor: Option<String>,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvReply {
    /// Of `Get`.
    Entry(Option<Entry>),
    /// Of `Put`: its condition held. Of `Delete`: there was an entry.
    Done(bool),
    /// Of `List`.
    Page(KeyPage),
    /// Of `Add`: the new number.
    Number(i64),
    /// Of `Ping`.
    Reached,
}

/// A result of this room.
pub(crate) type KvResult = Result<KvReply, DataError>;

impl KvCall {
    /// The label in metrics.
    pub(crate) fn operation(&self) -> usize {
        match self {
            Self::Get { .. } | Self::Ping => 0,
            Self::Put { .. } => 1,
            Self::Delete { .. } => 2,
            Self::List { .. } => 3,
            Self::Add { .. } => 4,
        }
    }

    fn key(&self) -> Option<&str> {
        match self {
            Self::Get { key, .. }
            | Self::Put { key, .. }
            | Self::Delete { key }
            | Self::Add { key, .. } => Some(key),
            Self::List { .. } | Self::Ping => None,
        }
    }

    /// The key that it changes.
    pub(super) fn changes(&self) -> Option<&str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Add { key, .. } => Some(key),
            Self::Get { .. } | Self::List { .. } | Self::Ping => None,
        }
    }

    pub(super) fn check(&self, limits: &DataLimits) -> Result<(), DataError> {
        let wrong = |why: String| Err(DataError::Invalid(why));
        if let Some(key) = self.key() {
            if key.is_empty() {
                return wrong("key: is empty; give a name such as \"user:7\"".to_owned());
            }
            if key.len() > LONGEST_KEY {
                let got = key.len();
                return wrong(format!(
                    "key: has {got} bytes, and {LONGEST_KEY} are the most; use a hash of what is longer"
                ));
            }
        }
        match self {
            Self::Put {
                value,
                metadata,
                ttl,
                ..
            } => {
                if value.len() > limits.value_bytes {
                    return wrong(format!(
                        "value: has {} bytes, and limits.data.value_bytes is {}; raise it, or store less",
                        value.len(),
                        limits.value_bytes
                    ));
                }
                if let Some(metadata) = metadata.as_ref().filter(|it| it.len() > LONGEST_METADATA) {
                    return wrong(format!(
                        "metadata: has {} bytes as JSON, and {LONGEST_METADATA} are the most; put the rest into the value",
                        metadata.len()
                    ));
                }
                check_ttl(*ttl)
            }
            Self::Add { ttl, .. } => check_ttl(*ttl),
            Self::List { prefix, limit, .. } => {
                if prefix.len() > LONGEST_KEY {
                    return wrong(format!(
                        "prefix: has {} bytes, and keys have {LONGEST_KEY} at most",
                        prefix.len()
                    ));
                }
                if !(1..=MOST_LISTED).contains(limit) {
                    return wrong(format!(
                        "limit: {limit}: must be from 1 to {MOST_LISTED}; the cursor leads to further keys"
                    ));
                }
                Ok(())
            }
            Self::Get { .. } | Self::Delete { .. } | Self::Ping => Ok(()),
        }
    }
}

fn check_ttl(ttl: Option<Duration>) -> Result<(), DataError> {
    match ttl {
        Some(ttl) if ttl < Duration::from_millis(1) || ttl > LONGEST_TTL => Err(
            DataError::Invalid(format!("ttl: {:?} s: {LIFETIMES}", ttl.as_secs_f64())),
        ),
        _ => Ok(()),
    }
}

/// The cursor of a page of a sorted list that begins after a key.
pub(super) fn cursor_after(key: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(key)
}

/// The key after which a page of a sorted list begins.
pub(super) fn after(cursor: Option<&str>) -> Result<Option<String>, DataError> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let key = URL_SAFE_NO_PAD.decode(cursor).ok();
    match key.and_then(|key| String::from_utf8(key).ok()) {
        Some(key) => Ok(Some(key)),
        None => Err(not_a_cursor()),
    }
}

pub(super) fn not_a_cursor() -> DataError {
    DataError::Invalid(
        "cursor: is none of this store; give the cursor of the page before".to_owned(),
    )
}

/// A page of a sorted list, of which one key more than `limit` was read.
pub(super) fn page(mut keys: Vec<String>, limit: usize) -> KeyPage {
    let more = keys.len() > limit;
    keys.truncate(limit);
    let last = keys.last().filter(|_| more);
    KeyPage {
        cursor: last.map(|last| cursor_after(last)),
        keys,
    }
}

/// Adds to the text of a counter.
pub(super) fn added(value: &[u8], by: i64) -> Result<i64, DataError> {
    let number = std::str::from_utf8(value).ok();
    let number = number.and_then(|text| text.parse::<i64>().ok());
    let Some(number) = number else {
        return Err(DataError::Refused(
            "the value of this key is no whole number, so nothing can be added to it".to_owned(),
        ));
    };
    number.checked_add(by).ok_or_else(|| {
        DataError::Refused("the counter would leave the range of 64 bits".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_refused_with_its_field_when_an_argument_is_out_of_bounds() {
        let limits = DataLimits::default();
        let get = |key: &str| KvCall::Get {
            key: key.into(),
            exact: false,
        };
        let put = |value: usize, metadata: usize, ttl: Option<u64>| KvCall::Put {
            key: "k".into(),
            value: vec![0; value].into(),
            metadata: Some("m".repeat(metadata).into()),
            ttl: ttl.map(Duration::from_secs),
            condition: PutCondition::Always,
        };
        let list = |limit| KvCall::List {
            prefix: "".into(),
            cursor: None,
            limit,
        };
        for (call, field) in [
            (get(""), "key"),
            (get(&"k".repeat(513)), "key"),
            (get(&"é".repeat(257)), "key"),
            (put(limits.value_bytes + 1, 0, None), "value"),
            (put(0, 1_025, None), "metadata"),
            (put(0, 0, Some(0)), "ttl"),
            (put(0, 0, Some(u64::MAX)), "ttl"),
            (list(0), "limit"),
            (list(1_001), "limit"),
        ] {
            let refused = call.check(&limits).map_err(|error| error.to_string());
            let named = refused.is_err_and(|text| text.starts_with(&format!("{field}: ")));
            assert!(named, "{call:?}");
        }
        for call in [
            get(&"k".repeat(512)),
            put(limits.value_bytes, 1_024, Some(1)),
            list(1_000),
        ] {
            assert_eq!(call.check(&limits), Ok(()));
        }
    }

    #[test]
    fn a_counter_is_a_whole_number_of_64_bits() {
        assert_eq!(added(b"41", 1), Ok(42));
        assert_eq!(added(b"-1", 1), Ok(0));
        for (value, by) in [
            (&b"4.5"[..], 1),
            (b"", 1),
            (b"x", 1),
            (b"9223372036854775807", 1),
            (b"\xff", 1),
        ] {
            assert!(added(value, by).is_err(), "{value:?}");
        }
    }

    #[test]
    fn a_cursor_leads_on_from_the_last_key_of_a_full_page() {
        let keys: Vec<String> = ["a", "b", "ü"].map(str::to_owned).to_vec();
        assert_eq!(page(keys.clone(), 3).cursor, None);
        let first = page(keys, 2);
        assert_eq!(after(first.cursor.as_deref()), Ok(Some("b".to_owned())));
        assert!(after(Some("not/a cursor")).is_err());
        assert_eq!(after(None), Ok(None));
    }
}
