//! Fields that many messages have, written once.

use std::rc::Rc;

use super::{
    Fields, Line,
    name::{Known, Named},
    value::{FieldValue, Value},
    write_line,
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

    /// The value.
    pub fn value(&self) -> FieldValue<'_> {
        let end = self.text.len().saturating_sub(2);
        let value = self.text.get(self.name.text().len() + 2..end);
        FieldValue::known(value.unwrap_or_default())
    }
}

impl Fields {
    /// As `insert`, of a field that is written already.
    pub fn insert_line(&mut self, line: &FieldLine) {
        if self.contains_key(line.name) {
            return self.insert(line.name, line.value());
        }
        let name_length = line.name.text().len();
        self.make_room(line.text.len());
        // Nothing is added past 4 GiB, as in `append`.
        if let Ok(name) = u32::try_from(self.text.len())
            && let Ok(value) = u32::try_from(self.text.len() + name_length + 2)
            && let Ok(name_length) = u16::try_from(name_length)
        {
            self.text.extend_from_slice(&line.text);
            self.present.add(line.name.number());
            self.lines.push(Line {
                name,
                value,
                value_length: line.value().len() as u32,
                name_length,
                known: line.name.number(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::http::header;

    #[test]
    fn a_written_line_is_as_good_as_its_name_and_value() {
        let line = FieldLine::new(header::AGE, HeaderValue::from_static("12"));
        assert_eq!(line.value(), "12");
        for before in [None, Some("7"), Some("700")] {
            let (mut one, mut other) = (Fields::new(), Fields::new());
            for fields in [&mut one, &mut other] {
                fields.append(header::ETAG, HeaderValue::from_static("\"a\""));
                if let Some(value) = before {
                    fields.append(header::AGE, HeaderValue::from_static(value));
                }
            }
            one.insert_line(&line);
            other.insert(header::AGE, line.value());
            let (mut left, mut right) = (Vec::new(), Vec::new());
            one.write(&mut left);
            other.write(&mut right);
            assert_eq!(left, right);
            assert_eq!(one, other);
        }
    }
}
