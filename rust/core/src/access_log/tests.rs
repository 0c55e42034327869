//! Lines as they are written, and what is refused in them.

#![allow(clippy::unwrap_used)]

use std::{net::IpAddr, sync::Arc};

use super::*;
use crate::{outcome::Outcome, request_record::TlsRecord, select::Select};

fn entry(target: &str) -> RequestRecord<'_> {
    RequestRecord {
        at: 1_795_710_474_123,
        client: IpAddr::from([192, 0, 2, 7]),
        user: Some("ada l"),
        scheme: "https",
        host: "example.com",
        method: "GET",
        target,
        version: "HTTP/1.1",
        status: 200,
        referer: Some(b"https://example.com/?token=s&a=b"),
        agent: Some(b"say \"hi\"\r\n\x1b[2J \xc3\xa9"),
        outcome: Outcome::Miss,
        hit: false,
        stored: false,
        detail: None,
        forward: None,
        refusal: None,
        bytes: None,
        route: None,
        label: "/*",
        origin: Some("first"),
        variants: &[("home", "control")],
        id: 26,
        trace: None,
        head: 1_500,
        tls: None,
    }
}

fn secured(server_name: &str) -> Option<TlsRecord<'_>> {
    Some(TlsRecord {
        version: "TLSv1.2",
        cipher: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        server_name: Some(server_name),
        resumed: true,
    })
}

fn line(entry: &RequestRecord<'_>, policy: &AccessLogPolicy, form: Form) -> String {
    String::from_utf8(begin(entry, policy, form).end(512, 2_000_001)).unwrap()
}

#[test]
fn a_line_names_the_trace_of_its_request() {
    let traced = RequestRecord {
        trace: Some(0xab),
        ..entry("/")
    };
    let policy = AccessLogPolicy::default();
    let id = format!("{:032x}", 0xab);
    let combined = line(&traced, &policy, Form::Combined);
    assert!(
        combined.contains(&format!(" trace=\"{id}\" ")),
        "{combined}"
    );
    let json = line(&traced, &policy, Form::Json);
    assert!(json.contains(&format!(",\"trace\":\"{id}\",")), "{json}");
    assert!(!line(&entry("/"), &policy, Form::Combined).contains("trace="));
}

#[test]
fn a_combined_line_is_what_other_tools_read_with_our_fields_after_it() {
    assert_eq!(
        line(
            &entry("/a?b=c"),
            &AccessLogPolicy::default(),
            Form::Combined
        ),
        concat!(
            "192.0.2.7 - - [26/Nov/2026:16:27:54 +0000] \"GET /a?b=c HTTP/1.1\" 200 512 ",
            "\"https://example.com/?token=***&a=b\" \"say \\x22hi\\x22\\x0D\\x0A\\x1B[2J \\xC3\\xA9\" ",
            "host=\"example.com\" cache=\"miss\" route=\"/*\" origin=\"first\" variant=\"home:control\" ",
            "id=000000000000001a head=0.001500 time=2.000001\n"
        )
    );
}

#[test]
fn a_json_line_is_an_object_whatever_the_client_sent() {
    let policy = AccessLogPolicy {
        user: true,
        ..AccessLogPolicy::default()
    };
    let line = line(&entry("/a?b=c"), &policy, Form::Json);
    let read: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(!line.trim_end().chars().any(char::is_control));
    for (field, want) in [
        ("time", "2026-11-26T16:27:54.123Z"),
        ("client", "192.0.2.7"),
        ("url", "/a?b=c"),
        ("user", "ada l"),
        ("user_agent", "say \"hi\"\r\n\x1b[2J é"),
        ("origin", "first"),
        ("id", "000000000000001a"),
    ] {
        assert_eq!(read[field], want, "{field}");
    }
    assert_eq!(
        (&read["bytes"], &read["status"]),
        (&512.into(), &200.into())
    );
}

#[test]
fn the_tls_of_a_connection_is_in_both_forms() {
    let mut entry = entry("/");
    entry.tls = secured("example.com");
    let policy = AccessLogPolicy::default();
    let read: serde_json::Value = serde_json::from_str(&line(&entry, &policy, Form::Json)).unwrap();
    for (field, want) in [
        ("tls", "TLSv1.2"),
        ("cipher", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("sni", "example.com"),
        ("resumed", "yes"),
    ] {
        assert_eq!(read[field], want, "{field}");
    }
    let combined = line(&entry, &policy, Form::Combined);
    assert!(combined.contains(" tls=\"TLSv1.2\" cipher=\"TLS_ECDHE"));
    assert!(combined.contains(" sni=\"example.com\" resumed=\"yes\" id="));
}

#[test]
fn secrets_in_queries_are_masked_however_they_are_spelt() {
    let policy = AccessLogPolicy::default();
    let only = AccessLogPolicy {
        query: Select::Only(vec![Arc::from("page")]),
        user: false,
    };
    for (policy, given, want) in [
        (&policy, "/a?token=x", "/a?token=***"),
        (&policy, "/a?b=1&TOKEN=x&c", "/a?b=1&TOKEN=***&c"),
        (&policy, "/a?%74oken=x=y", "/a?%74oken=***"),
        (&policy, "/a?token", "/a?token"),
        (&policy, "/token=x", "/token=x"),
        (&only, "/a?page=1&q=x&=y", "/a?page=1&q=***&=***"),
    ] {
        let line = line(&entry(given), policy, Form::Short { colours: false });
        assert!(line.contains(&format!("GET {want}  miss")), "{line}");
    }
}

#[test]
fn no_line_is_longer_than_its_bound() {
    let long = format!("/{}", "\"".repeat(64 << 10));
    let query = format!("/?a={}", "b".repeat(64 << 10));
    let bytes = vec![0x1b; 64 << 10];
    let text = "é\u{9b}".repeat(20_000);
    for target in [&long, &query] {
        let mut entry = entry(target);
        entry.referer = Some(&bytes);
        entry.agent = Some(&bytes);
        (entry.host, entry.label) = (&text, &text);
        let variants = [(&*text, &*text)];
        entry.variants = &variants;
        entry.user = Some(&text);
        entry.tls = secured(&text);
        for form in [Form::Combined, Form::Json] {
            let policy = AccessLogPolicy {
                user: true,
                ..AccessLogPolicy::default()
            };
            let line = line(&entry, &policy, form);
            assert!(line.len() <= LINE, "{form:?}: {}", line.len());
            assert!(line.contains('…') && line.matches('\n').count() == 1);
        }
    }
}
