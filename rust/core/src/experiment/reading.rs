//! Settings of an experiment that change while the edge serves: weights, switches and payloads in a key-value store.
//!
//! [`ConfigSource`] names the keys that hold them, and [`Experiment::read`] makes a [`Reading`] of their values, or
//! says why not; the caller then keeps the reading before. Nothing here polls.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use serde_json::{Map, Value};

use super::{Experiment, Shares};
use crate::{http::FieldName, plan::binding::LONGEST_KEY};

/// The largest value of a key, in bytes.
const MOST_VALUE: usize = 65_536;
/// The largest payload as compact JSON, and the longest value of its field, in bytes.
const MOST_PAYLOAD: usize = 4_096;

/// `EXPERIMENT.config` and the fields that go with it, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSpec {
    /// The name of a key-value binding.
    pub binding: String,
    /// The key, with `{name}` and `{variant}`.
    pub key: String,
    /// Time between two readings.
    pub interval: Duration,
    /// The field that carries the payload to the origin; `None`: none does.
    pub header: Option<String>,
}

/// The place of the settings of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSource {
    /// The name of a key-value binding.
    pub binding: Arc<str>,
    /// The keys: one for each variant in their order, or one for the whole experiment.
    pub keys: Vec<Box<str>>,
    /// Time between two readings.
    pub interval: Duration,
    /// The field that carries the payload to the origin.
    pub header: Option<FieldName>,
    /// The place of the reading among those of the plan.
    pub slot: usize,
    /// One value has the settings of all variants.
    whole: bool,
}

impl ConfigSource {
    /// The source of an experiment of that name with those variants; `Err`: the field, its value and the reason.
    pub(super) fn new(
        spec: &ConfigSpec,
        name: &str,
        variants: &[(String, f64)],
    ) -> Result<Self, (&'static str, String, String)> {
        let header = match &spec.header {
            None => None,
            Some(header) => Some(FieldName::from_bytes(header.as_bytes()).map_err(|_| {
                let message = "must be a header name (RFC 9110 §5.1)".to_owned();
                ("payload_header", header.clone(), message)
            })?),
        };
        let wrong = |message: String| ("config", spec.key.clone(), message);
        let rest = spec.key.replace("{name}", "").replace("{variant}", "");
        if rest.contains(['{', '}']) {
            let message = "may have {name} and {variant} in its key, and no other braces";
            return Err(wrong(message.to_owned()));
        }
        let whole = !spec.key.contains("{variant}");
        let named = spec.key.replace("{name}", name);
        let keys: Vec<Box<str>> = match whole {
            true => vec![named.into()],
            false => (variants.iter())
                .map(|(variant, _)| named.replace("{variant}", variant).into())
                .collect(),
        };
        if keys.iter().any(|key| key.len() > LONGEST_KEY) {
            let message = format!("makes a key of more than {LONGEST_KEY} bytes");
            return Err(wrong(message));
        }
        Ok(Self {
            binding: spec.binding.as_str().into(),
            keys,
            interval: spec.interval,
            header,
            slot: 0,
            whole,
        })
    }

    /// True if both read the same in the same way.
    pub(super) fn reads_like(&self, other: &Self) -> bool {
        let slot = self.slot;
        *self
            == Self {
                slot,
                ..other.clone()
            }
    }
}

/// The settings of one experiment at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub(super) shares: Shares,
    weights: Vec<f64>,
    payloads: Vec<Option<Payload>>,
}

impl Reading {
    /// The payload of a variant, by its position.
    pub fn payload(&self, index: usize) -> Option<&Payload> {
        self.payloads.get(index)?.as_ref()
    }

    /// The weight of a variant, by its position.
    pub(crate) fn weight(&self, index: usize) -> Option<f64> {
        self.weights.get(index).copied()
    }
}

/// Data of a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Compact JSON.
    pub json: Arc<str>,
    /// The same as the value of a field: base64url (RFC 4648 §5) without padding. `None`: no field carries it.
    pub header: Option<HeaderValue>,
    /// The variant and the hash of the payload, for the key.
    pub dimension: Box<str>,
}

