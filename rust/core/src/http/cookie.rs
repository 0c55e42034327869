//! The `Cookie` field (RFC 6265 §4.2, §5.4): pairs as they were sent, in order, without allocation.
//!
//! A line is octets split at `;` (RFC 6265 §4.2.2; a field value may hold bytes from 0x80 up, RFC 9110 §5.5): a cookie
//! that is not UTF-8 hides no other.

use crate::http::{Fields, framing::trimmed, header};
use http::HeaderValue;

/// The value of the first cookie of that name; surrounding double quotes are part of it.
pub fn get<'a>(headers: &'a Fields, name: &str) -> Option<&'a [u8]> {
    pairs(headers)
        .find(|(known, _)| *known == name.as_bytes())
        .map(|(_, value)| value)
}

/// All pairs of all lines. Pieces without `=` or without a name are not cookies (RFC 6265 §4.2.1) and left out.
pub fn pairs(headers: &Fields) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| parse(line.as_bytes()))
}

/// The pairs of one line.
pub fn parse(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|&byte| byte == b';').filter_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (pair.get(..at)?, pair.get(at + 1..)?);
        let name = trimmed(name);
        (!name.is_empty()).then(|| (name, trimmed(value)))
    })
}

/// Removes one cookie from the request.
pub fn remove(headers: &mut Fields, name: &str) {
    retain(headers, |known| known != name.as_bytes());
}

/// Keeps the chosen cookies, as one line in canonical spelling; removes the field if none is left.
pub fn retain(headers: &mut Fields, keep: impl Fn(&[u8]) -> bool) {
    if !headers.contains_key(header::COOKIE) {
        return;
    }
    let mut line = Vec::new();
    for (name, value) in pairs(headers).filter(|(name, _)| keep(name)) {
        if !line.is_empty() {
            line.extend_from_slice(b"; ");
        }
        line.extend_from_slice(name);
        line.push(b'=');
        line.extend_from_slice(value);
    }
    match HeaderValue::from_bytes(&line) {
        Ok(value) if !line.is_empty() => {
            headers.insert(header::COOKIE, value);
        }
        _ => {
            headers.remove(header::COOKIE);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(lines: &[&[u8]]) -> Fields {
        let mut headers = Fields::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    #[test]
    fn the_first_of_a_name_counts_and_names_are_whole() {
        let headers = headers(&[
            b"xab-variant=no; ab-variant=a; ab-variant=b",
            b"c=d=e; f; =g",
        ]);
        assert_eq!(get(&headers, "ab-variant"), Some(&b"a"[..]));
        assert_eq!(get(&headers, "c"), Some(&b"d=e"[..]));
        assert_eq!(get(&headers, "f"), None);
        assert_eq!(pairs(&headers).count(), 4);
    }

    #[test]
    fn a_cookie_that_is_no_text_hides_no_other() {
        let headers = headers(&[b"a=1; b=\xe4\xff; \xfc=2;c=3"]);
        let all: Vec<_> = pairs(&headers).collect();
        let want: [(&[u8], &[u8]); 4] = [
            (b"a", b"1"),
            (b"b", b"\xe4\xff"),
            (b"\xfc", b"2"),
            (b"c", b"3"),
        ];
        assert_eq!(all, want);
    }

    #[test]
    fn retaining_keeps_order_and_drops_an_empty_field() {
        let mut some = headers(&[b"a=1;  b=2 ;; x", b"c=\xe4"]);
        retain(&mut some, |name| name != b"b");
        assert_eq!(some.get(header::COOKIE).unwrap().as_bytes(), b"a=1; c=\xe4");
        retain(&mut some, |_| false);
        assert!(!some.contains_key(header::COOKIE));
    }
}
