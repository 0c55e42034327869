//! Error responses with a detail, in the media type that the client prefers (RFC 9110 §12.5.1, RFC 9457).
//!
//! The detail may contain text from a client: it is escaped as the media type requires.

use std::cmp::Reverse;

use http::StatusCode;

/// A response's media type and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The value of `Content-Type`.
    pub media_type: &'static str,
    /// The whole body, in the format that `media_type` names.
    pub body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/problem+json";

/// The response for a status. `accept` are the `Accept` lines of the request; without a detail the body is the status
/// in words. A trace, which is shown to developers only, follows the detail.
pub fn page<'a>(
    accept: impl IntoIterator<Item = &'a str>,
    status: StatusCode,
    detail: &str,
    trace: Option<&str>,
) -> Page {
    let title = status.canonical_reason().unwrap_or("Error");
    let detail = if detail.is_empty() { title } else { detail };
    let media_type = preferred(accept);
    let body = match media_type {
        HTML => {
            let (code, title, detail) = (status.as_str(), escaped(title), escaped(detail));
            let trace = trace.map_or_else(String::new, |trace| {
                format!("<pre>{}</pre>\n", escaped(trace))
            });
            format!(
                "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{code} {title}</title>\n<h1>{code} {title}</h1>\n\
                 <p>{detail}</p>\n{trace}"
            )
        }
        JSON => {
            let mut page = serde_json::json!({
                "status": status.as_u16(), "title": title, "detail": detail,
            });
            if let (Some(members), Some(trace)) = (page.as_object_mut(), trace) {
                members.insert("trace".to_owned(), trace.into());
            }
            page.to_string()
        }
        _ => match trace {
            Some(trace) => format!("{detail}\n\n{}\n", trace.trim_end()),
            None => format!("{detail}\n"),
        },
    };
    Page { media_type, body }
}

/// The best of the three for these `Accept` lines; text if the client has no preference.
fn preferred<'a>(accept: impl IntoIterator<Item = &'a str>) -> &'static str {
    // Weight, precision and place of the range that fits best, for each type in the order of preference. The order of
    // ranges has no meaning in RFC 9110, but clients that name JSON before text want it.
    let mut offers = [(TEXT, None), (HTML, None), (JSON, None)];
    let ranges = accept.into_iter().flat_map(|line| line.split(','));
    for (place, range) in ranges.enumerate() {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(weight).unwrap_or(1_000);
        for (kind, best) in &mut offers {
            if let Some(precision) = fits(kind, &name)
                && best.is_none_or(|(_, known, _)| precision > known)
            {
                *best = Some((weight, precision, Reverse(place)));
            }
        }
    }
    let mut found = (TEXT, (0, 0, Reverse(0)));
    for (kind, best) in offers {
        if let Some(best) = best.filter(|(weight, ..)| *weight > 0)
            && best > found.1
        {
            found = (kind, best);
        }
    }
    found.0
}

/// How precisely a media range names a type: higher for more. `None`: it does not.
fn fits(kind: &str, range: &str) -> Option<u8> {
    let plain = kind.split(';').next().unwrap_or_default();
    match range {
        "*/*" => Some(1),
        "application/json" if kind == JSON => Some(3),
        _ if range == plain => Some(3),
        _ => {
            let main = range.strip_suffix("/*")?;
            (plain.split('/').next() == Some(main)).then_some(2)
        }
    }
}

/// A `q` parameter in thousandths (RFC 9110 §12.4.2).
fn weight(parameter: &str) -> Option<u32> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value: f32 = value.trim().parse().ok()?;
    (0.0..=1.0)
        .contains(&value)
        .then_some((value * 1_000.0) as u32)
}

/// Text as the content of an HTML element.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_the_one_that_the_client_prefers() {
        for (accept, want) in [
            (&[][..], TEXT),
            (&[""], TEXT),
            (&["*/*"], TEXT),
            (&["image/png"], TEXT),
            (
                &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
                HTML,
            ),
            (&["application/json"], JSON),
            (&["application/problem+json"], JSON),
            (&["application/*"], JSON),
            (&["application/json, text/plain, */*"], JSON),
            (&["text/plain", "application/json"], TEXT),
            (&["application/json, */*;q=0.1"], JSON),
            (&["text/html;q=0.2", "application/json;q=0.3"], JSON),
            (&["text/html;q=0, */*"], TEXT),
            (&["TEXT/HTML ; Q=1"], HTML),
            (&["text/*;q=0.5, text/html"], HTML),
            (&["text/plain;q=0, */*;q=0.5"], HTML),
            (&["text/html;q=nan"], HTML),
        ] {
            assert_eq!(preferred(accept.iter().copied()), want, "{accept:?}");
        }
    }

    #[test]
    fn the_detail_is_escaped_as_the_media_type_needs() {
        let detail = "<b>\"'&\n";
        let of = |accept| page([accept], StatusCode::BAD_REQUEST, detail, None).body;
        assert_eq!(of("text/plain"), "<b>\"'&\n\n");
        assert!(of("text/html").contains("<p>&lt;b&gt;&quot;&#39;&amp;\n</p>"));
        assert!(of("application/json").contains(r#""detail":"<b>\"'&\n""#));
        assert_eq!(
            page([], StatusCode::NOT_FOUND, "", None).body,
            "Not Found\n"
        );
    }

    #[test]
    fn a_trace_follows_the_detail_escaped_like_it() {
        let of = |accept| page([accept], StatusCode::BAD_GATEWAY, "no", Some("a <b>\n")).body;
        assert_eq!(of("*/*"), "no\n\na <b>\n");
        assert!(of("text/html").ends_with("<p>no</p>\n<pre>a &lt;b&gt;\n</pre>\n"));
        assert!(of("application/json").contains(r#""trace":"a <b>\n""#));
    }
}
