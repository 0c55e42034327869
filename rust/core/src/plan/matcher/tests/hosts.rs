//! Hosts of routes.

use super::*;

#[test]
fn hosts_match_without_case_and_port() {
    for (pattern, host, want) in [
        ("www.example.com", "www.example.com", true),
        ("WWW.Example.com", "www.EXAMPLE.com", true),
        ("www.example.com", "www.example.com.", true),
        ("www.example.com", "example.com", false),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", "badexample.com", false),
        ("*", "anything", true),
        ("[::1]", "[::1]", true),
        ("127.0.0.1", "127.0.0.1", true),
    ] {
        assert_eq!(
            HostPattern::parse(pattern).unwrap().matches(host),
            want,
            "{pattern} on {host}"
        );
    }
    for pattern in [
        "",
        "a:80",
        "http://a",
        "a.*.com",
        "*a.com",
        "münchen.de",
        "a..b",
        "-".repeat(64).as_str(),
        "[::1]:80",
        "[x]",
    ] {
        assert!(HostPattern::parse(pattern).is_err(), "{pattern}");
    }
    let bare = HostPattern::parse("FE80::1").unwrap_err();
    assert_eq!(
        bare.to_string(),
        "must be in brackets, as an address of IPv6 is in URLs: \"[fe80::1]\""
    );
}
