//! Names of fields (RFC 9110 §5.1): as the edge makes them, and as they stand in a message.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::HeaderValue;

use super::known::{Known, KnownSet};
use crate::http::token::is_token_byte;

/// A field's name, in lower case.
#[derive(Clone)]
pub struct FieldName(Repr);

#[derive(Clone)]
enum Repr {
    Known(Known),
    Static(&'static str),
    Shared(Arc<str>),
}

/// A text that is no field name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a field name")]
pub struct InvalidFieldName;

/// Longest name.
pub(super) const MOST_NAME: usize = u16::MAX as usize;

impl FieldName {
    /// The name with a text, which must be a token in lower case: for constants.
    pub const fn from_static(text: &'static str) -> Self {
        let known = Known::from_static(text);
        match known.number() {
            Known::NONE => Self(Repr::Static(text)),
            _ => Self(Repr::Known(known)),
        }
    }

    /// A known name.
    #[inline]
    pub const fn known(known: Known) -> Self {
        Self(Repr::Known(known))
    }

    /// The name with a text in any case.
    pub fn from_bytes(text: &[u8]) -> Result<Self, InvalidFieldName> {
        if let Some(known) = Known::of(text) {
            return Ok(Self(Repr::Known(known)));
        }
        if !is_name(text) {
            return Err(InvalidFieldName);
        }
        let text = std::str::from_utf8(text).map_err(|_| InvalidFieldName)?;
        Ok(Self(Repr::Shared(text.to_ascii_lowercase().into())))
    }

    /// True if it is one of a set.
    #[inline]
    pub fn is_of(&self, names: KnownSet) -> bool {
        matches!(&self.0, Repr::Known(known) if names.has(*known))
    }

    /// As the value of a field that lists names.
    pub fn to_value(&self) -> HeaderValue {
        // A token is a value.
        HeaderValue::from_str(self.as_str()).unwrap_or(HeaderValue::from_static(""))
    }

    /// In lower case.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(known) => known.as_str(),
            Repr::Static(text) => text,
            Repr::Shared(text) => text,
        }
    }
}

/// True for a token that is short enough.
pub(super) fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.len() <= MOST_NAME && text.iter().all(|&byte| is_token_byte(byte))
}

impl From<Known> for FieldName {
    #[inline]
    fn from(known: Known) -> Self {
        Self::known(known)
    }
}

impl TryFrom<&str> for FieldName {
    type Error = InvalidFieldName;

    fn try_from(text: &str) -> Result<Self, InvalidFieldName> {
        Self::from_bytes(text.as_bytes())
    }
}

impl std::str::FromStr for FieldName {
    type Err = InvalidFieldName;

    fn from_str(text: &str) -> Result<Self, InvalidFieldName> {
        Self::from_bytes(text.as_bytes())
    }
}

impl PartialEq for FieldName {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Known(one), Repr::Known(other)) => one == other,
            (Repr::Known(_), _) | (_, Repr::Known(_)) => false,
            _ => self.as_str() == other.as_str(),
        }
    }
}

impl Eq for FieldName {}

impl PartialEq<FieldName> for &FieldName {
    #[inline]
    fn eq(&self, other: &FieldName) -> bool {
        **self == *other
    }
}

impl PartialEq<Known> for FieldName {
    #[inline]
    fn eq(&self, other: &Known) -> bool {
        matches!(&self.0, Repr::Known(known) if known == other)
    }
}

impl PartialEq<str> for FieldName {
    fn eq(&self, other: &str) -> bool {
        self.as_str().eq_ignore_ascii_case(other)
    }
}

impl PartialEq<&str> for FieldName {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialOrd for FieldName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FieldName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for FieldName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl AsRef<str> for FieldName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::borrow::Borrow<str> for FieldName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A field's name as it stands in a message, in the case of the wire. Names are equal in any case (RFC 9110 §5.1).
#[derive(Clone, Copy)]
pub struct WireName<'a> {
    pub(super) number: u8,
    pub(super) text: &'a [u8],
}

impl<'a> WireName<'a> {
    /// In the case of the wire.
    #[inline]
    pub fn as_wire(self) -> &'a [u8] {
        self.text
    }

    /// True if it is one of `names`.
    pub fn is_in(self, names: &[FieldName]) -> bool {
        names.iter().any(|name| self == *name)
    }

    /// True if it is one of a set.
    #[inline]
    pub fn is_of(self, names: KnownSet) -> bool {
        names.contains(self.number)
    }

    /// In lower case.
    pub fn lower(self) -> Cow<'a, str> {
        match Known::numbered(self.number) {
            Some(known) => Cow::Borrowed(known.as_str()),
            None => {
                // A token is ASCII.
                let text = std::str::from_utf8(self.text).unwrap_or_default();
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    Cow::Owned(text.to_ascii_lowercase())
                } else {
                    Cow::Borrowed(text)
                }
            }
        }
    }

    /// The name by itself.
    pub fn owned(self) -> FieldName {
        match Known::numbered(self.number) {
            Some(known) => known.into(),
            None => FieldName(Repr::Shared(self.lower().into())),
        }
    }
}

impl<N: Named + ?Sized> PartialEq<N> for WireName<'_> {
    #[inline]
    fn eq(&self, other: &N) -> bool {
        match other.known() {
            Some(known) => self.number == known.number(),
            None => self.number == Known::NONE && self.text.eq_ignore_ascii_case(other.text()),
        }
    }
}

impl fmt::Display for WireName<'_> {
    /// In lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lower())
    }
}

impl fmt::Debug for WireName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.lower(), f)
    }
}

/// A name to find a field by, or to add one under.
pub trait Named {
    /// Its number, if it is known.
    fn known(&self) -> Option<Known>;

    /// Its text, in any case.
    fn text(&self) -> &[u8];
}

impl<N: Named + ?Sized> Named for &N {
    #[inline]
    fn known(&self) -> Option<Known> {
        (**self).known()
    }

    #[inline]
    fn text(&self) -> &[u8] {
        (**self).text()
    }
}

impl Named for Known {
    #[inline]
    fn known(&self) -> Option<Known> {
        Some(*self)
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl Named for FieldName {
    #[inline]
    fn known(&self) -> Option<Known> {
        match &self.0 {
            Repr::Known(known) => Some(*known),
            _ => None,
        }
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl Named for WireName<'_> {
    #[inline]
    fn known(&self) -> Option<Known> {
        Known::numbered(self.number)
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.text
    }
}

impl Named for str {
    fn known(&self) -> Option<Known> {
        Known::of(self.as_bytes())
    }

    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::header;

    #[test]
    fn names_are_tokens() {
        for bad in ["", "a b", "a:", "\u{e4}", "a\n"] {
            assert_eq!(FieldName::try_from(bad), Err(InvalidFieldName), "{bad:?}");
        }
        assert_eq!(
            FieldName::from_bytes(&[b'a'; MOST_NAME + 1]),
            Err(InvalidFieldName)
        );
        assert_eq!(
            FieldName::try_from("X-Own").unwrap_or(header::AGE.into()),
            "x-own"
        );
    }
}
