//! Requests: the reading must not depend on how the bytes arrive, a body ends at the byte that the RFC names, and a
//! head that is accepted reads the same to another parser.

use edgerouter_core::{
    admit::{Refusal, Sanitiser, strip_hop_by_hop},
    http::{
        FieldName,
        h1::request::{ClientHead, ContentReader, RequestLimits, RequestReader},
        header,
    },
};

use super::{digest, head};

const WIDE: RequestLimits = RequestLimits {
    head_bytes: 4096,
    head_fields: 50,
    url_bytes: 1024,
    body_bytes: 1 << 20,
};

/// Limits so low that mutated inputs reach them.
const NARROW: RequestLimits = RequestLimits {
    head_bytes: 200,
    head_fields: 5,
    url_bytes: 40,
    body_bytes: 30,
};

#[derive(Debug, Default, PartialEq)]
struct Message {
    head: String,
    content: Vec<u8>,
    trailers: String,
    is_complete: bool,
}

#[derive(Debug)]
struct Followed {
    messages: Vec<Message>,
    refusal: Option<Refusal>,
    /// Bytes of complete heads and of content.
    read: usize,
}

/// Reads the requests of a connection whose bytes come piece by piece; bytes of an incomplete head are passed again.
fn follow(data: &[u8], limits: RequestLimits, mut piece: impl FnMut() -> usize) -> Followed {
    let mut reader = RequestReader::new(limits);
    let mut content: Option<ContentReader> = None;
    let (mut read, mut arrived) = (0, 0);
    let mut messages: Vec<Message> = Vec::new();
    while arrived < data.len() {
        arrived = data.len().min(arrived + piece().max(1));
        loop {
            let held = &mut data[read..arrived].to_vec()[..];
            let last = messages.last_mut();
            if let (Some(under_way), Some(message)) = (&mut content, last) {
                let mut before = under_way.clone();
                let piece = match under_way.read(held, limits.body_bytes) {
                    Ok(piece) => piece,
                    Err(refusal) => {
                        // Nothing is given of a piece that is malformed further on: byte by byte, all before that is.
                        for byte in &data[read..arrived] {
                            match before.read(&mut [*byte], limits.body_bytes) {
                                Ok(piece) if piece.data.is_empty() => {}
                                Ok(_) => message.content.push(*byte),
                                Err(same) => {
                                    assert_eq!(same, refusal);
                                    break;
                                }
                            }
                        }
                        return Followed {
                            messages,
                            refusal: Some(refusal),
                            read,
                        };
                    }
                };
                assert!(piece.consumed <= held.len() && piece.data.end <= piece.consumed);
                message.content.extend_from_slice(&held[piece.data]);
                read += piece.consumed;
                if piece.is_last {
                    message.is_complete = true;
                    message.trailers = format!("{:?}", under_way.take_trailers());
                    content = None;
                } else if piece.consumed == 0 {
                    break;
                }
                continue;
            }
            match reader.read(held) {
                Ok(None) => break,
                Ok(Some((length, head))) => {
                    assert!(length <= held.len(), "a head longer than its bytes");
                    reads_alike(&held[..length], &head);
                    read += length;
                    content = ContentReader::of(head.content);
                    messages.push(Message {
                        head: format!("{head:?}"),
                        is_complete: content.is_none(),
                        ..Message::default()
                    });
                }
                Err(refusal) => {
                    return Followed {
                        messages,
                        refusal: Some(refusal),
                        read,
                    };
                }
            }
        }
    }
    Followed {
        messages,
        refusal: None,
        read,
    }
}

/// Another parser sees the same head in the same bytes.
fn reads_alike(text: &[u8], head: &ClientHead) {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut other = httparse::Request::new(&mut fields);
    let length = other.parse(text).expect("is accepted by the other parser");
    assert_eq!(length, httparse::Status::Complete(text.len()));
    assert_eq!(other.method, Some(head.parts.method.as_str()));
    if head.parts.authority.is_none() {
        assert_eq!(other.path, Some(head.parts.target.as_str()));
    }
    assert_eq!(
        other.version,
        Some(u8::from(head.parts.version == http::Version::HTTP_11))
    );
    assert_eq!(other.headers.len(), head.parts.headers.len());
    for field in other.headers {
        let mut values = head.parts.headers.get_all(field.name).iter();
        assert!(
            values.any(|value| value.as_bytes() == field.value.trim_ascii()),
            "{}",
            field.name
        );
    }
}

pub(crate) fn requests(data: &[u8]) {
    let mut random = digest(data);
    for limits in [WIDE, NARROW] {
        let whole = follow(data, limits, || data.len());
        agree(data, &whole, &follow(data, limits, || 1));
        for _ in 0..3 {
            agree(
                data,
                &whole,
                &follow(data, limits, || {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (random >> 33) as usize % 40
                }),
            );
        }
    }
}

fn agree(data: &[u8], whole: &Followed, split: &Followed) {
    let text = || {
        format!(
            "{whole:?} whole, {split:?} split, for {:?}",
            data.escape_ascii().to_string()
        )
    };
    // An incomplete head may be refused for another reason than the complete one.
    assert_eq!(
        whole.refusal.is_some(),
        split.refusal.is_some(),
        "{}",
        text()
    );
    assert_eq!(whole.messages, split.messages, "{}", text());
    if whole.refusal.is_none() {
        assert_eq!(whole.read, split.read, "{}", text());
    }
}

pub(crate) fn chunked(data: &[u8]) {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const NEXT: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let message = [HEAD, data].concat();
    let followed = follow(&message, WIDE, || 1);
    if let Some(first) = followed.messages.first()
        && first.is_complete
        && followed.messages.len() == 1
    {
        let end = obvious_end(data).map(|end| HEAD.len() + end);
        assert_eq!(end, Some(followed.read), "ends elsewhere");
    }
    requests(&[&message, NEXT].concat());
}

/// The end of a chunked body, found as simply as RFC 9112 §7.1.3 describes it.
fn obvious_end(data: &[u8]) -> Option<usize> {
    let line = |at: usize| {
        let rest = data.get(at..)?;
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        Some((rest.get(..end)?, at + end + 2))
    };
    let mut at = 0;
    loop {
        let (size, after) = line(at)?;
        let digits = size.split(|&byte| byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        at = after;
        if size == 0 {
            break;
        }
        at += size + 2;
    }
    loop {
        let (field, after) = line(at)?;
        at = after;
        if field.is_empty() {
            return Some(at);
        }
    }
}

pub(crate) fn head_fields(data: &[u8]) {
    let own = [header::X_USER_ID].map(FieldName::known);
    for trusted in [false, true] {
        let mut headers = head(data);
        let rule = Sanitiser {
            edge_fields: &own,
            proxy_fields: &[],
            trusted_peer: trusted,
        };
        rule.clean(&mut headers);
        assert!(!headers.contains_key("x-user-id") && !headers.contains_key("x_user_id"));
        assert!(trusted || !headers.contains_key("x-forwarded-for"));
        strip_hop_by_hop(&mut headers);
        for name in [
            "connection",
            "upgrade",
            "te",
            "transfer-encoding",
            "keep-alive",
        ] {
            assert!(!headers.contains_key(name), "{name} is left");
        }
    }
}
