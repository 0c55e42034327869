//! A message's fields (RFC 9110 §5): one buffer with their text, and a short line for each with its places.
//!
//! Names, values and the order are those of the wire, so that a message can be forwarded as it came. A known name has a
//! number, and a set of bits says which of them are present: most look-ups end there.

mod edit;
mod iter;
mod known;
mod line;
mod name;
mod value;

use std::{fmt, ops::Range};

use http::{HeaderMap, HeaderName};

pub(crate) use self::line::write_line;
pub use self::{
    iter::{Iter, Values},
    known::{Known, KnownSet, header},
    line::FieldLine,
    name::{FieldName, InvalidFieldName, Named, WireName},
    value::{FieldValue, Value},
};

/// A list of fields.
pub struct Fields {
    text: Vec<u8>,
    /// The text is the fields in their order as they are written, and nothing else.
    is_wire: bool,
    lines: Vec<Line>,
    /// Known names that are present.
    present: KnownSet,
}

/// Places of a field in the text.
#[derive(Debug, Clone, Copy)]
struct Line {
    name: u32,
    value: u32,
    value_length: u32,
    name_length: u16,
    /// The number of a known name.
    known: u8,
    /// The text has the name, `: `, the value and a line end one behind the other.
    is_written: bool,
}

impl Line {
    /// The places of the whole line; `None` unless it stands in the text as it is written.
    #[inline]
    fn written(&self) -> Option<Range<usize>> {
        let end = (self.value as usize) + (self.value_length as usize) + 2;
        self.is_written.then_some(self.name as usize..end)
    }
}

impl Fields {
    /// Without any field; takes no memory.
    pub const fn new() -> Self {
        Self {
            text: Vec::new(),
            is_wire: true,
            lines: Vec::new(),
            present: KnownSet::of(&[]),
        }
    }

    /// With room for so many fields of common length.
    pub fn with_capacity(fields: usize) -> Self {
        Self {
            text: Vec::with_capacity(fields * 32),
            is_wire: true,
            lines: Vec::with_capacity(fields),
            present: KnownSet::of(&[]),
        }
    }

    /// Without any field yet: `text` holds those that `add_line` will add. `lines`: their number, about.
    pub(crate) fn over(text: &[u8], lines: usize) -> Self {
        let mut own = Vec::with_capacity(text.len() + MORE_TEXT);
        own.extend_from_slice(text);
        Self {
            text: own,
            is_wire: false,
            lines: Vec::with_capacity(lines + MORE_LINES),
            present: KnownSet::of(&[]),
        }
    }

    /// Adds the field whose name and value stand at these places of the text, and gives its name if it is a known one.
    /// The bytes of the value are the caller's to check.
    #[inline]
    pub(crate) fn add_line(
        &mut self,
        name: Range<usize>,
        value: Range<usize>,
    ) -> Result<Option<Known>, InvalidFieldName> {
        let text = self.text.get(name.clone()).unwrap_or_default();
        let known = match Known::of(text) {
            Some(known) => known.number(),
            None if name::is_name(text) => Known::NONE,
            None => return Err(InvalidFieldName),
        };
        let place = |at: usize| u32::try_from(at).map_err(|_| InvalidFieldName);
        self.lines.push(Line {
            name: place(name.start)?,
            value: place(value.start)?,
            value_length: place(value.len())?,
            name_length: u16::try_from(name.len()).map_err(|_| InvalidFieldName)?,
            known,
            is_written: false,
        });
        self.present.add(known);
        Ok(Known::numbered(known))
    }

    /// All lines of the text that `over` was given have been added. Those that stand as they would be written are kept
    /// so.
    pub(crate) fn seal(&mut self) {
        let Self { text, lines, .. } = self;
        let (mut at, mut is_wire) = (0, true);
        for line in lines {
            let (name, value) = (line.name as usize, line.value as usize);
            let (name_end, value_end) = (
                name + usize::from(line.name_length),
                value + line.value_length as usize,
            );
            line.is_written = text.get(name_end..value) == Some(b": ")
                && text.get(value_end..value_end + 2) == Some(b"\r\n");
            is_wire &= line.is_written && name == at;
            at = value_end + 2;
        }
        self.is_wire = is_wire && at == text.len();
    }

    /// The number of fields.
    #[inline]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True without any field.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// True if there is a field of a name.
    #[inline]
    pub fn contains_key(&self, name: impl Named) -> bool {
        self.first(&name).is_some()
    }

