#![allow(clippy::unwrap_used)]
use super::*;

const LIMITS: RequestLimits = RequestLimits {
    head_bytes: 4096,
    head_fields: 5,
    url_bytes: 64,
    body_bytes: 1000,
};

/// The head of lines such as `:path /a`, each a name and a value with one space between.
fn head(lines: &str, is_whole: bool) -> Result<StreamHead, Refusal> {
    let fields = lines.lines().map(|line| {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        (name.as_bytes(), value.as_bytes())
    });
    read(fields, is_whole, true, &LIMITS)
}

const GET: &str = ":method GET\n:scheme https\n:authority a.example\n:path /a?b";

fn get(more: &str) -> Result<StreamHead, Refusal> {
    head(&format!("{GET}\n{more}"), true)
}

fn shown(head: &StreamHead) -> String {
    let parts = &head.parts;
    let mut shown = format!("{} {}", parts.method, parts.target);
    for (name, value) in &parts.headers {
        shown += &format!(" {name}={}", value.to_str().unwrap());
    }
    shown
}

#[test]
fn a_request_of_each_spelling_becomes_the_same() {
    let want = "GET /a?b host=a.example";
    for lines in [
        GET,
        ":path /a?b\n:authority a.example\n:scheme http\n:method GET",
        ":method GET\n:scheme HTTPS\n:path /a?b\nhost a.example",
        ":method GET\n:scheme https\n:authority a.example\n:path /a?b\nhost a.example",
    ] {
        assert_eq!(shown(&head(lines, true).unwrap()), want, "{lines}");
    }
    let other = ":method OPTIONS\n:scheme https\n:authority a.example:8443\n:path *";
    let read = head(other, true).unwrap();
    assert_eq!(shown(&read), "OPTIONS * host=a.example:8443");
    assert_eq!(read.parts.version, Version::HTTP_2);
    for host in ["A.Example", "a.example:443", "a.example.", "a.example:"] {
        let spelled = get(&format!("host {host}")).unwrap();
        assert_eq!(shown(&spelled), want, "the same host as {host}");
    }
    assert_eq!(get("host a.example:80").unwrap_err(), Refusal::BadHost);
}

#[test]
fn an_https_url_is_the_target_where_the_connection_has_no_tls() {
    for (scheme, is_secured, want) in [
        ("https", false, true),
        ("HTTPS", false, true),
        ("https", true, false),
        ("http", false, false),
        ("http", true, false),
    ] {
        let fields = [
            (&b":method"[..], &b"GET"[..]),
            (b":scheme", scheme.as_bytes()),
            (b":authority", b"a.example"),
            (b":path", b"/"),
        ];
        let read = read(fields, true, is_secured, &LIMITS).unwrap();
        let target = read.parts.authority.is_some_and(|target| target.is_https);
        assert_eq!(target, want, "{scheme} {is_secured}");
    }
}

#[test]
fn crumbs_of_a_cookie_are_joined_in_the_place_of_the_first() {
    let read = get("x 1\ncookie a=1\ny 2\ncookie b=2\ncookie\ncookie c=3").unwrap();
    let want = "GET /a?b host=a.example x=1 cookie=a=1; b=2; c=3 y=2";
    assert_eq!(shown(&read), want);
}

#[test]
fn pseudo_fields_are_complete_single_and_first() {
    use Refusal::{BadHost, BadMethod, BadPseudoField, BadTarget, Connect, MethodTooLong};
    let without = |name: &str| {
        let lines: Vec<_> = GET.lines().filter(|line| !line.starts_with(name)).collect();
        lines.join("\n")
    };
    let with = |line: &str| {
        let (name, _) = line.split_once(' ').unwrap();
        format!("{}\n{line}", without(name))
    };
    for (lines, want) in [
        (without(":method"), BadPseudoField),
        (without(":scheme"), BadPseudoField),
        (without(":path"), BadPseudoField),
        (without(":authority"), BadHost),
        (format!("{GET}\n:path /a?b"), BadPseudoField),
        (format!("{GET}\nx 1\n:authority a.example"), BadPseudoField),
        (format!("{GET}\n:status 200"), BadPseudoField),
        (format!("{GET}\n:protocol websocket"), BadPseudoField),
        (with(":scheme ftp"), BadPseudoField),
        (with(":scheme "), BadPseudoField),
        (with(":path "), BadTarget),
        (with(":path a"), BadTarget),
        (with(":path *"), BadTarget),
        (with(":path https://a.example/"), BadTarget),
        (with(":path /a#b"), BadTarget),
        (with(":path /a b"), BadTarget),
        (with(":path /\u{e9}"), BadTarget),
        (with(":authority "), BadHost),
        (with(":authority user@a.example"), BadHost),
        (with(":authority a.example/b"), BadHost),
        (with(":method "), BadMethod),
        (with(":method G T"), BadMethod),
        (with(":method CONNECT"), Connect),
        (with(":method TRACE"), Refusal::Trace),
        (with(&format!(":method {}", "A".repeat(33))), MethodTooLong),
        (
            with(&format!(":path /{}", "a".repeat(64))),
            Refusal::UrlTooLong,
        ),
    ] {
        assert_eq!(head(&lines, true).unwrap_err(), want, "{lines}");
    }
}

