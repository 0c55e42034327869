//! Which request fields select a response (RFC 9111 §4.1, RFC 9110 §12.5.5).

use http::{HeaderMap, HeaderName, header};
use smallvec::SmallVec;

use super::key::normalised_encoding;
use crate::http::list;

/// A response's `Vary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    None,
    /// Never matches a later request.
    Star,
    /// Sorted, each once.
    Names(SmallVec<[HeaderName; 4]>),
}

/// Reads all lines. A member that is no field name counts as `*`: what cannot be understood cannot be matched.
pub fn of(response: &HeaderMap) -> Vary {
    let mut names: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for line in response.get_all(header::VARY) {
        for member in list(line.as_bytes()) {
            match HeaderName::from_bytes(member) {
                Ok(name) if member != b"*" => names.push(name),
                _ => return Vary::Star,
            }
        }
    }
    if names.is_empty() {
        return Vary::None;
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Vary::Names(names)
}

/// Appends the selecting fields of a request, normalised: lines joined, white space around members dropped, and
/// `Accept-Encoding` reduced to what the edge tells apart. An absent field differs from an empty one.
pub fn secondary(out: &mut Vec<u8>, names: &[HeaderName], request: &HeaderMap) {
    for name in names {
        if name == header::ACCEPT_ENCODING {
            if request.contains_key(name) {
                out.push(1);
                out.extend_from_slice(normalised_encoding(request).as_bytes());
            }
            out.push(0);
            continue;
        }
        let mut lines = request.get_all(name).iter().peekable();
        if lines.peek().is_some() {
            out.push(1);
            let mut first = true;
            for member in lines.flat_map(|line| list(line.as_bytes())) {
                if !first {
                    out.push(b',');
                }
                first = false;
                out.extend_from_slice(member);
            }
        }
        // A field value holds no NUL.
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    fn request(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn vary_is_read_from_all_lines() {
        assert_eq!(of(&request(&[])), Vary::None);
        assert_eq!(of(&request(&[("vary", "Accept, *")])), Vary::Star);
        assert_eq!(of(&request(&[("vary", "a b")])), Vary::Star);
        let names = of(&request(&[("vary", "X-B, x-a"), ("vary", "x-b")]));
        assert!(matches!(names, Vary::Names(names) if names.len() == 2));
    }

    #[test]
    fn requests_match_by_meaning_not_by_spelling() {
        let names = [HeaderName::from_static("x-a")];
        let key = |fields: &[(&'static str, &str)]| {
            let mut out = Vec::new();
            secondary(&mut out, &names, &request(fields));
            out
        };
        assert_eq!(key(&[("x-a", "1,2")]), key(&[("x-a", "1 , 2")]));
        assert_eq!(key(&[("x-a", "1"), ("x-a", "2")]), key(&[("x-a", "1, 2")]));
        assert_ne!(key(&[("x-a", "1")]), key(&[("x-a", "2")]));
        assert_ne!(key(&[]), key(&[("x-a", "")]));
    }
}
