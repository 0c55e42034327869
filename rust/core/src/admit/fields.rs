//! Fields that a client's header section may keep (docs/design.md §3, spoofing rule; RFC 9110 §7.6.1).

use crate::http::{FieldName, FieldValue, Fields, KnownSet, RequestParts, header, known};
use http::{HeaderValue, Method, Version};
use smallvec::SmallVec;

use super::Refusal;
use crate::{
    http::{
        h1::{self, is_host},
        list,
    },
    plan::Scheme,
};

/// Fields that end at each hop, whether or not `Connection` names them.
const HOP_BY_HOP: KnownSet = KnownSet::of(&[
    known::CONNECTION,
    known::TE,
    known::TRANSFER_ENCODING,
    known::UPGRADE,
    known::PROXY_AUTHENTICATE,
    known::KEEP_ALIVE,
    known::PROXY_CONNECTION,
    known::HTTP2_SETTINGS,
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
/// would pass none of our phases (`h2c` is used to evade access rules). Any other upgrade is ignored and the request is
/// served normally.
pub fn upgrade(head: &RequestParts, has_body: bool) -> Option<FieldValue<'_>> {
    const HTTP: [&[u8]; 5] = [b"h2c", b"h2", b"h3", b"http", b"tls"];
    if head.method != Method::GET || head.version != Version::HTTP_11 || has_body {
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

/// Host and port that the request is for: from the target if it names them (RFC 9112 §3.2.2), else from `Host`. An
/// HTTP/1.0 request may name none. All spellings of one authority become one (RFC 3986 §6.2.2.1, §6.2.3): lower case,
/// no dot at the end, no default port. So the origin cannot distinguish requests that share a cache key.
pub fn authority(
    head: &RequestParts,
    scheme: Scheme,
) -> Result<(HeaderValue, Option<u16>), Refusal> {
    let named = match head.uri.authority() {
        Some(authority) => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadHost)?
        }
        None => match head.headers.get(header::HOST) {
            Some(host) => host.owned(),
            None if head.version == Version::HTTP_10 => HeaderValue::from_static("localhost"),
            None => return Err(Refusal::BadHost),
        },
    };
    spelled(named, scheme).ok_or(Refusal::BadHost)
}

/// Host and port that the viewer requested from a trusted proxy, if the field names exactly one: like the scheme, it is
/// the last member.
pub fn forwarded_host(headers: &Fields, scheme: Scheme) -> Option<HeaderValue> {
    let line = headers.get_all("x-forwarded-host").iter().next_back()?;
    let last = line.as_bytes().rsplit(|&byte| byte == b',').next()?;
    let (host, _) = spelled(HeaderValue::from_bytes(last.trim_ascii()).ok()?, scheme)?;
    Some(host)
}

/// An authority in its canonical spelling, and its port; `None`: it is not an authority.
fn spelled(named: HeaderValue, scheme: Scheme) -> Option<(HeaderValue, Option<u16>)> {
    if !is_host(named.as_bytes()) {
        return None;
    }
    let bytes = named.as_bytes();
    let (host, after) = bytes
        .split_at_checked(host_length(&named))
        .unwrap_or((bytes, &[]));
    let port = port_in(after).filter(|port| *port != scheme.port());
    let plain = match (after, port) {
        ([], _) => true,
        ([b':', digits @ ..], Some(_)) => digits == b"0" || digits.first() != Some(&b'0'),
        _ => false,
    };
    if plain && !host.iter().any(u8::is_ascii_uppercase) {
        return Some((named, port));
    }
    let mut spelled = host.to_ascii_lowercase();
    if let Some(port) = port {
        spelled.extend_from_slice(format!(":{port}").as_bytes());
    }
    Some((HeaderValue::from_bytes(&spelled).ok()?, port))
}

/// The port of an authority.
pub fn port(authority: &HeaderValue) -> Option<u16> {
    let bytes = authority.as_bytes();
    port_in(bytes.get(host_length(authority)..)?)
}

/// The port in an authority, after its host.
fn port_in(after: &[u8]) -> Option<u16> {
    let digits = after.strip_prefix(b".").unwrap_or(after);
    let digits = digits.strip_prefix(b":")?;
    h1::port_number(digits)
}

/// Length of the host in an authority, without port and trailing dot.
pub fn host_length(authority: &HeaderValue) -> usize {
    let bytes = authority.as_bytes();
    let end = match bytes.first() {
        Some(b'[') => memchr::memchr(b']', bytes).map_or(bytes.len(), |at| at + 1),
        _ => memchr::memchr(b':', bytes).unwrap_or(bytes.len()),
    };
    match end.checked_sub(1).and_then(|last| bytes.get(last)) {
        Some(b'.') if end > 1 => end - 1,
        _ => end,
    }
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
    fn an_authority_has_one_spelling() {
        use Scheme::{Http, Https};
        for (scheme, host, want, port) in [
            (Http, "a.example", "a.example", None),
            (Http, "A.Example.:80", "a.example", None),
            (Http, "a.example:", "a.example", None),
            (Http, "a.example.:", "a.example", None),
            (Http, "a.example:080", "a.example", None),
            (Http, "a.example:08080", "a.example:8080", Some(8080)),
            (Http, "a.example.:443", "a.example:443", Some(443)),
            (Https, "a.example:443", "a.example", None),
            (Https, "a.example:80", "a.example:80", Some(80)),
            (Https, "[::A]:443", "[::a]", None),
            (Https, "[::1]:0", "[::1]:0", Some(0)),
        ] {
            let mut head = RequestParts::default();
            head.headers
                .insert(header::HOST, HeaderValue::from_str(host).unwrap());
            let found = authority(&head, scheme).unwrap();
            assert_eq!(found, (HeaderValue::from_static(want), port), "{host}");
            assert_eq!(super::port(&found.0), port, "{host}");
        }
        for host in ["a:65536", "a:x", "a:-1", "a:+1", "a:80:80", ":80"] {
            let mut head = RequestParts::default();
            head.headers
                .insert(header::HOST, HeaderValue::from_str(host).unwrap());
            assert_eq!(authority(&head, Http), Err(Refusal::BadHost), "{host}");
        }
    }

    #[test]
    fn hosts_are_measured() {
        for (authority, want) in [
            ("a.b:80", 3),
            ("a.b", 3),
            ("a.b.", 3),
            ("[::1]:80", 5),
            ("[::1]", 5),
        ] {
            assert_eq!(
                host_length(&HeaderValue::from_static(authority)),
                want,
                "{authority}"
            );
        }
    }
}