#[test]
fn fields_of_a_connection_and_malformed_ones_are_refused() {
    use Refusal::{BadContentLength, BadField, BadHost};
    for (line, want) in [
        ("connection close", BadField),
        ("keep-alive 1", BadField),
        ("proxy-connection keep-alive", BadField),
        ("transfer-encoding chunked", BadField),
        ("upgrade websocket", BadField),
        ("http2-settings AAAA", BadField),
        ("te gzip", BadField),
        ("te trailers, gzip", BadField),
        ("X-Upper 1", BadField),
        ("x@y 1", BadField),
        (" 1", BadField),
        ("x  1", BadField),
        ("x 1 ", BadField),
        ("x \t1", BadField),
        ("x a\0b", BadField),
        ("x a\rb", BadField),
        ("host b.example", BadHost),
        ("host a.example\nhost a.example", BadHost),
        ("host", BadHost),
        ("content-length 1", BadContentLength),
        ("content-length 0\ncontent-length 0", BadContentLength),
        ("content-length +1", BadContentLength),
        ("content-length 1, 1", BadContentLength),
        ("content-length", BadContentLength),
        ("expect something", Refusal::Expectation),
        ("a 1\nb 1\nc 1\nd 1\ne 1", Refusal::TooManyFields),
    ] {
        assert_eq!(get(line).unwrap_err(), want, "{line}");
    }
    assert!(get("te trailers\ncontent-length 0").is_ok());
    assert!(get("a 1\nb 1\nc 1\ncookie a=1\ncookie b=2").is_ok());
    assert!(get("a 1\nb 1\nc 1\nd 1\nhost a.example").is_ok());
}

#[test]
fn an_extended_connect_becomes_an_upgrade_and_nothing_else_does() {
    let connect = |more: &str| format!("{}{more}", GET.replace(" GET", " CONNECT"));
    let socket = connect("\n:protocol websocket\nsec-websocket-version 13");
    let read = head(&format!("{socket}\nsec-websocket-key mine"), false).unwrap();
    assert!(read.is_tunnel());
    let want =
        "GET /a?b host=a.example sec-websocket-version=13 upgrade=websocket connection=Upgrade";
    assert_eq!(shown(&read), want);
    for (lines, is_whole, want) in [
        (socket.clone(), true, Refusal::BadPseudoField),
        (
            format!("{socket}\ncontent-length 0"),
            false,
            Refusal::BadPseudoField,
        ),
        (connect("\n:protocol h2c"), false, Refusal::Connect),
        (connect("\n:protocol connect-udp"), false, Refusal::Connect),
        (connect("\n:protocol "), false, Refusal::Connect),
        (
            format!("{socket}\nupgrade websocket"),
            false,
            Refusal::BadField,
        ),
        (
            format!("{GET}\n:protocol websocket"),
            false,
            Refusal::BadPseudoField,
        ),
        (
            ":method CONNECT\n:authority a:443".into(),
            false,
            Refusal::Connect,
        ),
    ] {
        assert_eq!(head(&lines, is_whole).unwrap_err(), want, "{lines}");
    }
    assert!(!get("x 1").unwrap().is_tunnel());
}

#[test]
fn content_is_declared_within_its_bound() {
    let post = |length: &str| head(&format!("{GET}\ncontent-length {length}"), false);
    assert_eq!(post("1000").unwrap().length, Some(1000));
    assert_eq!(post("1001").unwrap_err(), Refusal::BodyTooLarge);
    let expects = |is_whole| head(&format!("{GET}\nexpect 100-continue"), is_whole);
    assert!(expects(false).unwrap().expects_continue);
    assert!(!expects(true).unwrap().expects_continue, "nothing follows");
}
