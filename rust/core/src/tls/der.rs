//! Reading DER (X.690) as far as certificates need it: elements one after another, and nothing that goes past its end.

/// Elements of a constructed value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

/// One element: its tag, its content, and the whole of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const OCTET_STRING: u8 = 0x04;

impl<'a> Der<'a> {
    /// The next element; `None` at the end, or where there is no valid one.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags of several bytes occur in no certificate.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Certificates are shorter than 2^24 bytes; an indefinite length is not DER.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, content })
    }

    /// The next element if it has this tag.
    pub(super) fn next_of(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }
}

impl<'a> Element<'a> {
    /// The elements inside.
    pub(super) fn inside(&self) -> Der<'a> {
        Der(self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_end_where_their_length_says_and_never_later() {
        let mut der = Der(&[0x30, 0x03, 0x02, 0x01, 0x05, 0x04, 0x00]);
        let sequence = der.next_of(SEQUENCE);
        assert_eq!(sequence.map(|it| it.content), Some(&[0x02, 0x01, 0x05][..]));
        let number = sequence.and_then(|it| it.inside().next_of(INTEGER));
        assert_eq!(number.map(|it| it.content), Some(&[5][..]));
        assert!(der.next_of(INTEGER).is_none());
        assert_eq!(der.next().map(|it| it.tag), Some(OCTET_STRING));
        assert!(der.next().is_none());
        for broken in [
            &[0x30][..],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x02, 0],
            &[0x30, 0x82, 1],
            &[0x30, 0x84, 0, 0, 0, 0],
            &[0x3f, 0x01, 0],
        ] {
            assert!(Der(broken).next().is_none(), "{broken:?}");
        }
    }
}
