use super::*;
use http::HeaderValue;

const GET: RequestFacts = RequestFacts {
    version: Version::HTTP_11,
    is_head: false,
    is_persistent: true,
};

fn header_map(fields: &[(&'static str, &'static str)]) -> Fields {
    let fields = fields.iter().map(|(name, value)| {
        (
            FieldName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    fields.collect()
}

fn written(
    status: u16,
    fields: &[(&'static str, &'static str)],
    request: RequestFacts,
    known: Option<u64>,
) -> (String, WrittenHead) {
    let headers = header_map(fields);
    let mut out = Vec::new();
    let status = StatusCode::from_u16(status).unwrap_or_default();
    let written = head(&mut out, status, &headers, request, known, |out| {
        date_line(out, b"now");
    });
    let text = String::from_utf8_lossy(&out).replace("\r\n", "|");
    (text, written)
}

#[test]
fn heads_announce_how_their_content_ends() {
    use ContentWriter::{Chunked, Length, None as Nothing, UntilClose};
    let head = RequestFacts {
        is_head: true,
        ..GET
    };
    let http_10 = RequestFacts {
        version: Version::HTTP_10,
        ..GET
    };
    let closing = RequestFacts {
        is_persistent: false,
        ..GET
    };
    let length = ("content-length", "5");
    let date = ("date", "then");
    for (status, fields, request, known, text, content, is_persistent) in [
        (
            200,
            &[length][..],
            GET,
            Some(5),
            "HTTP/1.1 200 OK|content-length: 5|date: now||",
            Length(5),
            true,
        ),
        (
            200,
            &[date],
            GET,
            Some(5),
            "HTTP/1.1 200 OK|date: then|content-length: 5||",
            Length(5),
            true,
        ),
        (
            200,
            &[],
            GET,
            None,
            "HTTP/1.1 200 OK|transfer-encoding: chunked|date: now||",
            Chunked,
            true,
        ),
        (
            200,
            &[],
            closing,
            Some(0),
            "HTTP/1.1 200 OK|content-length: 0|connection: close|date: now||",
            Length(0),
            false,
        ),
        (
            413,
            &[("connection", "close")],
            GET,
            Some(0),
            "HTTP/1.1 413 Payload Too Large|connection: close|content-length: 0|date: now||",
            Length(0),
            false,
        ),
        (
            200,
            &[length],
            head,
            Some(0),
            "HTTP/1.1 200 OK|content-length: 5|date: now||",
            Nothing,
            true,
        ),
        (
            204,
            &[],
            GET,
            None,
            "HTTP/1.1 204 No Content|date: now||",
            Nothing,
            true,
        ),
        (
            304,
            &[],
            GET,
            Some(0),
            "HTTP/1.1 304 Not Modified|date: now||",
            Nothing,
            true,
        ),
        (
            799,
            &[],
            GET,
            Some(1),
            "HTTP/1.1 799 |content-length: 1|date: now||",
            Length(1),
            true,
        ),
        (
            200,
            &[],
            http_10,
            None,
            "HTTP/1.1 200 OK|connection: close|date: now||",
            UntilClose,
            false,
        ),
        (
            200,
            &[],
            http_10,
            Some(1),
            "HTTP/1.1 200 OK|content-length: 1|connection: keep-alive|date: now||",
            Length(1),
            true,
        ),
    ] {
        let want = WrittenHead {
            content,
            is_persistent,
        };
        assert_eq!(
            written(status, fields, request, known),
            (text.to_owned(), want)
        );
    }
}

#[test]
fn requests_announce_the_content_that_they_have() {
    use ContentWriter::{Chunked, Length, None as Nothing};
    let host = ("host", "a");
    let length = ("content-length", "5");
    for (method, fields, content, text, framing) in [
        (
            Method::GET,
            &[host][..],
            RequestContent::None,
            "GET /a?b HTTP/1.1|host: a||",
            Nothing,
        ),
        (
            Method::POST,
            &[("content-length", "0"), host],
            RequestContent::None,
            "POST /a?b HTTP/1.1|content-length: 0|host: a||",
            Nothing,
        ),
        // Content that is gone must not be announced: the next request would be taken for it.
        (
            Method::POST,
            &[length],
            RequestContent::None,
            "POST /a?b HTTP/1.1|content-length: 0||",
            Nothing,
        ),
        (
            Method::PUT,
            &[length, ("transfer-encoding", "chunked")],
            RequestContent::Length(7),
            "PUT /a?b HTTP/1.1|content-length: 7||",
            Length(7),
        ),
        (
            Method::PUT,
            &[length],
            RequestContent::Chunked,
            "PUT /a?b HTTP/1.1|content-length: 5||",
            Length(5),
        ),
        (
            Method::PUT,
            &[host, ("trailer", "x-sum")],
            RequestContent::Chunked,
            "PUT /a?b HTTP/1.1|host: a|trailer: x-sum|transfer-encoding: chunked||",
            Chunked,
        ),
        (
            Method::GET,
            &[host],
            RequestContent::Chunked,
            "GET /a?b HTTP/1.1|host: a||",
            Nothing,
        ),
    ] {
        let headers = header_map(fields);
        let mut out = Vec::new();
        let written = request(&mut out, &method, "/a?b", &headers, content);
        let out = String::from_utf8_lossy(&out).replace("\r\n", "|");
        assert_eq!((out.as_str(), written), (text, framing));
    }
}

#[test]
fn interim_responses_are_a_head_and_nothing_else() {
    let mut out = Vec::new();
    let headers = header_map(&[("link", "</a>")]);
    interim(&mut out, StatusCode::EARLY_HINTS, &headers);
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
}

#[test]
fn chunks_end_with_the_announced_trailers_only() {
    let mut out = Vec::new();
    chunk_size(&mut out, 26);
    let trailers = Fields::from_iter([
        (
            FieldName::from_static("x-sum"),
            HeaderValue::from_static("1"),
        ),
        (
            FieldName::from_static("x-other"),
            HeaderValue::from_static("2"),
        ),
    ]);
    let head = Fields::from_iter([(header::TRAILER, HeaderValue::from_static("X-Sum, x-none"))]);
    last_chunk(&mut out, Some(&trailers), Some(&announced_trailers(&head)));
    last_chunk(&mut out, None, None);
    assert_eq!(out, b"1a\r\n0\r\nx-sum: 1\r\n\r\n0\r\n\r\n");
}
