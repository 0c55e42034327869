#![allow(clippy::unwrap_used)]
use edgerouter_core::http::Fields;
use http::HeaderValue;

use super::*;
use crate::{
    Variants,
    pieces::{PIECE, compact_body},
};

/// Of bodies, on both sides of each border between two ways to keep one.
const LENGTHS: [usize; 10] = [
    0,
    1,
    1000,
    SMALL,
    SMALL + 1,
    20_500,
    100 << 10,
    PIECE,
    PIECE + 1,
    700_000,
];

fn object(headers: &Fields, body: &[u8]) -> Object {
    let pieces = body.chunks(1009).map(Bytes::copy_from_slice).collect();
    Object {
        body: compact_body(pieces, body.len()),
        length: body.len() as u64,
        ..Object::sample(headers.clone())
    }
}

#[test]
fn an_entry_without_its_body_knows_what_it_would_be_charged_for_with_it() {
    for length in LENGTHS {
        for variants in [None, Some(7)] {
            let entry = |body: &[u8]| {
                let object = Object {
                    variants,
                    ..object(&Fields::new(), body)
                };
                Entry::marker(b"key", Content::Object(object))
            };
            let (without, with) = (entry(b""), entry(&vec![0; length]));
            assert_eq!(without.size_with(length as u64), with.size(), "{length}");
        }
        let slice = |bytes| Entry::marker(b"key", Content::Slice(Bytes::from(bytes)));
        let (without, with) = (slice(Vec::new()), slice(vec![0; length]));
        assert_eq!(without.size_with(length as u64), with.size(), "{length}");
    }
}

#[test]
fn what_was_stored_comes_out_again() {
    let mut headers = Fields::new();
    headers.append("x-one", HeaderValue::from_static("1"));
    headers.append("x-two", HeaderValue::from_static("2"));
    headers.append("x-one", HeaderValue::from_static("3"));
    for length in LENGTHS {
        let body: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        let mut stored = object(&headers, &body);
        stored
            .set_aside
            .push(edgerouter_core::http::header::EXPIRES.into());
        stored.upstream_status = Some(HeaderValue::from_static("shield; hit"));
        let facts = PurgeFacts {
            last_purge: 5,
            viewer: Some("/seen".into()),
            tags: [1, 2].into(),
        };
        let entry = Arc::new(Entry::new(b"key", Content::Object(stored), facts));
        assert_eq!(entry.key(), b"key");
        assert!(matches!(entry.view(), View::Object));
        let back = entry.object().unwrap();
        assert_eq!(back.body.concat(), body);
        assert_eq!(back.length, length as u64);
        assert!(
            headers.iter().all(|(name, value)| back
                .headers
                .get_all(name)
                .iter()
                .any(|v| v == value))
        );
        assert_eq!(back.status, StatusCode::NOT_FOUND);
        assert_eq!(back.freshness, entry.freshness().unwrap());
        assert_eq!(back.freshness.stale_if_error, 6);
        assert_eq!(back.upstream_status.unwrap(), "shield; hit");
        assert_eq!(
            back.set_aside.as_slice(),
            [edgerouter_core::http::header::EXPIRES]
        );
        assert!(back.has_validator);
        let softened = Arc::new(entry.softened(1_000_010).unwrap());
        assert_eq!(softened.object().unwrap().body.concat(), body);
        for entry in [&entry, &softened] {
            assert_eq!((entry.last_purge(), entry.cleared()), (5, 5));
            assert_eq!(entry.viewer(), Some("/seen"));
            assert_eq!(entry.tags(), [1, 2]);
        }
        assert_eq!((back.took, back.refresh_from), (7, 8));
    }
}

#[test]
fn an_entry_that_is_no_response_has_no_object() {
    let nonce = 7;
    let names = SmallVec::from_iter([edgerouter_core::http::header::ACCEPT.into()]);
    let variants = Content::Variants(Variants::new(names, nonce));
    let entry = Arc::new(Entry::marker(b"key", variants));
    assert!(matches!(entry.view(), View::Variants(found) if found.nonce == 7));
    assert!(entry.object().is_none() && entry.freshness().is_none());
    let slice = Content::Slice(Bytes::from_static(b"part"));
    let entry = Arc::new(Entry::marker(b"key", slice));
    assert_eq!(entry.slice().unwrap(), "part");
    assert!(matches!(entry.view(), View::Slice(_)));
    assert!(entry.object().is_none() && entry.freshness().is_none());
    let entry = Arc::new(Entry::marker(b"key", Content::Unshared { until: 9 }));
    assert!(matches!(entry.view(), View::Unshared { until: 9 }));
    assert!(entry.object().is_none() && entry.freshness().is_none());
}

#[test]
fn a_small_response_costs_its_bytes_and_little_more() {
    let mut headers = Fields::new();
    headers.append("content-type", HeaderValue::from_static("text/plain"));
    headers.append("content-length", HeaderValue::from_static("1024"));
    headers.append("etag", HeaderValue::from_static("\"0123456789abcdef\""));
    let entry = Entry::new(
        b"https example.com /one",
        Content::Object(object(&headers, &[0; 1024])),
        PurgeFacts::default(),
    );
    assert!(entry.size() <= 1024 + 300, "{}", entry.size());
    assert!(size_of::<Entry>() <= 96, "{}", size_of::<Entry>());
}
