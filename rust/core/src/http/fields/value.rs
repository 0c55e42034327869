//! Values of fields (RFC 9110 §5.5): bytes without controls, read from a message or made by the edge.

use std::fmt;

use http::HeaderValue;

use crate::{admit::Authority, http::words::Word};

/// A field's value in its list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldValue<'a>(&'a [u8]);

/// A value with other bytes than visible ASCII, spaces and tabs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not visible ASCII")]
pub struct NotAscii;

impl<'a> FieldValue<'a> {
    /// `None` if the bytes have a control among them.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let is_valid = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\t';
        // Tabs are rare.
        let valid = has_no_control(bytes) || bytes.iter().all(is_valid);
        valid.then_some(Self(bytes))
    }

    /// Bytes that are known to be a value.
    #[inline]
    pub(super) const fn known(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// As they are on the wire, without white space around them.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Bytes.
    #[inline]
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// True without any byte.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The text of a value in visible ASCII.
    pub fn to_str(self) -> Result<&'a str, NotAscii> {
        let plain = self
            .0
            .iter()
            .all(|&byte| matches!(byte, b' '..=b'~' | b'\t'));
        let text = plain.then(|| std::str::from_utf8(self.0).ok()).flatten();
        text.ok_or(NotAscii)
    }

    /// A copy by itself.
    pub fn owned(self) -> HeaderValue {
        // The bytes come from a value, so they are one.
        HeaderValue::from_bytes(self.0).unwrap_or(HeaderValue::from_static(""))
    }
}

/// True if the bytes are eight or more without a control, tabs included.
#[inline]
fn has_no_control(bytes: &[u8]) -> bool {
    // The last eight are most often in two words.
    let Some(last) = bytes.last_chunk() else {
        return false;
    };
    let (words, _) = bytes.as_chunks();
    let is_plain = |word: &[u8; 8]| !Word::of(*word).has_control();
    words.iter().all(is_plain) && is_plain(last)
}

impl<'a> From<&'a HeaderValue> for FieldValue<'a> {
    fn from(value: &'a HeaderValue) -> Self {
        Self(value.as_bytes())
    }
}

impl AsRef<[u8]> for FieldValue<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl PartialEq<str> for FieldValue<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for FieldValue<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<HeaderValue> for FieldValue<'_> {
    fn eq(&self, other: &HeaderValue) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.escape_ascii().to_string(), f)
    }
}

/// Bytes that are known to be a field's value.
pub trait Value: private::Sealed {
    /// The bytes.
    fn bytes(&self) -> &[u8];
}

impl<V: Value + ?Sized> Value for &V {
    #[inline]
    fn bytes(&self) -> &[u8] {
        (**self).bytes()
    }
}

impl Value for HeaderValue {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Value for FieldValue<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.0
    }
}

impl Value for Authority {
    /// A host's bytes are visible.
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

mod private {
    use crate::{admit::Authority, http::fields::value::FieldValue};
    use http::HeaderValue;

    pub trait Sealed {}
    impl<V: Sealed + ?Sized> Sealed for &V {}
    impl Sealed for HeaderValue {}
    impl Sealed for FieldValue<'_> {}
    impl Sealed for Authority {}
}
