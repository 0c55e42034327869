//! Heads of frames (RFC 9113 §4.1), found in the bytes of one direction of a connection. Payloads are passed over,
//! except for the error code of RST_STREAM, and for pseudo-fields in a client's trailers.

use super::sections::Sections;

/// The bytes that a client begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first line of them, which no request of HTTP/1.1 has.
pub const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Types of frames (RFC 9113 §6).
pub mod kind {
    /// Content.
    pub const DATA: u8 = 0;
    /// A field section, or its beginning.
    pub const HEADERS: u8 = 1;
    /// A priority of RFC 7540.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream.
    pub const RST_STREAM: u8 = 3;
    /// Bounds that the other end keeps.
    pub const SETTINGS: u8 = 4;
    /// A sign of life.
    pub const PING: u8 = 6;
    /// The last frame about streams.
    pub const GOAWAY: u8 = 7;
    /// More room for content.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a field section.
    pub const CONTINUATION: u8 = 9;
}

/// DATA and HEADERS: the last frame of its direction of the stream.
pub const END_STREAM: u8 = 1;
/// SETTINGS: those of the other end are known.
const ACK: u8 = 1;
/// HEADERS and CONTINUATION: the field section ends.
pub const END_HEADERS: u8 = 4;
/// HEADERS: the length of padding comes first, which is at the end.
pub(super) const PADDED: u8 = 8;
/// HEADERS: a priority comes before the fields.
pub(super) const PRIORITY: u8 = 0x20;

/// The code of RST_STREAM that is no error (RFC 9113 §7).
pub const NO_ERROR: u32 = 0;
/// Codes of connections that end by an error.
const FRAME_SIZE_ERROR: u8 = 6;
const COMPRESSION_ERROR: u8 = 9;

const HEAD: usize = 9;
const CODE: usize = 4;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload.
    pub length: u32,
    /// Its type.
    pub kind: u8,
    /// Flags, by the type.
    pub flags: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
    /// The error code of RST_STREAM; 0 in others.
    pub code: u32,
}

impl FrameHead {
    /// True if this ends its direction of the stream.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }

    /// True if no frame of its type has this length (RFC 9113 §6).
    fn is_mis_sized(&self) -> bool {
        match (self.kind, self.length) {
            (kind::PRIORITY, length) => length != 5,
            (kind::RST_STREAM | kind::WINDOW_UPDATE, length) => length != 4,
            (kind::SETTINGS, length) if self.flags & ACK != 0 => length != 0,
            (kind::SETTINGS, length) => !length.is_multiple_of(6),
            (kind::PING, length) => length != 8,
            (kind::GOAWAY, length) => length < 8,
            _ => false,
        }
    }
}

/// Finds the heads in one direction.
#[derive(Debug)]
pub struct FrameReader {
    /// Bytes of the preface that are still to come.
    preface: usize,
    /// The head that has begun, with the error code of RST_STREAM behind it.
    head: [u8; HEAD + CODE],
    held: usize,
    /// Bytes of a payload that are passed over.
    payload: u32,
    /// The payload that is passed over is content.
    in_data: bool,
    /// A field section has begun and not ended.
    in_section: bool,
    /// The payload that is passed over has fields, which are read.
    in_fields: bool,
    /// The field sections of a client.
    sections: Option<Sections>,
    /// A frame had a length that none of its type has.
    is_mis_sized: bool,
}

impl FrameReader {
    /// For the bytes of a client.
    pub fn of_client() -> Self {
        Self {
            preface: PREFACE.len(),
            sections: Some(Sections::default()),
            ..Self::of_server()
        }
    }

    /// For the bytes of a server.
    pub fn of_server() -> Self {
        Self {
            preface: 0,
            head: [0; HEAD + CODE],
            held: 0,
            payload: 0,
            in_data: false,
            in_section: false,
            in_fields: false,
            sections: None,
            is_mis_sized: false,
        }
    }

    /// The code of the error that the other end has made, if one in the size of a frame or in its compression was seen
    /// (RFC 9113 §4.2, §4.3).
    pub fn fault(&self) -> Option<u8> {
        let is_broken = self.sections.as_ref().is_some_and(Sections::is_broken);
        match (self.is_mis_sized, is_broken) {
            (true, _) => Some(FRAME_SIZE_ERROR),
            (false, true) => Some(COMPRESSION_ERROR),
            (false, false) => None,
        }
    }

    /// The streams whose trailers were found to have pseudo-fields (RFC 9113 §8.1) since the last call.
    pub fn take_malformed(&mut self) -> Vec<u32> {
        let sections = self.sections.as_mut();
        sections.map(Sections::take_malformed).unwrap_or_default()
    }

