//! Field sections as HPACK writes them (RFC 7541 §6), as far as finding pseudo-fields in trailers needs it: the library
//! drops those, and a message that has some is malformed (RFC 9113 §8.1).
//!
//! Values are passed over. A name may stand for one of an earlier section, so every section of a client is read.

use super::frames::{FrameHead, PADDED, PRIORITY, kind};

/// Reads the field sections of one client in their order.
#[derive(Debug, Default)]
pub(super) struct Sections {
    fields: FieldReader,
    stream: u32,
    /// The highest stream of any section: one of it, or of a lower one, is of trailers.
    last: u32,
    is_trailers: bool,
    ends: bool,
    /// Bytes of the frame that are still to come, and those of them that are padding.
    left: u32,
    padding: u32,
    /// The first byte is the length of the padding.
    is_padded: bool,
    /// Bytes of a priority in front of the section.
    priority: u32,
    malformed: Vec<u32>,
}

impl Sections {
    /// A frame begins. `ends`: its section ends with it.
    pub(super) fn begin(&mut self, head: &FrameHead, ends: bool) {
        self.ends = ends;
        self.left = head.length;
        (self.padding, self.priority, self.is_padded) = (0, 0, false);
        if head.kind == kind::HEADERS {
            self.stream = head.stream;
            self.is_trailers = head.stream <= self.last;
            self.last = self.last.max(head.stream);
            self.fields.begin();
            self.is_padded = head.flags & PADDED != 0;
            self.priority = if head.flags & PRIORITY != 0 { 5 } else { 0 };
        }
        self.end();
    }

    /// Reads a part of its payload.
    pub(super) fn read(&mut self, mut payload: &[u8]) {
        if self.is_padded
            && let Some((&padding, rest)) = payload.split_first()
        {
            self.is_padded = false;
            self.padding = padding.into();
            self.left = self.left.saturating_sub(1);
            payload = rest;
        }
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let skipped = self.priority.min(length);
        self.priority -= skipped;
        let fields = self.left.saturating_sub(self.padding).min(length);
        if let Some(fields) = payload.get(skipped as usize..fields as usize) {
            self.fields.read(fields);
        }
        self.left = self.left.saturating_sub(length);
        self.end();
    }

    fn end(&mut self) {
        if self.left == 0 && self.ends {
            self.fields.end();
        }
        if self.left == 0 && self.ends && self.is_trailers && self.fields.has_pseudo {
            self.malformed.push(self.stream);
            self.fields.has_pseudo = false;
        }
    }

    /// True if a section was no HPACK. Huffman codes are passed over.
    pub(super) fn is_broken(&self) -> bool {
        self.fields.is_broken
    }

    /// The streams whose trailers have pseudo-fields, since the last call.
    pub(super) fn take_malformed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.malformed)
    }
}

/// Fields of the static table that are pseudo-fields, and the end of that table (RFC 7541, appendix A).
const PSEUDO: u32 = 14;
const STATIC: u32 = 61;
/// Bytes and entries of the dynamic table at most: the edge leaves it as it is.
const TABLE: u32 = 4_096;
const ENTRIES: u8 = 128;
/// Bits in front of the last byte of an integer that the library reads.
const MOST_SHIFT: u8 = 28;

/// Reads fields from the bytes of a section, however they come.
#[derive(Debug, Default)]
struct FieldReader {
    step: Step,
    /// Of the last fields that were added to the dynamic table, the newest in the lowest bit: true for a pseudo-field.
    added: u128,
    /// How many of them there are.
    entries: u8,
    has_pseudo: bool,
    /// A field of the section has begun: the size of the table may change in front of the first only (RFC 7541 §4.2).
    has_field: bool,
    /// A section could not be read.
    is_broken: bool,
}

/// The part of a field that comes next.
#[derive(Debug, Default, Clone, Copy)]
enum Step {
    #[default]
    Field,
    Index(Form, Number),
    /// The length of a name or of a value begins.
    Length(Text),
    LengthGoesOn(Text, IsHuffman, Number),
    /// The first byte of a name of so many.
    Name(Form, IsHuffman, u32),
    /// The rest of a text.
    Rest(Text, u32),
}

type IsHuffman = bool;

/// Representations of a field (RFC 7541 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Indexed,
    Added,
    NotAdded,
    /// A new size of the table, which is no field.
    Size,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Name(Form),
    Value,
}

/// An integer (RFC 7541 §5.1) that goes on.
#[derive(Debug, Clone, Copy)]
struct Number {
    value: u32,
    shift: u8,
}

impl Number {
    /// The number in a first byte, or its beginning if all bits of the prefix are set.
    fn begin(byte: u8, prefix: u8) -> Result<u32, Self> {
        let value = u32::from(byte & prefix);
        match byte & prefix == prefix {
            false => Ok(value),
            true => Err(Self { value, shift: 0 }),
        }
    }

