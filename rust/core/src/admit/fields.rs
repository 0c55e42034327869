//! Fields that a client's header section may keep (docs/design.md §3, spoofing rule; RFC 9110 §7.6.1).

use http::{HeaderValue, Method, Version};
use smallvec::SmallVec;

use crate::http::{FieldName, FieldValue, Fields, KnownSet, RequestParts, header, list};

/// Fields that end at each hop, whether or not `Connection` names them.
const HOP_BY_HOP: KnownSet = KnownSet::of(&[
    header::CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::KEEP_ALIVE,
    header::PROXY_CONNECTION,
    header::HTTP2_SETTINGS,
]);

/// Removes the fields that `Connection` names, before anything reads them: they are not forwarded (RFC 9110 §7.6.1), so
/// a key, a hook or `Vary` that read them would store one client's response under another's field. Fields that frame
/// the message or lead to a tunnel stay until the message is forwarded.
pub(super) fn strip_named(headers: &mut Fields) {
    let plain = |line: FieldValue<'_>| {
        let line = line.as_bytes();
        line.eq_ignore_ascii_case(b"keep-alive") || line.eq_ignore_ascii_case(b"close")
    };
    if headers.get_all(header::CONNECTION).iter().all(plain) {
        return;
    }
    const STAY: [&str; 9] = [
        "close",
        "connection",
        "content-length",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let (stay, named): (SmallVec<[FieldName; 4]>, SmallVec<[FieldName; 4]>) = options(headers)
        .into_iter()
        .partition(|name| STAY.contains(&name.as_str()));
    for name in named {
        headers.remove(name);
    }
    // Without the names, or a client could remove a field that a hook of the route sets later.
    let stay: SmallVec<[&str; 4]> = stay.iter().map(FieldName::as_str).collect();
    match HeaderValue::from_str(&stay.join(", ")) {
        Ok(options) if !stay.is_empty() => {
            headers.insert(header::CONNECTION, options);
        }
        _ => {
            headers.remove(header::CONNECTION);
        }
    }
}

/// Fields of a response for all its recipients, by which it is stored, shared, purged and read. `Connection` must not
/// name them (RFC 9110 §7.6.1). Were they removed, a response that says `no-store` or sets a cookie would be stored.
const FOR_ALL: KnownSet = KnownSet::of(&[
    header::AGE,
    header::CACHE_CONTROL,
    header::CACHE_TAG,
    header::CDN_CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::PRAGMA,
    header::SET_COOKIE,
    header::SURROGATE_CONTROL,
    header::SURROGATE_KEY,
    header::VARY,
    header::WWW_AUTHENTICATE,
]);

/// Removes hop-by-hop fields (RFC 9110 §7.6.1): the well-known ones and those that `Connection` names, except fields
/// that it must not name.
pub fn strip_hop_by_hop(headers: &mut Fields) {
    if headers.contains_key(header::CONNECTION) {
        for name in options(headers) {
            if !name.is_of(FOR_ALL) {
                headers.remove(name);
            }
        }
    }
    headers.remove_all(HOP_BY_HOP);
}

/// The options that `Connection` names, as names of fields.
fn options(headers: &Fields) -> SmallVec<[FieldName; 4]> {
    let lines = headers.get_all(header::CONNECTION);
    lines
        .iter()
        .flat_map(|line| list(line.as_bytes()))
        .filter_map(|name| FieldName::from_bytes(name).ok())
        .collect()
}

/// True if the client declares that it accepts trailers (RFC 9110 §10.1.4).
pub fn accepts_trailers(headers: &Fields) -> bool {
    headers
        .get_all(header::TE)
        .iter()
        .flat_map(|line| list(line.as_bytes()))
        .any(|member| member.eq_ignore_ascii_case(b"trailers"))
}

/// Writes a length without the leading zeros that its grammar allows (RFC 9110 §8.6): a server that reads them as an
/// octal number would take another length.
pub fn plain_length(headers: &mut Fields) {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else {
        return;
    };
    if let [b'0', rest @ ..] = value.as_bytes()
        && !rest.is_empty()
    {
        let digits = rest.iter().skip_while(|digit| **digit == b'0');
        let mut plain: SmallVec<[u8; 20]> = digits.copied().collect();
        if plain.is_empty() {
            plain.push(b'0');
        }
        if let Ok(plain) = HeaderValue::from_bytes(&plain) {
            headers.insert(header::CONTENT_LENGTH, plain);
        }
    }
}

/// The protocol of the request's `Upgrade` field (RFC 9110 §7.8), if a tunnel may be made for it: the request is a GET
/// without content, as WebSocket's is (RFC 6455 §4.1), and the protocol is neither another HTTP nor TLS, whose requests
/// would pass none of our phases (`h2c` is used to evade access rules). In HTTP/2 only the guard sets the field, for
/// WebSocket (RFC 8441). Any other upgrade is ignored and the request is
/// served normally.
pub fn upgrade(head: &RequestParts, has_body: bool) -> Option<FieldValue<'_>> {
    const HTTP: [&[u8]; 5] = [b"h2c", b"h2", b"h3", b"http", b"tls"];
    if head.method != Method::GET || head.version < Version::HTTP_11 || has_body {
        return None;
    }
    let line = head.headers.sole(header::UPGRADE)?;
    let mut protocols = list(line.as_bytes())
        .filter_map(|member| member.split(|&byte| byte == b'/').next())
        .map(<[u8]>::trim_ascii)
        .peekable();
    protocols.peek()?;
    let of_http = |name: &[u8]| HTTP.iter().any(|http| http.eq_ignore_ascii_case(name));
    if protocols.any(of_http) {
        return None;
    }
    head.headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| list(line.as_bytes()))
        .any(|option| option.eq_ignore_ascii_case(b"upgrade"))
        .then_some(line)
}

