//! The `Cookie` field (RFC 6265 §4.2, §5.4): pairs as they were sent, in order, without allocation.

use http::{HeaderMap, HeaderValue, header};

/// The value of the first cookie of that name; surrounding double quotes are part of it.
pub fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    pairs(headers)
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// All pairs of all lines. Pairs without `=`, and lines that are not ASCII, are left out.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(parse)
}

/// The pairs of one line.
pub fn parse(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim_matches([' ', '\t']);
        (!name.is_empty()).then(|| (name, value.trim_matches([' ', '\t'])))
    })
}

/// Takes one cookie out of the request.
pub fn remove(headers: &mut HeaderMap, name: &str) {
    retain(headers, |known| known != name);
}

/// Keeps the chosen cookies, as one line; the field goes when none is left.
pub fn retain(headers: &mut HeaderMap, keep: impl Fn(&str) -> bool) {
    if !headers.contains_key(header::COOKIE) {
        return;
    }
    let mut line = String::new();
    for (name, value) in pairs(headers).filter(|(name, _)| keep(name)) {
        if !line.is_empty() {
            line.push_str("; ");
        }
        line.push_str(name);
        line.push('=');
        line.push_str(value);
    }
    match HeaderValue::from_str(&line) {
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

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn the_first_of_a_name_counts_and_names_are_whole() {
        let headers = headers(&["xab-variant=no; ab-variant=a; ab-variant=b", "c=d=e; f; =g"]);
        assert_eq!(get(&headers, "ab-variant"), Some("a"));
        assert_eq!(get(&headers, "c"), Some("d=e"));
        assert_eq!(get(&headers, "f"), None);
        assert_eq!(pairs(&headers).count(), 4);
    }

    #[test]
    fn retaining_keeps_order_and_drops_an_empty_field() {
        let mut some = headers(&["a=1; b=2", "c=3"]);
        retain(&mut some, |name| name != "b");
        assert_eq!(some.get(header::COOKIE).unwrap(), "a=1; c=3");
        retain(&mut some, |_| false);
        assert!(!some.contains_key(header::COOKIE));
    }
}
