#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;

const AT: u64 = 1_795_710_474; // 2026-11-26 16:27:54 UTC

fn parsed(line: &str) -> LogLine<'static> {
    let mut parser = Parser::new(None);
    let line: &'static str = line.to_owned().leak();
    parser.parse(line.as_bytes()).unwrap()
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[test]
fn each_form_gives_time_request_status_and_bytes() {
    for (name, line) in [
        (
            "common",
            r#"192.0.2.7 - - [26/Nov/2026:16:27:54 +0000] "GET /a?b=1 HTTP/1.1" 200 512"#,
        ),
        (
            "combined, in another zone",
            r#"192.0.2.7 - me [26/Nov/2026:17:27:54 +0100] "GET /a?b=1 HTTP/1.1" 200 512 "https://x/" "cu\"rl""#,
        ),
        (
            "combined with a host",
            r#"shop.example:443 192.0.2.7 - - [26/Nov/2026:16:27:54 +0000] "GET /a?b=1 HTTP/2.0" 200 512 "-" "-""#,
        ),
        (
            "edgerouter's combined",
            r#"192.0.2.7 - - [26/Nov/2026:16:27:54 +0000] "GET /a?b=1 HTTP/1.1" 200 512 "-" "curl/8" host="shop.example" cache="miss" reason="uri-miss" id=000000000000001a head=0.001500 time=0.002001"#,
        ),
        (
            "edgerouter's json",
            r#"{"time":"2026-11-26T16:27:54.123Z","client":"192.0.2.7","method":"GET","scheme":"https","url":"/a?b=1","protocol":"HTTP/1.1","status":200,"host":"shop.example","bytes":512,"seconds":0.002}"#,
        ),
        (
            "nginx's json",
            r#"{"time_iso8601":"2026-11-26T16:27:54+00:00","remote_addr":"192.0.2.7","request":"GET /a?b=1 HTTP/1.1","status":"200","body_bytes_sent":"512","bytes_sent":"900","sent_http_cache_control":"max-age=9"}"#,
        ),
        (
            "caddy's json",
            r#"{"level":"info","ts":1795710474.25,"request":{"remote_ip":"192.0.2.7","method":"GET","host":"shop.example","uri":"/a?b=1","headers":{"Host":["x"]}},"size":512,"status":200,"resp_headers":{"Cache-Control":["max-age=9"],"Status":["500"]}}"#,
        ),
        (
            "cloudflare's json",
            r#"{"ClientIP":"192.0.2.7","ClientRequestHost":"shop.example","ClientRequestMethod":"GET","ClientRequestURI":"/a?b=1","EdgeResponseBytes":900,"EdgeResponseBodyBytes":512,"EdgeResponseStatus":200,"EdgeStartTimestamp":1795710474123000000}"#,
        ),
        (
            "cloudfront",
            "2026-11-26\t16:27:54\tFRA2\t900\t192.0.2.7\tGET\td1.cloudfront.net\t/a\t200\t-\tcurl\tb=1\t-\tHit\tid==\tshop.example\thttps\t23\t0.1\t-\tTLSv1.3\tx\tHit\tHTTP/2.0\t-\t-\t1\t0.1\tHit\ttext/html\t512\t-\t-",
        ),
        (
            "application load balancer",
            r#"https 2026-11-26T16:27:54.186641Z app/my/50dc 192.0.2.7:2817 10.0.0.1:80 0.0 0.001 0.0 200 200 34 512 "GET https://shop.example:443/a?b=1 HTTP/1.1" "curl/7" ECDHE TLSv1.2 arn "Root=1" "shop.example" "arn" 0 2026-11-26T16:27:54.18Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-""#,
        ),
        (
            "classic load balancer",
            r#"2026-11-26T16:27:54.186641Z my-elb 192.0.2.7:2817 10.0.0.1:80 0.0 0.001 0.0 200 200 0 512 "GET http://shop.example:80/a?b=1 HTTP/1.1" "curl" - -"#,
        ),
    ] {
        let line = parsed(line);
        assert_eq!(line.at, AT, "{name}");
        assert_eq!(line.client, "192.0.2.7".parse().ok(), "{name}");
        assert_eq!(text(&line.method), "GET", "{name}");
        assert!(text(&line.target).ends_with("/a?b=1"), "{name}");
        assert_eq!((line.status, line.bytes), (200, 512), "{name}");
    }
}

