//! The tags by which a response is purged (`Cache-Tag`, `Surrogate-Key` and the fields that the policy names).
//!
//! A stored response keeps hashes, sorted. Two tags with one hash would only be purged together, which costs a fetch.

use crate::{
    http::{FieldName, Fields},
    plan::CachePolicy,
};

/// Tags of one response that are distinguished; a response with more matches every tag purge.
pub const MOST_TAGS: usize = 1000;

/// A hash that marks a response with more tags than are kept.
const ANY: u64 = u64::MAX;

/// A hash that is the same in every process: logs and stored responses keep it across restarts. FNV-1a, then murmur's
/// last step so that all bits depend on all bytes.
pub fn hash(text: &[u8]) -> u64 {
    let mut hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The hashes of the tags in the named fields. Tags are separated by commas (`Cache-Tag`) or white space
/// (`Surrogate-Key`), and compared byte by byte.
pub fn of(headers: &Fields, names: &[FieldName]) -> Box<[u64]> {
    let mut hashes: Vec<u64> = Vec::new();
    for name in names {
        for value in headers.get_all(name) {
            let tags = value
                .as_bytes()
                .split(|b| matches!(b, b',' | b' ' | b'\t'))
                .filter(|tag| !tag.is_empty());
            for tag in tags {
                if hashes.len() >= MOST_TAGS {
                    return Box::new([ANY]);
                }
                hashes.push(hash(tag));
            }
        }
    }
    hashes.sort_unstable();
    hashes.dedup();
    hashes.into_boxed_slice()
}

/// Takes the tags from a response; viewers see the fields only if the policy allows it.
pub fn take(headers: &mut Fields, policy: &CachePolicy) -> Box<[u64]> {
    let has = |name| headers.contains_key(name);
    // Most responses have none.
    if !policy.tags.iter().any(has) {
        return Box::default();
    }
    let tags = of(headers, &policy.tags);
    if !policy.send_tags {
        for name in &policy.tags {
            headers.remove(name);
        }
    }
    tags
}

/// The tags of a response with those that callables gave it.
pub fn with(tags: Box<[u64]>, more: &[u64]) -> Box<[u64]> {
    if more.is_empty() || has_any(&tags) {
        return tags;
    }
    let mut all = tags.into_vec();
    all.extend_from_slice(more);
    all.sort_unstable();
    all.dedup();
    if all.len() > MOST_TAGS {
        return Box::new([ANY]);
    }
    all.into_boxed_slice()
}

/// True if a purge of the tag with this hash matches a response with these tags.
pub fn has(tags: &[u64], wanted: u64) -> bool {
    tags.binary_search(&wanted).is_ok() || has_any(tags)
}

/// Tags that are not known: every tag purge matches them.
pub fn any() -> Vec<u64> {
    vec![ANY]
}

/// True if every tag purge matches it.
pub fn has_any(tags: &[u64]) -> bool {
    tags.last() == Some(&ANY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::header;
    use http::HeaderValue;

    #[test]
    fn tags_are_read_from_every_named_field() {
        let names = [header::CACHE_TAG, header::SURROGATE_KEY].map(FieldName::known);
        let mut headers = Fields::new();
        headers.append("cache-tag", HeaderValue::from_static("a, b,,c"));
        headers.append("cache-tag", HeaderValue::from_static("d"));
        headers.append("surrogate-key", HeaderValue::from_static("e  f\tb"));
        headers.append("x-other", HeaderValue::from_static("g"));
        let tags = of(&headers, &names);
        assert_eq!(tags.len(), 6, "b is there once");
        for tag in ["a", "b", "c", "d", "e", "f"] {
            assert!(has(&tags, hash(tag.as_bytes())), "{tag}");
        }
        for tag in ["g", "A", "", "a,"] {
            assert!(!has(&tags, hash(tag.as_bytes())), "{tag}");
        }
        assert!(of(&headers, &[]).is_empty());
    }

    #[test]
    fn too_many_tags_match_every_purge() {
        let many = (0..=MOST_TAGS).map(|n| n.to_string()).collect::<Vec<_>>();
        let mut headers = Fields::new();
        if let Ok(value) = HeaderValue::from_str(&many.join(",")) {
            headers.insert("cache-tag", value);
        }
        let tags = of(&headers, &[header::CACHE_TAG.into()]);
        assert!(has(&tags, hash(b"7")) && has(&tags, hash(b"never seen")));
    }

    #[test]
    fn the_hash_never_changes() {
        // Logs and stored responses hold these hashes.
        assert_eq!(hash(b""), 0xefd0_1f60_ba99_2926);
    }
}
