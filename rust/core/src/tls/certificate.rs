//! The parts of a certificate (RFC 5280) that requests, checks and metrics need. Signatures are verified elsewhere.

use std::{borrow::Cow, fmt::Write as _, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::der::{BOOLEAN, Der, Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET};

/// A certificate as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The subject by RFC 4514, in ASCII; empty if it has none.
    pub subject: String,
    /// Alternative names, as `DNS:…`, `URI:…`, `email:…` and `IP:…`, in ASCII.
    pub names: Vec<String>,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Unix seconds from which, and until which, it is valid.
    pub valid: (i64, i64),
}

/// The fields that the issuer signs, behind the version (RFC 5280 §4.1).
fn signed_fields(der: &[u8]) -> Option<Der<'_>> {
    let mut certificate = Der(der).next_of(SEQUENCE)?.inside();
    let mut fields = certificate.next_of(SEQUENCE)?.inside();
    // The version, if it is not the first one.
    fields.next_of(0xa0);
    Some(fields)
}

/// The facts of a certificate in DER; `None` if it is none.
pub fn certificate_facts(der: &[u8]) -> Option<CertificateFacts> {
    let mut fields = signed_fields(der)?;
    let serial = fields.next_of(INTEGER)?;
    let _signature = fields.next_of(SEQUENCE)?;
    let _issuer = fields.next_of(SEQUENCE)?;
    let mut validity = fields.next_of(SEQUENCE)?.inside();
    let valid = (time(validity.next()?)?, time(validity.next()?)?);
    let subject = fields.next_of(SEQUENCE)?;
    let _key = fields.next_of(SEQUENCE)?;
    // The two unique identifiers.
    fields.next_of(0x81);
    fields.next_of(0x82);
    let mut names = Vec::new();
    if let Some(extensions) = fields.next_of(0xa3) {
        let mut extensions = extensions.inside().next_of(SEQUENCE)?.inside();
        while let Some(extension) = extensions.next_of(SEQUENCE) {
            if let Some(value) = alternative_names(extension) {
                names = value;
            }
        }
    }
    Some(CertificateFacts {
        subject: distinguished(subject)?,
        names,
        serial: hexadecimal(serial.content),
        valid,
    })
}

/// The identifiers of a certificate's authority key and of itself, by which its issuer knows it (RFC 9773 §4.1): the
/// content of `keyIdentifier`, and of the serial number. `None` if it has not both.
pub fn renewal_identifier(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = signed_fields(der)?;
    let serial = fields.next_of(INTEGER)?;
    // Signature, issuer, validity, subject, key.
    for _ in 0..5 {
        fields.next_of(SEQUENCE)?;
    }
    fields.next_of(0x81);
    fields.next_of(0x82);
    let mut extensions = fields.next_of(0xa3)?.inside().next_of(SEQUENCE)?.inside();
    while let Some(extension) = extensions.next_of(SEQUENCE) {
        let mut parts = extension.inside();
        let kind = parts.next_of(OBJECT_IDENTIFIER)?;
        // RFC 5280 §4.2.1.1.
        if kind.content == [0x55, 0x1d, 0x23] {
            parts.next_of(BOOLEAN);
            let value = parts.next_of(OCTET_STRING)?;
            let key = value.inside().next_of(SEQUENCE)?.inside().next_of(0x80)?;
            return Some((key.content, serial.content));
        }
    }
    None
}

/// The public key of a certificate, as SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7), of which pins have the digest.
pub fn public_key(der: &[u8]) -> Option<&[u8]> {
    let mut fields = signed_fields(der)?;
    fields.next_of(INTEGER)?;
    // Signature, issuer, validity, subject.
    for _ in 0..4 {
        fields.next_of(SEQUENCE)?;
    }
    let from = fields.0;
    fields.next_of(SEQUENCE)?;
    from.get(..from.len() - fields.0.len())
}

/// The text for a public key: `sha256//` and its digest in Base64, as curl has it.
pub fn pin(digest: &[u8]) -> String {
    format!("sha256//{}", STANDARD.encode(digest))
}

/// Lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// RFC 5280 §4.2.1.6.
fn alternative_names(extension: Element<'_>) -> Option<Vec<String>> {
    let mut fields = extension.inside();
    let kind = fields.next_of(OBJECT_IDENTIFIER)?;
    if kind.content != [0x55, 0x1d, 0x11] {
        return None;
    }
    fields.next_of(BOOLEAN);
    let value = fields.next_of(OCTET_STRING)?;
    let mut names = value.inside().next_of(SEQUENCE)?.inside();
    let mut found = Vec::new();
    while let Some(name) = names.next() {
        let kind = match name.tag {
            0x81 => "email",
            0x82 => "DNS",
            0x86 => "URI",
            0x87 => {
                if let Some(address) = address(name.content) {
                    found.push(format!("IP:{address}"));
                }
                continue;
            }
            _ => continue,
        };
        // A list of names is separated by commas, and a backslash that is no escape would read like one.
        let mut text = format!("{kind}:");
        for &byte in name.content {
            push(&mut text, byte, matches!(byte, b',' | b'\\'));
        }
        found.push(text);
    }
    Some(found)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// A name by RFC 4514: the last part first, separated by commas.
fn distinguished(name: Element<'_>) -> Option<String> {
    let mut sets = Vec::new();
    let mut parts = name.inside();
    while let Some(set) = parts.next_of(SET) {
        let mut text = String::new();
        let mut attributes = set.inside();
        while let Some(attribute) = attributes.next_of(SEQUENCE) {
            let mut fields = attribute.inside();
            let kind = fields.next_of(OBJECT_IDENTIFIER)?;
            let from = fields.0;
            let value = fields.next()?;
            let whole = from.get(..from.len() - fields.0.len())?;
            if !text.is_empty() {
                text.push('+');
            }
            attribute_text(&mut text, kind.content, value, whole);
        }
        sets.push(text);
    }
    sets.reverse();
    Some(sets.join(","))
}

/// `whole`: of the value, in BER.
fn attribute_text(text: &mut String, kind: &[u8], value: Element<'_>, whole: &[u8]) {
    // RFC 4514 §3, and the address that certificates of people have.
    let short = match kind {
        [0x55, 0x04, 0x03] => Some("CN"),
        [0x55, 0x04, 0x06] => Some("C"),
        [0x55, 0x04, 0x07] => Some("L"),
        [0x55, 0x04, 0x08] => Some("ST"),
        [0x55, 0x04, 0x09] => Some("STREET"),
        [0x55, 0x04, 0x0a] => Some("O"),
        [0x55, 0x04, 0x0b] => Some("OU"),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => Some("UID"),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => Some("DC"),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => Some("emailAddress"),
        _ => None,
    };
    match short.zip(characters(value)) {
        Some((short, characters)) => {
            text.push_str(short);
            text.push('=');
            let last = characters.len().saturating_sub(1);
            for (at, &byte) in characters.iter().enumerate() {
                let edge = (byte == b' ' && (at == 0 || at == last)) || (byte == b'#' && at == 0);
                let special = matches!(byte, b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\');
                push(text, byte, edge || special);
            }
        }
        _ => {
            dotted(text, kind);
            let _ = write!(text, "=#{}", hexadecimal(whole));
        }
    }
}

/// The bytes of a text; in UTF-8 if its form says which characters they are. `None`: it is no text.
fn characters(value: Element<'_>) -> Option<Cow<'_, [u8]>> {
    let text: String = match value.tag {
        // UTF8String, PrintableString, TeletexString, IA5String.
        0x0c | 0x13 | 0x14 | 0x16 => return Some(Cow::Borrowed(value.content)),
        // UniversalString.
        0x1c => {
            let (parts, []) = value.content.as_chunks::<4>() else {
                return None;
            };
            let points = parts
                .iter()
                .map(|part| char::from_u32(u32::from_be_bytes(*part)));
            points.collect::<Option<_>>()?
        }
        // BMPString, as authorities of Windows write names.
        0x1e => {
            let (parts, []) = value.content.as_chunks::<2>() else {
                return None;
            };
            let units = parts.iter().map(|part| u16::from_be_bytes(*part));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()?
        }
        _ => return None,
    };
    Some(Cow::Owned(text.into_bytes()))
}

/// A byte of a name. All but printable ASCII is escaped, as are characters that would end the name.
fn push(text: &mut String, byte: u8, escape: bool) {
    if escape || !(0x20..0x7f).contains(&byte) {
        let _ = write!(text, "\\{byte:02X}");
    } else {
        text.push(char::from(byte));
    }
}

/// The numbers of an object identifier (X.690 §8.19).
fn dotted(text: &mut String, bytes: &[u8]) {
    let mut number = 0u64;
    let mut is_first = true;
    for byte in bytes {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if is_first {
                let top = (number / 40).min(2);
                let _ = write!(text, "{top}.{}", number - top * 40);
                is_first = false;
            } else {
                let _ = write!(text, ".{number}");
            }
            number = 0;
        }
    }
}

/// Unix seconds of a time (RFC 5280 §4.1.2.5): `YYMMDDHHMMSSZ`, or with four digits of the year.
pub(super) fn time(element: Element<'_>) -> Option<i64> {
    let digits = element.content.strip_suffix(b"Z")?;
    let digits = match element.tag {
        0x17 => digits.to_vec(),
        0x18 => digits.get(2..)?.to_vec(),
        _ => return None,
    };
    let two = |at: usize| -> Option<i64> {
        let pair = digits.get(at..at + 2)?;
        let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
        Some(digit(*pair.first()?)? * 10 + digit(*pair.last()?)?)
    };
    let year = match element.tag {
        0x17 => two(0)? + if two(0)? < 50 { 2000 } else { 1900 },
        _ => {
            let century = element.content.get(..2)?;
            let century: i64 = std::str::from_utf8(century).ok()?.parse().ok()?;
            century * 100 + two(0)?
        }
    };
    let (month, day) = (two(2)?, two(4)?);
    let seconds = two(6)? * 3600 + two(8)? * 60 + two(10)?;
    Some(days(year, month, day) * 86_400 + seconds)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last of one.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        for (tag, text, want) in [
            (0x17, "700101000000Z", Some(0)),
            (0x17, "261127093000Z", Some(1_795_771_800)),
            (0x17, "491231235959Z", Some(2_524_607_999)),
            (0x18, "20500101000000Z", Some(2_524_608_000)),
            (0x18, "20000229120000Z", Some(951_825_600)),
            (0x17, "700101000000", None),
            (0x17, "7001010000Z", None),
            (0x17, "7001x1000000Z", None),
            (0x02, "700101000000Z", None),
        ] {
            let element = Element {
                tag,
                content: text.as_bytes(),
            };
            assert_eq!(time(element), want, "{text}");
        }
    }

    #[test]
    fn a_name_is_written_backwards_in_ascii_and_escapes_what_would_end_it() {
        // SET { SEQUENCE { CN, value } }, SET { SEQUENCE { O, value } }.
        let any = |kind: u8, form: u8, value: &[u8]| {
            let mut inner = vec![0x06, 3, 0x55, 0x04, kind, form, value.len() as u8];
            inner.extend_from_slice(value);
            let mut set = vec![0x31, inner.len() as u8 + 2, 0x30, inner.len() as u8];
            set.extend_from_slice(&inner);
            set
        };
        let attribute = |kind: u8, value: &str| any(kind, 0x0c, value.as_bytes());
        let written = |form: u8, value: &[u8]| any(0x03, form, value);
        for (parts, want) in [
            (
                vec![attribute(0x0a, "Ex, Inc"), attribute(0x03, "ada")],
                r"CN=ada,O=Ex\2C Inc",
            ),
            (vec![attribute(0x03, " #é\r\n")], r"CN=\20#\C3\A9\0D\0A"),
            (vec![attribute(0x05, "7")], "2.5.4.5=#0c0137"),
            (vec![], ""),
            // BMPString and UniversalString.
            (vec![written(0x1e, b"\0a\0,\x4e\x2d")], r"CN=a\2C\E4\B8\AD"),
            (vec![written(0x1e, b"\0a\0")], "2.5.4.3=#1e03006100"),
            (vec![written(0x1e, b"\xd8\0")], "2.5.4.3=#1e02d800"),
            (
                vec![written(0x1c, b"\0\0\0a\0\x01\xf6\0")],
                r"CN=a\F0\9F\98\80",
            ),
            (vec![written(0x1c, b"\0\x11\0\0")], "2.5.4.3=#1c0400110000"),
        ] {
            let content = parts.concat();
            let name = Element {
                tag: SEQUENCE,
                content: &content,
            };
            assert_eq!(distinguished(name).unwrap(), want);
        }
    }

    #[test]
    fn the_public_key_is_the_whole_of_its_element() {
        // Version, serial number, signature, issuer, validity, subject, key.
        let key = [0x30, 3, 0x03, 1, 0];
        let mut inner = vec![0xa0, 0, 0x02, 1, 7, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0];
        inner.extend_from_slice(&key);
        let mut fields = vec![0x30, inner.len() as u8];
        fields.extend_from_slice(&inner);
        let mut certificate = vec![0x30, fields.len() as u8];
        certificate.extend_from_slice(&fields);
        assert_eq!(public_key(&certificate), Some(&key[..]));
        assert_eq!(public_key(&certificate[..certificate.len() - 1]), None);
        assert_eq!(pin(&[0; 3]), "sha256//AAAA");
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_facts() {
        for bytes in [
            &b""[..],
            b"\x30\x00",
            b"\x30\x02\x30\x00",
            &[0x30; 64],
            b"-----BEGIN",
        ] {
            assert_eq!(certificate_facts(bytes), None);
        }
    }
}
