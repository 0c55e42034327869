#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;

const LIMITS: RequestLimits = RequestLimits {
    head_bytes: 4096,
    head_fields: 20,
    url_bytes: 1024,
    body_bytes: 1000,
};

/// Follows a connection whose bytes come in pieces of `step`: its messages, and the refusal at its end.
fn follow(bytes: &[u8], step: usize) -> (Vec<String>, Option<Refusal>) {
    let mut reader = RequestReader::new(LIMITS);
    let (mut seen, mut held) = (Vec::new(), Vec::new());
    let mut content: Option<ContentReader> = None;
    for piece in bytes.chunks(step) {
        held.extend_from_slice(piece);
        loop {
            if let Some(under_way) = &mut content {
                let piece = match under_way.read(&mut held, LIMITS.body_bytes) {
                    Ok(piece) => piece,
                    Err(refusal) => return (seen, Some(refusal)),
                };
                let text = String::from_utf8_lossy(&held[piece.data]).into_owned();
                *seen.last_mut().unwrap() += &text;
                held.drain(..piece.consumed);
                if piece.is_last {
                    if let Some(trailers) = under_way.take_trailers() {
                        *seen.last_mut().unwrap() += &trailers
                            .iter()
                            .map(|(name, value)| format!("{{{name}: {}}}", value.to_str().unwrap()))
                            .collect::<String>();
                    }
                    content = None;
                } else if piece.consumed == 0 {
                    break;
                }
            } else {
                match reader.read(&held) {
                    Ok(None) => break,
                    Err(refusal) => return (seen, Some(refusal)),
                    Ok(Some((length, head))) => {
                        held.drain(..length);
                        let RequestParts {
                            method,
                            authority,
                            target,
                            ..
                        } = &*head.parts;
                        let authority = authority
                            .as_ref()
                            .map_or(&b""[..], |target| target.value.as_bytes());
                        let authority = authority.escape_ascii();
                        seen.push(format!("{method} {authority}{target} "));
                        content = ContentReader::of(head.content);
                    }
                }
            }
        }
    }
    assert!(held.is_empty() || content.is_none());
    (seen, None)
}

#[test]
fn good_messages_are_read_however_they_arrive() {
    for (bytes, want) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &["GET / "][..]),
        (b"\r\nGET /a?b=c HTTP/1.1\r\nhost: a:80\r\naccept: */*\r\n\r\n", &["GET /a?b=c "]),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", &["GET a/ "]),
        (b"GET HTTP://A:80?b HTTP/1.1\r\nHost: a:80\r\n\r\n", &["GET A:80/?b "]),
        (b"OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", &["OPTIONS * "]),
        (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", &["OPTIONS a* "]),
        (b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", &["OPTIONS a/ "]),
        (b"OPTIONS http://a?b HTTP/1.1\r\nHost: a\r\n\r\n", &["OPTIONS a/?b "]),
        (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", &["GET a/ "]),
        (b"GET / HTTP/1.0\r\n\r\n", &["GET / "]),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            &["POST / abc", "GET / "],
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n1\r\nd\r\n0\r\nX-T:  1 \r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            &["POST / abcd{x-t: 1}", "GET / "],
        ),
    ] {
        for step in 1..=bytes.len() {
            let (seen, refusal) = follow(bytes, step);
            assert_eq!(seen, want, "{} by {step}", bytes.escape_ascii());
            assert_eq!(refusal, None);
        }
    }
}

#[test]
fn bad_messages_are_refused_however_they_arrive() {
    use Refusal::*;
    for (message, refusal) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], BadHost),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BadHost),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", BadHost),
        (b"GET / HTTP/1.1\r\nHost: \r\n\r\n", BadHost),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", BadHost),
        (b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", BadHost),
        (b"GET http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n", BadHost),
        (b"GET https://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", BadHost),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Version),
        (b"GET / HTTP/1.1\nHost: a\n\n", BadLineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", BadLineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", BadField),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", Folded),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", BadField),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", AmbiguousFraming),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", AmbiguousFraming),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", UnknownTransferCoding),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", BadTransferEncoding),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", BadContentLength),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", BodyTooLarge),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", BodyTooLarge),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\n", BadChunk),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n", BadChunk),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", BadField),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", Expectation),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
        (b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Trace),
        (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", BadHost),
        (b"GET / HTTP/1.1\r\nHost: a%00b\r\n\r\n", BadHost),
    ] {
        for step in 1..=message.len() {
            assert_eq!(follow(message, step).1, Some(refusal), "{} by {step}", message.escape_ascii());
        }
    }
}

#[test]
fn messages_before_a_bad_one_are_read() {
    let both = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx\r\n\r\n";
    let (seen, refusal) = follow(both, both.len());
    assert_eq!((seen.len(), refusal), (1, Some(Refusal::BadRequestLine)));
}

#[test]
fn an_authority_is_judged_with_its_line() {
    for authority in ["a\x7f", "", "a@b", "a:x"] {
        let line = format!("GET http://{authority}/ HTTP/1.1\r\n");
        for step in [1, line.len()] {
            let (seen, refusal) = follow(line.as_bytes(), step);
            assert!(seen.is_empty() && refusal.is_some(), "{line} {step}");
        }
    }
}

#[test]
fn a_head_says_whether_its_connection_goes_on() {
    for (text, persistent, expects) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
            false,
            false,
        ),
        ("GET / HTTP/1.0\r\n\r\n", false, false),
        (
            "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
            true,
            false,
        ),
        (
            "GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
            false,
            false,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n",
            true,
            true,
        ),
    ] {
        let (_, head) = RequestReader::new(LIMITS)
            .read(text.as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!(
            (head.is_persistent, head.expects_continue),
            (persistent, expects),
            "{text}"
        );
    }
}

#[test]
fn endless_heads_are_refused_in_time() {
    let start = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (text, refusal) in [
        ("a".repeat(2000), Refusal::MethodTooLong),
        (format!("GET /{}", "a".repeat(1200)), Refusal::UrlTooLong),
        (
            format!("{start}{}", "a: b\r\n".repeat(30)),
            Refusal::TooManyFields,
        ),
        (
            format!("{start}X: {}", "a".repeat(5000)),
            Refusal::HeadTooLarge,
        ),
    ] {
        let read = RequestReader::new(LIMITS).read(text.as_bytes());
        assert_eq!(read.err(), Some(refusal), "{text}");
    }
}
