//! The claims of a verified token, in the forms in which the edge needs them: computed once, when the token is
//! verified.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::http::FieldName;
use http::HeaderValue;
use serde_json::Number;

use super::{Json, JsonMembers, member};

/// The claims of a verified token. Immutable, shared by every request that carries the token.
pub struct Claims {
    json: Arc<str>,
    /// Names and values of the claims that have a text form, one after the other.
    texts: Box<str>,
    spans: Box<[Span]>,
    expires: Option<u64>,
    not_before: Option<u64>,
    forward: Box<[Forwarded]>,
}

/// A request field that carries a claim to the origin.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// The source of the value: `sub` if it replaces a missing `userId`.
    pub claim: Arc<str>,
    /// The field, which replaces any that the client sent.
    pub field: FieldName,
    /// The claim as text; see [`Claims::claim`].
    pub value: HeaderValue,
}

/// Offsets in `texts`: start of a name, its end and the start of its value, end of the value.
#[derive(Clone, Copy)]
struct Span(u32, u32, u32);

/// Claims are personal data: a log line shows when they expire, not their content.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("expires", &self.expires)
            .field("not_before", &self.not_before)
            .finish_non_exhaustive()
    }
}

impl Claims {
    pub(super) fn new(
        json: &str,
        members: &JsonMembers<'_>,
        forward: &[(Arc<str>, FieldName)],
        expires: Option<u64>,
        not_before: Option<u64>,
    ) -> Self {
        let mut texts = String::with_capacity(json.len());
        let mut spans = Vec::with_capacity(members.len());
        for (name, value) in members {
            if let Some(value) = text(value) {
                // A token is bounded far below 4 GiB.
                let start = texts.len() as u32;
                texts.push_str(name);
                let middle = texts.len() as u32;
                texts.push_str(&value);
                spans.push(Span(start, middle, texts.len() as u32));
            }
        }
        let mut claims = Self {
            json: Arc::from(json),
            texts: texts.into_boxed_str(),
            spans: spans.into_boxed_slice(),
            expires,
            not_before,
            forward: Box::default(),
        };
        claims.forward = forward
            .iter()
            .filter_map(|(claim, header)| {
                // Issuers that have no `userId` name the user in `sub` (RFC 7519 §4.1.2). A `userId` that is present
                // but has no text form is not replaced: that could make one user another.
                let stands_in = &**claim == "userId" && member(members, claim).is_none();
                let claim = if stands_in {
                    "sub".into()
                } else {
                    Arc::clone(claim)
                };
                let value = claims.claim(&claim)?;
                Some(Forwarded {
                    field: header.clone(),
                    value: HeaderValue::from_bytes(value.as_bytes()).ok()?,
                    claim,
                })
            })
            .collect();
        claims
    }

    /// The claims as the issuer wrote them.
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// A claim as text: a string, number or boolean, or an array of strings joined by `,`. `None` if the claim is
    /// absent, or has no unambiguous text form: objects, `null`, empty strings, control characters or space around it,
    /// array members with a comma, numbers beyond those that doubles hold exactly.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.spans.iter().find_map(|span| {
            let found = self.texts.get(span.0 as usize..span.1 as usize)?;
            (found == name).then(|| self.texts.get(span.1 as usize..span.2 as usize))?
        })
    }

    /// The subject of the token (RFC 7519 §4.1.2).
    pub fn sub(&self) -> Option<&str> {
        self.claim("sub")
    }

    /// `exp` in whole seconds, rounded down, without the policy's leeway.
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }

    /// `nbf` in whole seconds, rounded up, without the policy's leeway.
    pub fn not_before(&self) -> Option<u64> {
        self.not_before
    }

    /// True if the token's own times allow it at `now`: the half of verification that a remembered token repeats.
    pub fn current(&self, now: u64, leeway: u64) -> bool {
        self.expires
            .is_none_or(|exp| now < exp.saturating_add(leeway))
            && self
                .not_before
                .is_none_or(|nbf| now.saturating_add(leeway) >= nbf)
    }

    /// Fields to set on the request to the origin, according to the policy's `forward` map.
    pub fn forward(&self) -> &[Forwarded] {
        &self.forward
    }

    /// Approximate size of these claims in bytes, for the bounded memory of verified tokens.
    pub fn bytes(&self) -> usize {
        let forward: usize = self.forward.iter().map(|one| 96 + one.value.len()).sum();
        size_of::<Self>() + self.json.len() + self.texts.len() + size_of_val(&*self.spans) + forward
    }
}

/// Doubles are exact up to here; beyond it two numbers may print alike (RFC 8259 §6).
const EXACT: f64 = 9_007_199_254_740_992.0;

fn text<'j>(value: &'j Json<'_>) -> Option<Cow<'j, str>> {
    let text = match value {
        Json::String(text) => Cow::Borrowed(&**text),
        Json::Number(number) => decimal(number)?.into(),
        Json::Bool(true) => "true".into(),
        Json::Bool(false) => "false".into(),
        Json::Array(items) => {
            let mut joined = String::new();
            for item in items {
                let item = item.as_str()?;
                // A comma inside would make two roles of one.
                if item.is_empty() || item.contains(',') || item.trim() != item {
                    return None;
                }
                if !joined.is_empty() {
                    joined.push(',');
                }
                joined.push_str(item);
            }
            joined.into()
        }
        Json::Null | Json::Object(_) => return None,
    };
    // A field value has no control characters and loses the space around it (RFC 9110 §5.5).
    let plain = !text.is_empty() && !text.chars().any(char::is_control) && text.trim() == text;
    plain.then_some(text)
}

fn decimal(number: &Number) -> Option<String> {
    if let Some(value) = number.as_u64() {
        return Some(value.to_string());
    }
    if let Some(value) = number.as_i64() {
        return Some(value.to_string());
    }
    let value = number.as_f64().filter(|value| value.abs() < EXACT)?;
    Some(value.to_string())
}
