//! Fields that a client's header section may keep (docs/design.md §3, spoofing rule; RFC 9110 §7.6.1).

use crate::http::{FieldName, FieldValue, Fields, KnownSet, RequestParts, header};
use http::{HeaderValue, Method, Version};
use smallvec::SmallVec;

use crate::http::list;

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
    const STAY: [&str; 7] = [
        "connection",
        "content-length",
        "host",
        "http2-settings",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let named: SmallVec<[FieldName; 4]> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| list(line.as_bytes()))
        .filter_map(|name| FieldName::from_bytes(name).ok())
        .filter(|name| !STAY.contains(&name.as_str()))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Removes hop-by-hop fields (RFC 9110 §7.6.1): the well-known ones and those that `Connection` names.
pub fn strip_hop_by_hop(headers: &mut Fields) {
    if headers.contains_key(header::CONNECTION) {
        let named: SmallVec<[FieldName; 4]> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|line| list(line.as_bytes()))
            .filter_map(|name| FieldName::from_bytes(name).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    headers.remove_all(HOP_BY_HOP);
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
    let mut lines = head.headers.get_all(header::UPGRADE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
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
}
