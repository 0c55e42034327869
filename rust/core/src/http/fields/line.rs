//! Fields that many messages have, written once.

use std::rc::Rc;

use super::{
    known::Known,
    name::Named,
    value::{FieldValue, Value},
};

/// A field as it is written.
#[derive(Debug, Clone)]
pub struct FieldLine {
    name: Known,
    text: Rc<[u8]>,
}

impl FieldLine {
    /// The line of a known name and a value.
    pub fn new(name: Known, value: impl Value) -> Self {
        let mut text = Vec::new();
        write_line(&mut text, name.text(), value.bytes());
        Self {
            name,
            text: text.into(),
        }
    }

    /// The name.
    #[inline]
    pub(super) fn name(&self) -> Known {
        self.name
    }

    /// The whole line.
    #[inline]
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The value.
    pub fn value(&self) -> FieldValue<'_> {
        let end = self.text.len().saturating_sub(2);
        let value = self.text.get(self.name.text().len() + 2..end);
        FieldValue::known(value.unwrap_or_default())
    }
}

/// Writes one field line (RFC 9112 §5).
pub(crate) fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
