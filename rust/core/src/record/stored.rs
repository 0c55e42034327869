//! The content of records: the head of a response, and the list of names that select among variants.

use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::{Damage, Take};
use crate::{
    cache::freshness::{Freshness, LifetimeRule},
    http::{FieldName, FieldValue, Fields},
};

/// Everything about a stored response but its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    /// The response's own status, before conditions and ranges.
    pub status: StatusCode,
    /// The fields that every client gets.
    pub headers: Fields,
    /// Its times, computed on arrival.
    pub freshness: Freshness,
    /// Milliseconds that its fetch took.
    pub took: u32,
    /// Age in seconds from which on a hit may refresh it ahead of expiry; `u32::MAX`: never.
    pub refresh_from: u32,
    /// The origin's own `Cache-Status`, kept apart from `headers`.
    pub upstream_status: Option<HeaderValue>,
    /// Fields that `no-cache="…"` and `private="…"` name, left out of `headers` (RFC 9111 §5.2.2.4, §5.2.2.7).
    pub set_aside: SmallVec<[FieldName; 2]>,
    /// It has an `ETag` or a `Last-Modified`.
    pub has_validator: bool,
    /// Present if the body is in separate records.
    pub cut: Option<StoredSlices>,
    /// The part of the keys of its coded variants that no other response shares, if it may have any.
    pub variants: Option<u64>,
}

/// A body that is stored in separate records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredSlices {
    /// Bytes of each slice but the last.
    pub size: u64,
    /// The part of the slices' keys that no other object shares.
    pub nonce: u64,
    /// Of the whole body.
    pub length: u64,
}

const MUST_REVALIDATE: u8 = 1;
const ALWAYS_VALIDATE: u8 = 2;
const HAS_VALIDATOR: u8 = 4;
const HAS_UPSTREAM_STATUS: u8 = 8;
const IS_CUT: u8 = 16;
const IMMUTABLE: u8 = 32;
const WHEN_DISCONNECTED: u8 = 64;
const HAS_VARIANTS: u8 = 128;

/// A stored head, borrowed from its entry.
#[derive(Debug, Clone, Copy)]
pub struct HeadRef<'a> {
    /// The response's own status, before conditions and ranges.
    pub status: StatusCode,
    /// The fields that every client gets.
    pub headers: &'a Fields,
    /// Its times, computed on arrival.
    pub freshness: &'a Freshness,
    /// Milliseconds that its fetch took.
    pub took: u32,
    /// Age in seconds from which on a hit may refresh it ahead of expiry; `u32::MAX`: never.
    pub refresh_from: u32,
    /// The origin's own `Cache-Status`, kept apart from `headers`.
    pub upstream_status: Option<&'a HeaderValue>,
    /// Fields that are left out of `headers` for every client but the first.
    pub set_aside: &'a [FieldName],
    /// It has an `ETag` or a `Last-Modified`.
    pub has_validator: bool,
    /// Present if the body is in separate records.
    pub cut: Option<StoredSlices>,
    /// The number in the keys of its coded variants, if it may have any.
    pub variants: Option<u64>,
}

impl<'a> From<&'a StoredHead> for HeadRef<'a> {
    fn from(head: &'a StoredHead) -> Self {
        Self {
            status: head.status,
            headers: &head.headers,
            freshness: &head.freshness,
            took: head.took,
            refresh_from: head.refresh_from,
            upstream_status: head.upstream_status.as_ref(),
            set_aside: &head.set_aside,
            has_validator: head.has_validator,
            cut: head.cut,
            variants: head.variants,
        }
    }
}

