//! Purges: orders, the log, and CloudFront's XML.

use edgerouter_core::{
    cache::purge::{Matcher, Order, Pattern, PurgeSubject, Scope, log, order},
    cloudfront::{invalidation, xml},
};

use super::lines;

/// An accepted path has one spelling; a pattern agrees with the obvious matcher.
pub(crate) fn purge_path(data: &[u8]) {
    let lines = lines(data, 2);
    let (Some(text), path) = (lines.first(), lines.get(1)) else {
        return;
    };
    if let Ok(scope) = order::path(text) {
        let spelled = match &scope {
            Scope::Url { path, query, .. } => match query {
                Some(query) => format!("{path}?{query}"),
                None => path.clone(),
            },
            Scope::Path { pattern, .. } => pattern.clone(),
            _ => panic!("a path became {scope:?}"),
        };
        if !spelled.contains('*') || text.starts_with('/') {
            assert!(spelled.starts_with('/'));
        }
        let subject = PurgeSubject {
            host: "h",
            port: 80,
            path: path.map_or("/", String::as_str),
            query: None,
            viewer: None,
            requested: None,
            tags: &[],
        };
        let _ = Matcher::new(std::slice::from_ref(&scope), &[]).matches(&subject);
    }
    if let Some(path) = path
        && text.len() < 64
        && path.len() < 64
        && text.matches('*').count() < 5
        && !text.contains('?')
    {
        assert_eq!(
            Pattern::new(text).matches(path, None),
            obvious(text.as_bytes(), path.as_bytes()),
            "{text:?} {path:?}"
        );
    }
}

fn obvious(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| obvious(rest, &text[at..])),
        Some((byte, rest)) => text
            .split_first()
            .is_some_and(|(first, after)| first == byte && obvious(rest, after)),
    }
}

/// JSON orders: an accepted order names something, within the bounds.
pub(crate) fn purge_order(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else {
        return;
    };
    match Order::read(&value) {
        Ok(order) => {
            assert!(!order.scopes.is_empty());
            assert_eq!(order.scopes.len(), order.given.len());
        }
        Err(mistake) => assert!(!mistake.field.is_empty() && !mistake.message.is_empty()),
    }
}

/// The undamaged part of a log is read the same again, and written records are read back.
pub(crate) fn purge_log(data: &[u8]) {
    let (records, good, _) = log::decode(data);
    let (again, all, end) = log::decode(&data[..good]);
    assert_eq!(
        (again, all, end),
        (records.clone(), good, log::LogEnd::Whole)
    );
    let mut written = Vec::new();
    for record in &records {
        log::encode(record, &mut written);
    }
    assert_eq!(log::decode(&written).0, records);
}

/// Elements of any document, and batches of invalidations.
pub(crate) fn cloudfront_xml(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(root) = xml::read(text)
    {
        let mut out = String::new();
        xml::leaf(&mut out, "A", &root.text);
        assert!(xml::read(&out).is_ok());
    }
    if let Ok(order) = invalidation::read_batch(data) {
        assert!(!order.scopes.is_empty() && order.reference.is_some());
    }
}

pub(crate) fn paths() -> Vec<Vec<u8>> {
    ["/a/*.css\n/a/b.css", "h.example/a*b*\n/aXb", "/%7e?x=1\n/~"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

pub(crate) fn orders() -> Vec<Vec<u8>> {
    [
        r#"{"urls": ["https://h/a?b"], "soft": true, "reference": "r"}"#,
        r#"{"paths": ["/a*"], "hosts": ["h"], "tags": ["t"], "everything": true, "dry_run": true}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn logs() -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    for sequence in 1..4 {
        let record = log::PurgeRecord {
            sequence,
            created: 1,
            soft: false,
            scopes: vec![Scope::Everything],
            given: vec!["everything".to_owned()],
            keys: vec![1],
            reference: None,
        };
        log::encode(&log::LogLine::Ordered(record), &mut whole);
    }
    vec![whole]
}

pub(crate) fn batches() -> Vec<Vec<u8>> {
    vec![
        b"<?xml version=\"1.0\"?><InvalidationBatch xmlns=\"u\"><Paths><Quantity>1</Quantity><Items><Path>/a&amp;b</Path></Items></Paths><CallerReference>r</CallerReference></InvalidationBatch>".to_vec(),
    ]
}