/// Why values are no reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadingError {
    /// A value is no JSON, or not of an object.
    #[error("{0}: must be a JSON object")]
    NoObject(Box<str>),
    /// A value has too many bytes.
    #[error("{0}: has {1} bytes; at most {MOST_VALUE} are possible")]
    TooLong(Box<str>, usize),
    /// A field is unknown, or has another type.
    #[error("{0}.{1}")]
    Field(Box<str>, Box<str>),
    /// A payload is too large.
    #[error("{0}.payload: has {1} bytes as {2}; at most {MOST_PAYLOAD} are possible")]
    LargePayload(Box<str>, usize, &'static str),
    /// No variant has a weight.
    #[error("{0}: no variant has a weight above 0 that is switched on")]
    NoWeight(Box<str>),
}

/// The settings that a value has for one variant.
#[derive(Default)]
struct Given {
    weight: Option<f64>,
    off: bool,
    payload: Option<Value>,
}

impl Experiment {
    /// Reads the values of [`ConfigSource::keys`], in their order. `None` for a key that is not stored: what it would
    /// set is as declared.
    pub fn read(
        &self,
        source: &ConfigSource,
        values: &[Option<&[u8]>],
    ) -> Result<Reading, ReadingError> {
        let first_key = source.keys.first().map_or("", |key| &**key);
        let mut only_first = false;
        let mut given: Vec<Given> = Vec::with_capacity(self.variants.len());
        if source.whole {
            if let Some(value) = values.first().copied().flatten() {
                only_first = !self.read_whole(first_key, value, &mut given)?;
            }
        } else {
            for (key, value) in source.keys.iter().zip(values) {
                given.push(match value {
                    Some(value) => variant(key, object(key, value)?)?,
                    None => Given::default(),
                });
            }
        }
        given.resize_with(self.variants.len(), Given::default);
        let weights: Vec<f64> = (self.variants.iter().zip(&given).enumerate())
            .map(|(at, (declared, given))| match only_first {
                true => f64::from(u8::from(at == 0)),
                false if given.off => 0.0,
                false => given.weight.unwrap_or(declared.weight),
            })
            .collect();
        let shares = Shares::of(weights.iter().copied());
        if shares.total == 0 {
            return Err(ReadingError::NoWeight(first_key.into()));
        }
        let with_header = source.header.is_some();
        let payloads = (self.variants.iter().zip(given))
            .map(|(declared, given)| {
                let payload = given.payload;
                payload.map(|value| Payload::new(&declared.name, &value, with_header))
            })
            .map(Option::transpose)
            .collect::<Result<_, _>>()?;
        Ok(Reading {
            shares,
            weights,
            payloads,
        })
    }

    /// Reads the settings of all variants in one value; false: the experiment is switched off.
    fn read_whole(
        &self,
        key: &str,
        value: &[u8],
        given: &mut Vec<Given>,
    ) -> Result<bool, ReadingError> {
        given.resize_with(self.variants.len(), Given::default);
        let mut on = true;
        for (field, value) in object(key, value)? {
            match (field.as_str(), value) {
                ("enabled", Value::Bool(enabled)) => on = enabled,
                ("enabled", _) => return Err(wrong(key, "enabled: must be true or false")),
                ("variants", Value::Object(variants)) => {
                    for (name, value) in variants {
                        let at = self.variants.iter().position(|one| *one.name == *name);
                        let (place, slot) = (
                            format!("{key}.variants.{}", shortened(&name)),
                            at.and_then(|at| given.get_mut(at)),
                        );
                        let Some(slot) = slot else {
                            let message = format!(
                                "variants.{}: is no variant of the experiment",
                                shortened(&name)
                            );
                            return Err(wrong(key, &message));
                        };
                        let Value::Object(fields) = value else {
                            return Err(ReadingError::NoObject(place.into()));
                        };
                        *slot = variant(&place, fields)?;
                    }
                }
                ("variants", _) => {
                    return Err(wrong(key, "variants: must be an object of variants"));
                }
                _ => {
                    let message = format!("{}: must be enabled or variants", shortened(&field));
                    return Err(wrong(key, &message));
                }
            }
        }
        Ok(on)
    }
}

