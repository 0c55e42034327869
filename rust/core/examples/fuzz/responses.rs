//! Responses of origins: the result must not depend on how the bytes arrive, and an accepted head has one framing.

use edgerouter_core::http::{
    framing::{
        FramingContext,
        head::HeadLimits,
        reader::{ArrivedHead, Expected, ResponseReader},
    },
    header,
};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 400,
    fields: 6,
};

/// Heads, content and trailers of a connection whose bytes come in pieces, and the bytes that they take; `None`: they
/// are refused.
fn follow(awaited: FramingContext, data: &[u8], piece: usize) -> Option<(String, usize)> {
    let mut reader = ResponseReader::default();
    reader.begin_response(awaited, LIMITS);
    let (mut seen, mut content) = (String::new(), Vec::new());
    let (mut read, mut arrived) = (0, 0);
    while arrived < data.len() {
        arrived = data.len().min(arrived + piece);
        while reader.expected() == Expected::Head {
            let held = data.get(read..arrived).unwrap_or_default();
            let Some((length, head)) = reader.head(held).ok()? else {
                break;
            };
            assert!(length <= held.len(), "reads more than there is");
            read += length;
            let (ArrivedHead::Interim(head) | ArrivedHead::Final(head)) = head;
            assert!(!head.headers.contains_key(header::TRANSFER_ENCODING));
            let lengths = head.headers.get_all(header::CONTENT_LENGTH).iter().count();
            assert_eq!(lengths, usize::from(head.framing.length.is_some()));
            seen += &format!("{} {:?} {:?};", head.status, head.headers, head.framing);
        }
        if reader.expected() != Expected::Head {
            let mut held = data.get(read..arrived).unwrap_or_default().to_vec();
            let expected = reader.expected();
            let piece = reader.content(&mut held).ok()?;
            assert!(piece.data.end <= piece.consumed && piece.consumed <= held.len());
            if let Expected::Length(left) = expected {
                assert!(
                    piece.data.len() as u64 <= left,
                    "reads more than its length"
                );
            }
            content.extend_from_slice(held.get(piece.data).unwrap_or_default());
            read += piece.consumed;
        }
    }
    seen += &format!("{:?} {:?}", content, reader.take_trailers());
    let ends = reader.close();
    seen += &format!(" {ends} {:?}", reader.expected());
    Some((seen, read))
}

pub(crate) fn responses(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else {
        return;
    };
    let awaited = FramingContext {
        head: how & 1 == 1,
        upgrade: how & 2 == 2,
    };
    let whole = follow(awaited, data, data.len().max(1));
    for piece in [1, 7, 64] {
        assert_eq!(follow(awaited, data, piece), whole, "in pieces of {piece}");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for text in [
        "0HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nA : 1\r\n b\r\n\r\nabcrest",
        "1HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "2HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\nany",
        "0HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
        "0HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3 ;a=\"b\"\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\nX",
        "0HTTP/1.1 200\r\nConnection: close\r\n\r\nuntil the end",
    ] {
        seeds.push(text.as_bytes().to_vec());
    }
    seeds
}