#[test]
fn fields_that_only_some_forms_have_are_read() {
    let line = parsed(
        r#"{"ts":1795710474,"request":{"method":"GET","uri":"/","host":"h","tls":{}},"status":200,"resp_headers":{"Cache-Control":["max-age=9","x"]}}"#,
    );
    assert_eq!(text(&line.cache_control), "max-age=9");
    assert_eq!(text(&line.host), "h");
    let line = parsed(
        r#"1.2.3.4 - - [26/Nov/2026:16:27:54 +0000] "GET /\x22\\ HTTP/1.1" 200 - "-" "a" tls="TLSv1.3" reason="no-store""#,
    );
    assert_eq!(text(&line.target), "/\"\\");
    assert_eq!((line.bytes, line.scheme), (0, Some(Scheme::Https)));
    assert_eq!(text(&line.reason), "no-store");
    assert_eq!(text(&line.referer), "");
}

#[test]
fn comments_name_the_columns() {
    let mut parser = Parser::new(None);
    assert!(parser.is_aside(b"#Version: 1.0"));
    assert!(parser.is_aside(b"#Fields: time date cs-method cs-uri-stem sc-status sc-bytes x y"));
    let line = b"16:27:54\t2026-11-26\tGET\t/a\t404\t7\t-\t-";
    let line = parser.parse(line).unwrap();
    assert_eq!((line.at, line.status, line.bytes), (AT, 404, 7));
}

#[test]
fn the_first_line_decides_the_form() {
    let mut parser = Parser::new(None);
    let common = br#"1.2.3.4 - - [26/Nov/2026:16:27:54 +0000] "GET / HTTP/1.1" 200 1"#;
    assert!(parser.parse(b"what is this").is_none());
    assert!(parser.parse(common).is_some());
    assert_eq!(parser.format, Some(Format::Combined));
    assert!(
        parser
            .parse(br#"{"time":1,"method":"GET","url":"/","status":200}"#)
            .is_none()
    );
}

/// Lines that others chose end as no line, and never in a panic.
#[test]
fn no_bytes_are_too_strange() {
    let seeds: [&[u8]; 5] = [
        br#"1.2.3.4 - - [26/Nov/2026:16:27:54 +0000] "GET / HTTP/1.1" 200 1 "a" "b" host="c""#,
        br#"{"time":1,"request":{"method":"GET","uri":"/"},"status":200,"resp_headers":{"a":[1]}}"#,
        b"2026-11-26\t16:27:54\tFRA2\t900\t192.0.2.7\tGET\td1\t/a\t200\t-\tcurl\tb=1",
        br#"http 2026-11-26T16:27:54Z e 1.2.3.4:1 - 0 0 0 200 200 1 1 "GET / HTTP/1.1" "c""#,
        b"26/Nov/9999:99:99:99 -9999",
    ];
    let mut random = fastrand::Rng::with_seed(15);
    for _ in 0..200_000 {
        let mut line = random.choice(seeds).unwrap().to_vec();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..line.len());
            match random.u8(..4) {
                0 => line[at] = random.u8(..),
                1 => line.truncate(at.max(1)),
                2 => line.insert(at, *random.choice(b"\"\\[]{} \t:-9").unwrap()),
                _ => {
                    line.remove(at);
                    line.push(b' ');
                }
            }
        }
        for format in [
            None,
            Some(Format::Combined),
            Some(Format::Json),
            Some(Format::CloudFront),
            Some(Format::Elb),
        ] {
            let _ = Parser::new(format).parse(&line);
        }
    }
    let deep = format!("{{\"time\":{}1", "[".repeat(50_000));
    assert!(Parser::new(None).parse(deep.as_bytes()).is_none());
}
