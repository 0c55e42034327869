//! Percent-encoding (RFC 3986 §2.1). Which bytes are escaped, and what becomes of an escape that is none, is for the
//! caller to say.

/// A byte of a text, by how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Plain(u8),
    Escaped(u8),
    /// A `%` without two hexadecimal digits behind it.
    Broken,
}

/// The bytes of a text.
pub(crate) fn read(text: &[u8]) -> impl Iterator<Item = Written> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, behind) = rest.split_first()?;
        rest = behind;
        if first != b'%' {
            return Some(Written::Plain(first));
        }
        let Some((byte, behind)) = escaped(behind) else {
            return Some(Written::Broken);
        };
        rest = behind;
        Some(Written::Escaped(byte))
    })
}

/// The byte that an escape stands for, and what is behind it. `text`: what is behind the `%`.
pub(crate) fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, behind) = text.split_first_chunk::<2>()?;
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    Some((u8::try_from(high? * 16 + low?).ok()?, behind))
}

/// Decodes. A `%` that begins no escape stays, as in browsers.
pub(crate) fn decoded(text: &[u8]) -> Vec<u8> {
    let byte = |written| match written {
        Written::Plain(byte) | Written::Escaped(byte) => byte,
        Written::Broken => b'%',
    };
    read(text).map(byte).collect()
}

/// Decodes; `None` if a `%` begins no escape.
pub(crate) fn strictly_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let byte = |written| match written {
        Written::Plain(byte) | Written::Escaped(byte) => Some(byte),
        Written::Broken => None,
    };
    read(text).map(byte).collect()
}

/// Escapes the bytes that do not stay.
pub(crate) fn encoded(text: &[u8], stays: impl Fn(u8) -> bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        if stays(byte) {
            out.push(byte);
        } else {
            escape(byte, &mut out);
        }
    }
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Writes the escape of a byte, in capitals as URLs are compared by them.
pub(crate) fn escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied();
    out.push(b'%');
    out.extend([byte >> 4, byte & 15].into_iter().filter_map(digit));
}

/// True of a character that means the same with and without an escape (RFC 3986 §2.3).
pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_without_two_digits_is_no_escape() {
        for (text, lenient, strict) in [
            ("", "", Some("")),
            ("a%2Fb%2f", "a/b/", Some("a/b/")),
            ("%", "%", None),
            ("%4", "%4", None),
            ("%4g%41", "%4gA", None),
            ("%%41", "%A", None),
            ("%+1", "%+1", None),
        ] {
            assert_eq!(decoded(text.as_bytes()), lenient.as_bytes(), "{text}");
            let found = strictly_decoded(text.as_bytes());
            assert_eq!(found.as_deref(), strict.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn escapes_are_in_capitals() {
        assert_eq!(encoded("a/é~".as_bytes(), is_unreserved), "a%2F%C3%A9~");
        assert_eq!(encoded("é%".as_bytes(), |byte| byte != b'%'), "é%25");
    }
}