/// True if the `Upgrade` of a 101 names a protocol, and none that the request has not offered (RFC 9110 §7.8): the client
/// would read the bytes of another protocol than its own. Names are compared in any case, versions where both have one.
pub fn switches_as_offered(request: &Fields, response: &Fields) -> bool {
    let split = |protocol: &[u8]| match memchr::memchr(b'/', protocol) {
        Some(at) => (at, Some(at + 1)),
        None => (protocol.len(), None),
    };
    let is_same = |one: &[u8], other: &[u8]| {
        let ((name, version), (of_other, other_version)) = (split(one), split(other));
        let names = one.get(..name).zip(other.get(..of_other));
        let versions = version.zip(other_version);
        names.is_some_and(|(name, other)| name.eq_ignore_ascii_case(other))
            && versions.is_none_or(|(at, other_at)| one.get(at..) == other.get(other_at..))
    };
    let protocols = |headers: &Fields, is_one: &dyn Fn(&[u8]) -> bool| {
        (headers.get_all(header::UPGRADE)).any(|line| list(line.as_bytes()).any(is_one))
    };
    let is_offered = |switched: &[u8]| protocols(request, &|offered| is_same(offered, switched));
    protocols(response, &is_offered) && !protocols(response, &|switched| !is_offered(switched))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(names: &[&str]) -> Fields {
        names
            .iter()
            .map(|name| {
                (
                    FieldName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_static("1"),
                )
            })
            .collect()
    }

    #[test]
    fn only_other_protocols_than_http_get_a_tunnel() {
        for (method, upgrade, connection, body, want) in [
            ("GET", "websocket", "Upgrade", false, true),
            ("GET", "my-protocol/2", "keep-alive, upgrade", false, true),
            ("GET", "websocket", "keep-alive", false, false),
            ("POST", "websocket", "Upgrade", false, false),
            ("GET", "websocket", "Upgrade", true, false),
            ("GET", "h2c", "Upgrade, HTTP2-Settings", false, false),
            ("GET", "websocket, H2C", "Upgrade", false, false),
            ("GET", "HTTP/2.0", "Upgrade", false, false),
            ("GET", "TLS/1.0", "Upgrade", false, false),
            ("GET", "", "Upgrade", false, false),
        ] {
            let mut head = RequestParts {
                method: method.parse().unwrap(),
                ..RequestParts::default()
            };
            head.headers
                .insert(header::UPGRADE, HeaderValue::from_str(upgrade).unwrap());
            head.headers.insert(
                header::CONNECTION,
                HeaderValue::from_str(connection).unwrap(),
            );
            assert_eq!(
                super::upgrade(&head, body).is_some(),
                want,
                "{method} {upgrade}"
            );
        }
    }

    #[test]
    fn lengths_are_written_plainly() {
        for (length, want) in [("0", "0"), ("000", "0"), ("007", "7"), ("70", "70")] {
            let mut some = Fields::new();
            some.insert(
                header::CONTENT_LENGTH,
                HeaderValue::from_str(length).unwrap(),
            );
            plain_length(&mut some);
            assert_eq!(some.get(header::CONTENT_LENGTH).unwrap(), want, "{length}");
        }
    }

    #[test]
    fn hop_by_hop_fields_end() {
        let mut some = headers(&["keep-alive", "te", "x-kept", "x-drop"]);
        some.insert(
            header::CONNECTION,
            HeaderValue::from_static("X-Drop, close"),
        );
        strip_hop_by_hop(&mut some);
        assert_eq!(some, headers(&["x-kept"]));
    }

    #[test]
    fn fields_for_all_recipients_stay_though_connection_names_them() {
        let mut some = headers(&["cache-control", "set-cookie", "vary", "x-drop"]);
        some.insert(
            header::CONNECTION,
            HeaderValue::from_static("cache-control, Set-Cookie, vary, x-drop"),
        );
        strip_hop_by_hop(&mut some);
        assert_eq!(some, headers(&["cache-control", "set-cookie", "vary"]));
    }

    #[test]
    fn names_that_were_removed_are_no_options_any_more() {
        for (given, want) in [
            ("X-Drop", None),
            ("keep-alive, X-Drop", Some("keep-alive")),
            ("Upgrade, x-drop, close", Some("upgrade, close")),
        ] {
            let mut some = headers(&["x-drop", "x-kept"]);
            some.insert(header::CONNECTION, HeaderValue::from_str(given).unwrap());
            strip_named(&mut some);
            assert!(!some.contains_key("x-drop") && some.contains_key("x-kept"));
            let left = some.get(header::CONNECTION).map(|value| value.owned());
            assert_eq!(
                left.as_ref().map(|value| value.to_str().unwrap()),
                want,
                "{given}"
            );
        }
    }

    #[test]
    fn a_101_switches_to_what_was_offered() {
        for (offered, switched, want) in [
            ("websocket", "websocket", true),
            ("websocket", "WebSocket", true),
            ("a/1, b", "b", true),
            ("a/1, b", "A/1", true),
            ("a/1, b", "a/1, b", true),
            ("a", "a/1", true),
            ("a/1", "a", true),
            ("a/1", "a/2", false),
            ("websocket", "other", false),
            ("websocket", "websocket, other", false),
            ("websocket", "websocket2", false),
            ("websocket", "web", false),
            ("websocket", ",", false),
        ] {
            let upgrade = |protocols: &'static str| {
                let value = HeaderValue::from_static(protocols);
                Fields::from_iter([(header::UPGRADE, value)])
            };
            let got = switches_as_offered(&upgrade(offered), &upgrade(switched));
            assert_eq!(got, want, "{offered} {switched}");
            assert!(!switches_as_offered(&upgrade(offered), &Fields::new()));
        }
    }
}