    /// True if the other end has begun something other than content that nothing can follow before it ends.
    pub fn is_incomplete(&self) -> bool {
        self.preface > 0 || self.held > 0 || self.in_section || (self.payload > 0 && !self.in_data)
    }

    /// Reads the next bytes and calls with each head in them.
    pub fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(FrameHead)) {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        bytes = bytes.get(preface..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.payload > 0 {
                let passed = bytes.len().min(self.payload as usize);
                if self.in_fields
                    && let Some(sections) = &mut self.sections
                {
                    sections.read(bytes.get(..passed).unwrap_or_default());
                }
                self.payload -= u32::try_from(passed).unwrap_or(self.payload);
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            let wanted = self.wanted();
            let taken = bytes.len().min(wanted.saturating_sub(self.held));
            let (now, rest) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
            if let Some(place) = self.head.get_mut(self.held..self.held + taken) {
                place.copy_from_slice(now);
            }
            self.held += taken;
            bytes = rest;
            // The kind is known with the first nine bytes: then more may be wanted.
            if self.held == self.wanted() {
                self.begin(&mut found);
            }
        }
    }

    /// Bytes of the head that is being read.
    fn wanted(&self) -> usize {
        match self.head {
            [0, 0, 4, kind::RST_STREAM, ..] if self.held >= HEAD => HEAD + CODE,
            _ => HEAD,
        }
    }

    fn begin(&mut self, found: &mut impl FnMut(FrameHead)) {
        let [a, b, c, kind, flags, w, x, y, z, code @ ..] = self.head;
        let has_code = self.held > HEAD;
        let head = FrameHead {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([w & 0x7f, x, y, z]),
            code: if has_code {
                u32::from_be_bytes(code)
            } else {
                0
            },
        };
        self.held = 0;
        self.is_mis_sized |= head.is_mis_sized();
        self.payload = if has_code { 0 } else { head.length };
        self.in_data = kind == kind::DATA;
        self.in_fields = matches!(kind, kind::HEADERS | kind::CONTINUATION);
        if self.in_fields {
            let ends = flags & END_HEADERS != 0;
            self.in_section = !ends;
            if let Some(sections) = &mut self.sections {
                sections.begin(&head, ends);
            }
        }
        found(head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        let mut frame = length.get(1..).unwrap_or_default().to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn heads(reader: &mut FrameReader, bytes: &[u8], step: usize) -> Vec<FrameHead> {
        let mut found = Vec::new();
        for piece in bytes.chunks(step) {
            reader.read(piece, |head| found.push(head));
        }
        found
    }

    #[test]
    fn heads_are_found_however_the_bytes_come() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(kind::HEADERS, END_HEADERS, 1, &[7; 300]));
        bytes.extend(frame(kind::RST_STREAM, 0, 1, &8u32.to_be_bytes()));
        bytes.extend(frame(kind::DATA, END_STREAM, 0x8000_0003, b"abc"));
        let head = |length, kind, flags, stream, code| FrameHead {
            length,
            kind,
            flags,
            stream,
            code,
        };
        let want = [
            head(0, 4, 0, 0, 0),
            head(300, kind::HEADERS, END_HEADERS, 1, 0),
            head(4, kind::RST_STREAM, 0, 1, 8),
            head(3, kind::DATA, END_STREAM, 3, 0),
        ];
        for step in 1..bytes.len() {
            let mut reader = FrameReader::of_client();
            assert_eq!(heads(&mut reader, &bytes, step), want, "by {step}");
            assert!(!reader.is_incomplete());
        }
    }

    #[test]
    fn something_that_blocks_the_connection_is_incomplete() {
        for (bytes, want) in [
            (PREFACE.get(..3).unwrap_or_default().to_vec(), true),
            (PREFACE.to_vec(), false),
            ([PREFACE, &[0, 0]].concat(), true),
            ([PREFACE, &frame(kind::HEADERS, 0, 1, b"a")].concat(), true),
            (
                [PREFACE, &frame(kind::HEADERS, END_HEADERS, 1, b"a")].concat(),
                false,
            ),
            (
                [
                    PREFACE,
                    &frame(kind::HEADERS, 0, 1, b"a"),
                    &frame(kind::CONTINUATION, END_HEADERS, 1, b"a"),
                ]
                .concat(),
                false,
            ),
            // Content may come slowly: other bounds hold for it.
            (
                [PREFACE, &[0, 0, 9, kind::DATA, 0, 0, 0, 0, 1, 1]].concat(),
                false,
            ),
            (
                [PREFACE, &[0, 0, 9, kind::HEADERS, 4, 0, 0, 0, 1, 1]].concat(),
                true,
            ),
        ] {
            let mut reader = FrameReader::of_client();
            heads(&mut reader, &bytes, 5);
            assert_eq!(reader.is_incomplete(), want, "{bytes:?}");
        }
    }
}
