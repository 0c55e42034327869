//! `Accept-Encoding` and `Accept-Language`, to one spelling of each meaning (RFC 9110 §12.5.3 and §12.5.4), and the
//! media types that `Accept` names.

use crate::http::{Fields, header};
use http::HeaderValue;
use smallvec::SmallVec;

use super::{
    coding::{self, ContentCoding},
    list,
    weight::{MediaRange, WHOLE, weighted},
};

/// True if `Accept` has the media type by its name, with another weight than 0 (RFC 9110 §12.5.1).
pub fn names(request: &Fields, media_type: &str) -> bool {
    media_ranges(request)
        .any(|range| range.weight > 0 && range.name.eq_ignore_ascii_case(media_type.as_bytes()))
}

/// The members of `Accept`, without those whose weight is invalid.
fn media_ranges(request: &Fields) -> impl Iterator<Item = MediaRange<'_>> {
    let lines = request.get_all(header::ACCEPT).iter();
    let members = lines.flat_map(|line| list(line.as_bytes()));
    members.filter_map(MediaRange::of)
}

/// The codings that the edge keeps apart, of those that the request takes: `br`, `zstd`, `gzip` or several of them in
/// this order, or `identity`.
pub fn normalised_encoding(headers: &Fields) -> &'static str {
    let accepted = coding::accepted(headers);
    let takes = |coding| accepted.contains(&coding);
    let (brotli, zstd, gzip) = (
        takes(ContentCoding::Brotli),
        takes(ContentCoding::Zstd),
        takes(ContentCoding::Gzip),
    );
    match (brotli, zstd, gzip) {
        (true, true, true) => "br,zstd,gzip",
        (true, true, false) => "br,zstd",
        (true, false, true) => "br,gzip",
        (true, false, false) => "br",
        (false, true, true) => "zstd,gzip",
        (false, true, false) => "zstd",
        (false, false, true) => "gzip",
        (false, false, false) => "identity",
    }
}

/// `Accept-Language` in canonical spelling: lower case, without white space, by weight and then by name. `None` if it
/// is absent, or if a weight is invalid (RFC 9110 §12.4.2): then it is forwarded as it is.
pub fn normalised_language(request: &Fields) -> Option<HeaderValue> {
    if !request.contains_key(header::ACCEPT_LANGUAGE) {
        return None;
    }
    let mut ranges: SmallVec<[(u16, SmallVec<[u8; 16]>); 8]> = SmallVec::new();
    let lines = request.get_all(header::ACCEPT_LANGUAGE).iter();
    for member in lines.flat_map(|line| list(line.as_bytes())) {
        let (range, weight) = weighted(member)?;
        ranges.push((weight, range.to_ascii_lowercase().into()));
    }
    ranges.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    ranges.dedup();
    let mut out = Vec::new();
    for (weight, range) in &ranges {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(range);
        if *weight < WHOLE {
            let text = format!("{:03}", weight);
            out.extend_from_slice(b";q=0.");
            out.extend_from_slice(match text.trim_end_matches('0') {
                "" => &b"0"[..],
                digits => digits.as_bytes(),
            });
        }
    }
    HeaderValue::from_bytes(&out).ok()
}

/// True if the request names OpenMetrics, in a version before 2, and likes nothing in plain text better.
pub fn prefers_open_metrics(request: &Fields) -> bool {
    let (mut open, mut plain) = (0, 0);
    for range in media_ranges(request) {
        let mut versions = range
            .parameters()
            .filter_map(|parameter| parameter.strip_prefix(b"version="));
        let known = versions.all(|version| matches!(version, b"1.0.0" | b"0.0.1"));
        if range
            .name
            .eq_ignore_ascii_case(b"application/openmetrics-text")
            && known
        {
            open = range.weight.max(open);
        } else if range.name.eq_ignore_ascii_case(b"text/plain") {
            plain = range.weight.max(plain);
        }
    }
    open > 0 && open >= plain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn request(fields: &[(&'static str, &'static str)]) -> Fields {
        fields
            .iter()
            .map(|&(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn open_metrics_are_sent_to_those_that_prefer_them() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, want) in [
            (prometheus, true),
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; version=1.0.0", true),
            ("application/openmetrics-text;version=2.0.0", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=1.0000", false),
            ("application/openmetrics-text;q=0.1, text/plain", false),
            ("text/plain, application/openmetrics-text", true),
            ("*/*", false),
            ("", false),
        ] {
            let got = prefers_open_metrics(&request(&[("accept", accept)]));
            assert_eq!(got, want, "{accept}");
        }
    }

    #[test]
    fn encodings_are_normalised() {
        for (value, want) in [
            ("gzip, deflate, br", "br,gzip"),
            ("br;q=0, gzip", "gzip"),
            ("BR", "br"),
            ("gzip, deflate, br, zstd", "br,zstd,gzip"),
            ("zstd, br", "br,zstd"),
            ("gzip;q=1.0, zstd;q=0.1", "zstd,gzip"),
            ("zstd", "zstd"),
            ("*", "br,zstd,gzip"),
            ("br;q=0, *", "zstd,gzip"),
            ("identity", "identity"),
            ("gzip;q=0.000", "identity"),
            ("gzip;q=0.5", "gzip"),
        ] {
            let headers = request(&[("accept-encoding", value)]);
            assert_eq!(normalised_encoding(&headers), want, "{value}");
        }
    }

    #[test]
    fn languages_have_one_spelling() {
        for (value, want) in [
            ("en, de", Some("de,en")),
            (
                "de;q=0.800,en-GB ; Q=0.9, *;q=0",
                Some("en-gb;q=0.9,de;q=0.8,*;q=0.0"),
            ),
            ("en, EN;q=1", Some("en")),
            ("en;q=0.05", Some("en;q=0.05")),
            ("", Some("")),
            ("en;q=1.5", None),
            ("en;level=1", None),
        ] {
            let found = normalised_language(&request(&[("accept-language", value)]));
            assert_eq!(found.as_ref().map(|v| v.to_str().unwrap()), want, "{value}");
        }
        assert_eq!(normalised_language(&request(&[])), None);
    }
}