/// Appends a head. `None` when a name or a list is too long for its length field.
pub fn write_head(out: &mut Vec<u8>, head: &HeadRef<'_>) -> Option<()> {
    let Freshness {
        lifetime,
        rule,
        initial_age,
        stored_at,
        stale_while_revalidate,
        stale_if_error,
        must_revalidate,
        always_validate,
        immutable,
        when_disconnected,
    } = *head.freshness;
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.extend_from_slice(&head.status.as_u16().to_le_bytes());
    out.push(
        flag(must_revalidate, MUST_REVALIDATE)
            | flag(always_validate, ALWAYS_VALIDATE)
            | flag(immutable, IMMUTABLE)
            | flag(when_disconnected, WHEN_DISCONNECTED)
            | flag(head.has_validator, HAS_VALIDATOR)
            | flag(head.upstream_status.is_some(), HAS_UPSTREAM_STATUS)
            | flag(head.cut.is_some(), IS_CUT)
            | flag(head.variants.is_some(), HAS_VARIANTS),
    );
    out.push(rule.number());
    out.extend_from_slice(&stored_at.to_le_bytes());
    for seconds in [
        lifetime,
        initial_age,
        stale_while_revalidate,
        stale_if_error,
        head.took,
        head.refresh_from,
    ] {
        out.extend_from_slice(&seconds.to_le_bytes());
    }
    if let Some(cut) = head.cut {
        for number in [cut.size, cut.nonce, cut.length] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    if let Some(nonce) = head.variants {
        out.extend_from_slice(&nonce.to_le_bytes());
    }
    if let Some(value) = head.upstream_status {
        long(out, value.as_bytes())?;
    }
    count(out, head.set_aside.len())?;
    for name in head.set_aside {
        short(out, name.as_str().as_bytes())?;
    }
    count(out, head.headers.len())?;
    for (name, value) in head.headers {
        short(out, name.as_wire())?;
        long(out, value.as_bytes())?;
    }
    Some(())
}

/// Reads what `write_head` wrote.
pub fn read_head(bytes: &[u8]) -> Result<StoredHead, Damage> {
    let mut from = Take(bytes);
    let status = StatusCode::from_u16(from.u16()?).map_err(|_| Damage::Content)?;
    let flags = from.u8()?;
    let rule = LifetimeRule::of_number(from.u8()?).ok_or(Damage::Content)?;
    let stored_at = from.u64()?;
    let freshness = Freshness {
        stored_at,
        rule,
        lifetime: from.u32()?,
        initial_age: from.u32()?,
        stale_while_revalidate: from.u32()?,
        stale_if_error: from.u32()?,
        must_revalidate: flags & MUST_REVALIDATE != 0,
        always_validate: flags & ALWAYS_VALIDATE != 0,
        immutable: flags & IMMUTABLE != 0,
        when_disconnected: flags & WHEN_DISCONNECTED != 0,
    };
    let (took, refresh_from) = (from.u32()?, from.u32()?);
    let cut = if flags & IS_CUT != 0 {
        Some(StoredSlices {
            size: from.u64()?,
            nonce: from.u64()?,
            length: from.u64()?,
        })
    } else {
        None
    };
    let variants = if flags & HAS_VARIANTS != 0 {
        Some(from.u64()?)
    } else {
        None
    };
    let upstream_status = if flags & HAS_UPSTREAM_STATUS != 0 {
        Some(HeaderValue::from_bytes(from.long()?).map_err(|_| Damage::Content)?)
    } else {
        None
    };
    let mut set_aside = SmallVec::new();
    for _ in 0..from.u16()? {
        set_aside.push(name(from.short()?)?);
    }
    let fields = usize::from(from.u16()?);
    let mut headers = Fields::new();
    for _ in 0..fields {
        let name = from.short()?;
        let value = FieldValue::of(from.long()?).ok_or(Damage::Content)?;
        headers
            .append_wire(name, value)
            .map_err(|_| Damage::Content)?;
    }
    from.end()?;
    Ok(StoredHead {
        status,
        headers,
        freshness,
        took,
        refresh_from,
        upstream_status,
        set_aside,
        has_validator: flags & HAS_VALIDATOR != 0,
        cut,
        variants,
    })
}

/// Appends the names and the nonce of a variants' list.
pub fn write_variants(out: &mut Vec<u8>, names: &[FieldName], nonce: u64) -> Option<()> {
    out.extend_from_slice(&nonce.to_le_bytes());
    count(out, names.len())?;
    for name in names {
        short(out, name.as_str().as_bytes())?;
    }
    Some(())
}

/// Reads the selecting names and the nonce that [`write_variants`] wrote.
pub fn read_variants(bytes: &[u8]) -> Result<(SmallVec<[FieldName; 4]>, u64), Damage> {
    let mut from = Take(bytes);
    let nonce = from.u64()?;
    let mut names = SmallVec::new();
    for _ in 0..from.u16()? {
        names.push(name(from.short()?)?);
    }
    from.end()?;
    Ok((names, nonce))
}

/// Appends the data that purges are compared with: the path that the viewer requested, if it differs from the key's,
/// and the tags.
pub fn write_facts(out: &mut Vec<u8>, viewer: Option<&str>, tags: &[u64]) -> Option<()> {
    out.push(u8::from(viewer.is_some()));
    if let Some(viewer) = viewer {
        long(out, viewer.as_bytes())?;
    }
    for tag in tags {
        out.extend_from_slice(&tag.to_le_bytes());
    }
    Some(())
}

/// Reads the path that the viewer requested, if it differs from the key's, and the hashes of the tags.
pub fn read_facts(bytes: &[u8]) -> Result<(Option<&str>, Box<[u64]>), Damage> {
    let mut from = Take(bytes);
    let viewer = match from.u8()? {
        0 => None,
        1 => Some(std::str::from_utf8(from.long()?).map_err(|_| Damage::Content)?),
        _ => return Err(Damage::Content),
    };
    let (tags, rest) = from.0.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Damage::Lengths);
    }
    Ok((
        viewer,
        tags.iter().map(|tag| u64::from_le_bytes(*tag)).collect(),
    ))
}