    /// One past 2^28 is an error of the library, which ends the connection.
    fn next(self, byte: u8) -> Result<u32, Self> {
        let part = u32::from(byte & 0x7f)
            .checked_shl(self.shift.into())
            .unwrap_or(0);
        let value = self.value.saturating_add(part);
        match byte & 0x80 {
            0 => Ok(value),
            _ => Err(Self {
                value,
                shift: self.shift.saturating_add(7),
            }),
        }
    }
}

impl FieldReader {
    fn begin(&mut self) {
        self.step = Step::Field;
        self.has_pseudo = false;
        self.has_field = false;
    }

    /// The section has ended.
    fn end(&mut self) {
        self.is_broken |= !matches!(self.step, Step::Field);
    }

    /// An integer goes on.
    fn go_on(&mut self, number: Number) -> Number {
        self.is_broken |= number.shift > MOST_SHIFT;
        number
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            (self.step, bytes) = match self.step {
                Step::Rest(of, left) => {
                    let passed = bytes.len().min(left as usize);
                    let left = left - u32::try_from(passed).unwrap_or(left);
                    (rest_of(of, left), bytes.get(passed..).unwrap_or_default())
                }
                Step::Field => (self.field(byte), rest),
                Step::Index(form, number) => match number.next(byte) {
                    Ok(index) => (self.indexed(form, index), rest),
                    Err(number) => (Step::Index(form, self.go_on(number)), rest),
                },
                Step::Length(of) => {
                    let is_huffman = byte & 0x80 != 0;
                    match Number::begin(byte, 0x7f) {
                        Ok(length) => (self.text(of, is_huffman, length), rest),
                        Err(number) => (Step::LengthGoesOn(of, is_huffman, number), rest),
                    }
                }
                Step::LengthGoesOn(of, is_huffman, number) => match number.next(byte) {
                    Ok(length) => (self.text(of, is_huffman, length), rest),
                    Err(number) => (Step::LengthGoesOn(of, is_huffman, self.go_on(number)), rest),
                },
                Step::Name(form, is_huffman, length) => {
                    // The code of a colon has seven bits.
                    let is_pseudo = match is_huffman {
                        true => byte & 0xfe == 0xb8,
                        false => byte == b':',
                    };
                    self.note(form, is_pseudo);
                    (rest_of(Text::Name(form), length - 1), rest)
                }
            };
        }
    }

    /// The first byte of a field.
    fn field(&mut self, byte: u8) -> Step {
        let (form, prefix) = match byte {
            0x80.. => (Form::Indexed, 0x7f),
            0x40.. => (Form::Added, 0x3f),
            0x20.. => (Form::Size, 0x1f),
            _ => (Form::NotAdded, 0x0f),
        };
        match Number::begin(byte, prefix) {
            Ok(index) => self.indexed(form, index),
            Err(number) => Step::Index(form, number),
        }
    }

    fn indexed(&mut self, form: Form, index: u32) -> Step {
        match form {
            Form::Size => {
                self.is_broken |= self.has_field || index > TABLE;
                return Step::Field;
            }
            Form::Added | Form::NotAdded if index == 0 => return Step::Length(Text::Name(form)),
            _ => {}
        }
        let is_pseudo = match index.checked_sub(STATIC + 1) {
            None => {
                self.is_broken |= index == 0;
                (1..=PSEUDO).contains(&index)
            }
            Some(age) => {
                self.is_broken |= age >= u32::from(self.entries);
                self.added.checked_shr(age).unwrap_or(0) & 1 == 1
            }
        };
        self.note(form, is_pseudo);
        match form {
            Form::Indexed => Step::Field,
            _ => Step::Length(Text::Value),
        }
    }

    fn note(&mut self, form: Form, is_pseudo: bool) {
        self.has_pseudo |= is_pseudo;
        self.has_field = true;
        if form == Form::Added {
            self.entries = ENTRIES.min(self.entries + 1);
            self.added = self.added << 1 | u128::from(is_pseudo);
        }
    }

    fn text(&mut self, of: Text, is_huffman: bool, length: u32) -> Step {
        match of {
            Text::Name(form) if length > 0 => Step::Name(form, is_huffman, length),
            Text::Name(form) => {
                self.note(form, false);
                Step::Length(Text::Value)
            }
            Text::Value => rest_of(of, length),
        }
    }
}