    /// The value of a name's first field.
    #[inline]
    pub fn get(&self, name: impl Named) -> Option<FieldValue<'_>> {
        let (_, line) = self.first(&name)?;
        Some(self.value(line))
    }

    /// The value of a name's only field. Several lines of a field that is no list have no value together (RFC 9110
    /// §5.3), and a receiver that took one of them could take another than the next one.
    #[inline]
    pub fn sole(&self, name: impl Named) -> Option<FieldValue<'_>> {
        let (at, line) = self.first(&name)?;
        let mut others = self.lines.get(at + 1..).unwrap_or_default().iter();
        let is_alone = !others.any(|line| self.name(line) == name);
        is_alone.then(|| self.value(line))
    }

    /// The values of a name's fields in their order.
    #[inline]
    pub fn get_all<N: Named>(&self, name: N) -> Values<'_, N> {
        // Most names that are looked for are absent.
        let is_absent = name.known().is_some_and(|known| !self.present.has(known));
        let lines = match is_absent {
            true => [].iter(),
            false => self.lines.iter(),
        };
        Values {
            fields: self,
            lines,
            name,
        }
    }

    /// The fields in their order.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            fields: self,
            lines: self.lines.iter(),
        }
    }

    /// The names of the fields in their order: one for each field.
    #[inline]
    pub fn keys(&self) -> impl Iterator<Item = WireName<'_>> {
        self.lines.iter().map(|line| self.name(line))
    }

    /// The names, each once, in the order of their first fields.
    pub fn names(&self) -> impl Iterator<Item = WireName<'_>> {
        let lines = self.lines.iter().enumerate();
        lines.filter_map(|(at, line)| {
            let name = self.name(line);
            let (first, _) = self.first(&name)?;
            (first == at).then_some(name)
        })
    }

    /// True if no name of a set is present.
    #[inline]
    pub fn has_none_of(&self, names: KnownSet) -> bool {
        !self.present.meets(names)
    }

    /// Writes the lines of the fields (RFC 9112 §5).
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.is_wire {
            return out.extend_from_slice(&self.text);
        }
        out.reserve(self.text.len() + 4 * self.lines.len());
        let written = |places: Range<usize>| self.text.get(places).unwrap_or_default();
        // Lines that stand one behind the other are copied together.
        let mut run = 0..0;
        for line in &self.lines {
            match line.written() {
                Some(next) if next.start == run.end => run.end = next.end,
                Some(next) => out.extend_from_slice(written(std::mem::replace(&mut run, next))),
                None => {
                    out.extend_from_slice(written(std::mem::take(&mut run)));
                    write_line(out, self.name(line).as_wire(), self.value(line).as_bytes());
                }
            }
        }
        out.extend_from_slice(written(run));
    }

    /// Bytes of names and values.
    pub fn bytes(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.as_wire().len() + value.len())
            .sum()
    }

    /// The place and the line of a name's first field.
    #[inline(always)]
    fn first(&self, name: &impl Named) -> Option<(usize, &Line)> {
        match name.known() {
            // The name is a constant nearly everywhere: this is one test of a bit.
            Some(known) if !self.present.has(known) => None,
            Some(known) => self.first_known(known.number()),
            None => self.first_unknown(name.text()),
        }
    }

    fn first_known(&self, known: u8) -> Option<(usize, &Line)> {
        let mut lines = self.lines.iter().enumerate();
        lines.find(|(_, line)| line.known == known)
    }

    fn first_unknown(&self, text: &[u8]) -> Option<(usize, &Line)> {
        self.lines.iter().enumerate().find(|(_, line)| {
            line.known == Known::NONE
                && usize::from(line.name_length) == text.len()
                && self.name(line).text.eq_ignore_ascii_case(text)
        })
    }

    #[inline]
    fn name(&self, line: &Line) -> WireName<'_> {
        wire_name(&self.text, line)
    }

    #[inline]
    fn value(&self, line: &Line) -> FieldValue<'_> {
        value_of(&self.text, line)
    }
}

#[inline]
fn wire_name<'a>(text: &'a [u8], line: &Line) -> WireName<'a> {
    WireName {
        number: line.known,
        text: part(text, line.name, u32::from(line.name_length)),
    }
}

#[inline]
fn value_of<'a>(text: &'a [u8], line: &Line) -> FieldValue<'a> {
    FieldValue::known(part(text, line.value, line.value_length))
}

#[inline]
fn part(text: &[u8], start: u32, length: u32) -> &[u8] {
    let start = start as usize;
    text.get(start..start + length as usize).unwrap_or_default()
}

impl<N: Named, V: Value> Extend<(N, V)> for Fields {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, fields: I) {
        for (name, value) in fields {
            self.append(name, value);
        }
    }
}

impl<N: Named, V: Value> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut all = Self::new();
        all.extend(fields);
        all
    }
}

impl From<Fields> for HeaderMap {
    /// For a library that has fields of its own.
    fn from(fields: Fields) -> Self {
        let mut map = Self::new();
        for (name, value) in &fields {
            if let Ok(name) = HeaderName::from_bytes(name.as_wire()) {
                // Fails beyond 32,768 names: no message has as many.
                let _ = map.try_append(name, value.owned());
            }
        }
        map
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len());
        for (name, value) in map {
            fields.append(name.as_str(), value);
        }
        fields
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
    }
}

/// Room for what the edge adds to a message.
const MORE_TEXT: usize = 256;
const MORE_LINES: usize = 8;

impl Clone for Fields {
    /// With room for more: who copies a list wants to change it.
    fn clone(&self) -> Self {
        if self.is_empty() {
            return Self::new();
        }
        let mut text = Vec::with_capacity(self.text.len() + MORE_TEXT);
        text.extend_from_slice(&self.text);
        let mut lines = Vec::with_capacity(self.lines.len() + MORE_LINES);
        lines.extend_from_slice(&self.lines);
        Self {
            text,
            lines,
            ..*self
        }
    }
}

impl PartialEq for Fields {
    /// The same names with the same values, those of one name in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.present == other.present
            && self
                .keys()
                .all(|name| self.get_all(name).iter().eq(other.get_all(name).iter()))
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    /// Without the values: some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