fn name(bytes: &[u8]) -> Result<FieldName, Damage> {
    FieldName::from_bytes(bytes).map_err(|_| Damage::Content)
}

fn count(out: &mut Vec<u8>, number: usize) -> Option<()> {
    out.extend_from_slice(&u16::try_from(number).ok()?.to_le_bytes());
    Some(())
}

fn short(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    count(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Some(())
}

fn long(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use crate::http::header;

    use super::*;

    fn head() -> StoredHead {
        let mut headers = Fields::new();
        headers.append(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.append("x-many", HeaderValue::from_static("1"));
        headers.append("x-many", HeaderValue::from_static("2"));
        headers.append("x-empty", HeaderValue::from_static(""));
        headers.append("x-latin", HeaderValue::from_bytes(b"\xfc").unwrap());
        StoredHead {
            status: StatusCode::NOT_FOUND,
            headers,
            freshness: Freshness {
                lifetime: 60,
                rule: LifetimeRule::Heuristic,
                initial_age: 3,
                stored_at: 1_700_000_000,
                stale_while_revalidate: 30,
                stale_if_error: u32::MAX,
                must_revalidate: true,
                always_validate: false,
                immutable: true,
                when_disconnected: true,
            },
            took: 12,
            refresh_from: 50,
            upstream_status: Some(HeaderValue::from_static("far; hit")),
            set_aside: SmallVec::from_iter([header::SET_COOKIE.into()]),
            has_validator: true,
            cut: Some(StoredSlices {
                size: 1 << 20,
                nonce: 3,
                length: 5 << 30,
            }),
            variants: Some(u64::MAX - 1),
        }
    }

    fn written(head: &StoredHead) -> Vec<u8> {
        let mut out = Vec::new();
        write_head(&mut out, &head.into()).unwrap();
        out
    }

    #[test]
    fn a_head_reads_as_it_was_written() {
        let head = head();
        assert_eq!(read_head(&written(&head)).unwrap(), head);
    }

    /// The numbers are stored on disks: changing one needs another version of the records.
    #[test]
    fn the_numbers_of_the_rules_are_what_they_always_were() {
        let rules = [
            LifetimeRule::None,
            LifetimeRule::Policy,
            LifetimeRule::SMaxage,
            LifetimeRule::MaxAge,
            LifetimeRule::Expires,
            LifetimeRule::Negative,
            LifetimeRule::Default,
            LifetimeRule::Heuristic,
        ];
        assert_eq!(rules, LifetimeRule::ALL);
        for (number, rule) in (0..).zip(rules) {
            assert_eq!(
                (rule.number(), LifetimeRule::of_number(number)),
                (number, Some(rule))
            );
            let mut head = head();
            head.freshness.rule = rule;
            assert_eq!(written(&head)[3], number, "{rule:?}");
        }
        assert_eq!(LifetimeRule::of_number(8), None);
    }

    #[test]
    fn a_head_cut_short_or_with_more_behind_it_is_refused() {
        let bytes = written(&head());
        for length in 0..bytes.len() {
            assert!(read_head(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(read_head(&longer), Err(Damage::Lengths));
    }

    #[test]
    fn facts_for_purges_read_as_they_were_written() {
        for (viewer, tags) in [(None, &[][..]), (Some("/a"), &[1, u64::MAX][..])] {
            let mut out = Vec::new();
            write_facts(&mut out, viewer, tags).unwrap();
            let (read, read_tags) = read_facts(&out).unwrap();
            assert_eq!((read, &*read_tags), (viewer, tags));
            assert!(read_facts(&out[..out.len() - 1]).is_err());
        }
    }

    #[test]
    fn variants_read_as_they_were_written() {
        let names = [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE].map(FieldName::known);
        let mut out = Vec::new();
        write_variants(&mut out, &names, 99).unwrap();
        let (read, nonce) = read_variants(&out).unwrap();
        assert_eq!((&read[..], nonce), (&names[..], 99));
    }
}