/// The rest of a text, or what follows it.
fn rest_of(of: Text, left: u32) -> Step {
    match of {
        _ if left > 0 => Step::Rest(of, left),
        Text::Name(_) => Step::Length(Text::Value),
        Text::Value => Step::Field,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h2::frames::END_HEADERS;

    /// True if a section has a pseudo-field, whichever way its bytes come.
    fn has_pseudo(reader: &mut FieldReader, section: &[u8], step: usize) -> bool {
        reader.begin();
        for piece in section.chunks(step) {
            reader.read(piece);
        }
        assert!(matches!(reader.step, Step::Field), "{section:?}");
        reader.has_pseudo
    }

    #[test]
    fn pseudo_fields_are_found_in_every_form() {
        for step in 1..8 {
            let mut reader = FieldReader::default();
            for (section, want) in [
                (&b"\x82"[..], true),            // :method GET
                (b"\x8e", true),                 // :status 500
                (b"\x8f", false),                // accept-charset
                (b"\x04\x02/a", true),           // :path /a, not added
                (b"\x14\x02/a", true),           // the same, never added
                (b"\x0f\x01\x011", false),       // accept-language (16), not added
                (b"\x00\x02:x\x011", true),      // a name that is written
                (b"\x00\x02x:\x011", false),     // a colon elsewhere
                (b"\x10\x82\xb8\xff\x00", true), // the same by Huffman's code
                (b"\x00\x81\xf3\x00", false),    // x by that
                (b"\x3f\xe1\x1f\x82", true),     // behind a new size of the table
                (b"\x40\x01x\x03:ab", false),    // x is added
                (b"\xbe", false),                // x again
                (b"\x44\x02/b", true),           // :path is added
                (b"\xbe", true),                 // :path again
                (b"\xbf", false),                // x, which is the second now
                (b"\x7e\x011", true),            // the name of the newest, added again
                (b"\xbf", true),
                (b"\xc0", false),
                (b"\xff\x00", false), // index 127, which is empty
                (b"\xff\xff\xff\xff\x7f", false),
                (b"\x00\x00\x00", false),
                (b"", false),
            ] {
                assert_eq!(has_pseudo(&mut reader, section, step), want, "{section:?}");
            }
            let long = [
                &b"\x00\x7f\x81\x02"[..],
                &[b':'; 384],
                b"\x7f\x00",
                &[0; 127],
            ]
            .concat();
            assert!(has_pseudo(&mut reader, &long, step));
        }
    }

    #[test]
    fn a_section_that_is_no_hpack_is_known() {
        for (section, want) in [
            (&b"\x82\x84"[..], false),
            (b"\x3f\xe1\x1f\x20\x82", false), // sizes of the table in front of all fields
            (b"\x40\x01x\x011\xbe", false),   // a field that was just added
            (b"\x40\x01x\x011\xbf", true),    // the one before it
            (b"\xbe", true),                  // the first of an empty table
            (b"\x7e\x011", true),             // a name of it
            (b"\x80", true),                  // no entry
            (b"\x82\x20", true),              // a size behind a field
            (b"\x3f\xe2\x1f", true),          // 4,097
            (b"\x00\x01x\x05abc", true),      // the end in a value,
            (b"\x00\x05abc", true),           // in a name,
            (b"\x00", true),                  // before it,
            (b"\xff\x80", true),              // and in a number
            (b"\xff\xff\xff\xff\xff\xff\x0f", true),
        ] {
            for step in 1..8 {
                let mut reader = FieldReader::default();
                reader.begin();
                for piece in section.chunks(step) {
                    reader.read(piece);
                }
                reader.end();
                assert_eq!(reader.is_broken, want, "{section:?} by {step}");
            }
        }
    }

    #[test]
    fn trailers_are_the_sections_of_a_stream_behind_its_first() {
        let mut sections = Sections::default();
        let mut send = |kind, flags, stream, payload: &[u8]| {
            let head = FrameHead {
                length: u32::try_from(payload.len()).unwrap_or(0),
                kind,
                flags,
                stream,
                code: 0,
            };
            sections.begin(&head, flags & END_HEADERS != 0);
            for piece in payload.chunks(2) {
                sections.read(piece);
            }
            sections.take_malformed()
        };
        const NONE: Vec<u32> = Vec::new();
        assert_eq!(send(kind::HEADERS, END_HEADERS, 1, b"\x82\x84"), NONE);
        assert_eq!(send(kind::HEADERS, END_HEADERS, 3, b"\x82\x84"), NONE);
        assert_eq!(send(kind::HEADERS, END_HEADERS, 3, b"\x8f"), NONE);
        assert_eq!(send(kind::HEADERS, END_HEADERS, 1, b"\x84"), [1]);
        // In two frames, with a priority and padding that looks like a field.
        assert_eq!(send(kind::HEADERS, 0, 3, b""), NONE);
        assert_eq!(send(kind::CONTINUATION, END_HEADERS, 3, b"\x84"), [3]);
        let both = PADDED | PRIORITY | END_HEADERS;
        let padded = b"\x02\x82\x82\x82\x82\x82\x8f\x82\x82";
        assert_eq!(send(kind::HEADERS, both, 3, padded), NONE);
        let padded = b"\x02\x82\x82\x82\x82\x82\x82\x8f\x8f";
        assert_eq!(send(kind::HEADERS, both, 3, padded), [3]);
        assert_eq!(send(kind::HEADERS, END_HEADERS, 3, b""), NONE);
    }
}
