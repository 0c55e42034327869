//! HTTP/2: whatever the guard takes is one request of HTTP/1.1 as well, and heads of frames do not depend on how their
//! bytes come.

use edgerouter_core::http::{
    Fields,
    h1::request::{RequestLimits, RequestReader},
    h2::{
        flood::{FrameCounter, FrameLimits},
        frames::{FrameHead, FrameReader, PREFACE},
        request,
    },
    header,
};

const LIMITS: RequestLimits = RequestLimits {
    head_bytes: 1 << 20,
    head_fields: 100,
    url_bytes: 1 << 16,
    body_bytes: u64::MAX >> 2,
};

/// Lines, each a name, a space and a value. The first byte says whether content follows.
pub(crate) fn field_section(data: &[u8]) {
    let (is_whole, lines) = match data.split_first() {
        Some((first, lines)) => (first & 1 == 0, lines),
        None => (true, data),
    };
    let fields = lines.split(|&byte| byte == b'\n').map(|line| {
        let end = line.iter().position(|&byte| byte == b' ');
        let (name, value) = line.split_at(end.unwrap_or(line.len()));
        (name, value.get(1..).unwrap_or_default())
    });
    let Ok(head) = request::read(fields, is_whole, true, &LIMITS) else {
        return;
    };
    let parts = &head.parts;
    assert_eq!(parts.headers.get_all(header::HOST).iter().count(), 1);
    assert!(parts.headers.get_all(header::COOKIE).iter().count() <= 1);
    let mut text = format!("{} {} HTTP/1.1\r\n", parts.method, parts.target).into_bytes();
    parts.headers.write(&mut text);
    text.extend(b"\r\n");
    let read = RequestReader::new(LIMITS).read(&text);
    let (length, other) = read
        .expect("HTTP/1.1 refuses it")
        .expect("it is incomplete");
    assert_eq!(length, text.len(), "it is more than one request");
    assert_eq!(other.parts.method, parts.method);
    assert_eq!(other.parts.target.as_str(), parts.target.as_str());
    assert!(other.is_persistent, "a field of the connection");
    let listed = |headers: &Fields| {
        let fields = headers.iter();
        let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        fields.collect::<Vec<_>>()
    };
    assert_eq!(listed(&other.parts.headers), listed(&parts.headers));
}

pub(crate) fn field_sections() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 6] = [
        b"0:method GET\n:scheme https\n:authority a.example\n:path /a?b",
        b"1:method POST\n:scheme http\n:path /\nhost a:80\ncontent-length 3\nexpect 100-continue",
        b"0:method OPTIONS\n:scheme https\n:authority [::1]:8443\n:path *\nte trailers",
        b"0:method GET\n:scheme https\n:authority a\n:path /\ncookie a=1\nx 1\ncookie b=2\nhost A",
        b"0:method GET\n:scheme https\n:authority a\n:path /\nconnection close\ntransfer-encoding chunked",
        b"0:method CONNECT\n:scheme https\n:authority a\n:path /\n:protocol websocket",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

/// The first byte is the size of the pieces that the rest comes in.
pub(crate) fn frame_heads(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else {
        return;
    };
    let heads = |step: usize| {
        let (mut reader, mut found) = (FrameReader::of_client(), Vec::<FrameHead>::new());
        for piece in bytes.chunks(step.max(1)) {
            reader.read(piece, |head| found.push(head));
        }
        (found, reader.is_incomplete())
    };
    let whole = heads(bytes.len());
    assert_eq!(heads(usize::from(*step)), whole);
    let mut counter = FrameCounter::new(FrameLimits {
        resets: 3,
        control_frames: 10,
    });
    for (at, head) in whole.0.iter().enumerate() {
        let _ = counter.received(head, at as u64);
        let _ = counter.sent(head, at as u64);
    }
}

pub(crate) fn frames() -> Vec<Vec<u8>> {
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let reset = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
    let section = b"\0\0\x03\x01\0\0\0\0\x01abc\0\0\x01\x09\x04\0\0\0\x01d";
    vec![
        [b"\x01", PREFACE, settings, reset].concat(),
        [b"\x05", PREFACE, section].concat(),
        b"\x02\0\0".to_vec(),
    ]
}