/// A name as an error shows it.
fn shortened(name: &str) -> String {
    name.chars().take(40).flat_map(char::escape_debug).collect()
}

fn wrong(key: &str, message: &str) -> ReadingError {
    ReadingError::Field(key.into(), message.into())
}

fn object(key: &str, value: &[u8]) -> Result<Map<String, Value>, ReadingError> {
    if value.len() > MOST_VALUE {
        return Err(ReadingError::TooLong(key.into(), value.len()));
    }
    serde_json::from_slice(value).map_err(|_| ReadingError::NoObject(key.into()))
}

fn variant(place: &str, fields: Map<String, Value>) -> Result<Given, ReadingError> {
    let mut given = Given::default();
    for (field, value) in fields {
        match (field.as_str(), value) {
            ("weight", Value::Number(number)) => {
                let weight = number.as_f64();
                let weight = weight.filter(|weight| weight.is_finite() && *weight >= 0.0);
                given.weight =
                    Some(weight.ok_or_else(|| wrong(place, "weight: must be a number ≥ 0"))?);
            }
            ("weight", _) => return Err(wrong(place, "weight: must be a number ≥ 0")),
            ("enabled", Value::Bool(enabled)) => given.off = !enabled,
            ("enabled", _) => return Err(wrong(place, "enabled: must be true or false")),
            ("payload", Value::Null) => {}
            ("payload", value) => given.payload = Some(value),
            _ => {
                let message = format!("{}: must be weight, enabled or payload", shortened(&field));
                return Err(wrong(place, &message));
            }
        }
    }
    Ok(given)
}

impl Payload {
    fn new(variant: &str, value: &Value, with_header: bool) -> Result<Self, ReadingError> {
        let json = value.to_string();
        let large = |bytes, form| Err(ReadingError::LargePayload(variant.into(), bytes, form));
        if json.len() > MOST_PAYLOAD {
            return large(json.len(), "JSON");
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, json.as_bytes());
        // No variant has this sign in its name.
        let mut dimension = format!("{variant}~");
        for byte in digest.as_ref().iter().take(16) {
            let _ = write!(dimension, "{byte:02x}");
        }
        let header = match with_header {
            false => None,
            true => {
                let encoded = URL_SAFE_NO_PAD.encode(&json);
                if encoded.len() > MOST_PAYLOAD {
                    return large(encoded.len(), "base64url for its field");
                }
                let value = HeaderValue::from_str(&encoded);
                Some(value.map_err(|_| wrong(variant, "payload: is no value of a field"))?)
            }
        };
        Ok(Self {
            json: json.into(),
            header,
            dimension: dimension.into(),
        })
    }
}

/// The readings of a plan's experiments, by [`ConfigSource::slot`]. Copies share them.
#[derive(Debug, Clone, Default)]
pub struct Readings(Option<Arc<[Option<Arc<Reading>>]>>);

impl Readings {
    /// The reading of an experiment; `None`: it is as declared.
    pub fn get(&self, experiment: &Experiment) -> Option<&Arc<Reading>> {
        let slot = experiment.config.as_ref()?.slot;
        self.0.as_ref()?.get(slot)?.as_ref()
    }

    /// The same with another reading at a place.
    pub fn with(&self, slot: usize, reading: Arc<Reading>) -> Self {
        let all = self.0.iter().flat_map(|all| all.iter().cloned());
        all.enumerate()
            .map(|(at, before)| match at == slot {
                true => Some(Arc::clone(&reading)),
                false => before,
            })
            .collect()
    }
}

impl FromIterator<Option<Arc<Reading>>> for Readings {
    fn from_iter<I: IntoIterator<Item = Option<Arc<Reading>>>>(readings: I) -> Self {
        let all: Arc<[_]> = readings.into_iter().collect();
        Self((!all.is_empty()).then_some(all))
    }
}
