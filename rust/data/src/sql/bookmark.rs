//! Bookmarks: positions that clients keep between two calls, as text that only this edge can have written.
//!
//! A bookmark is base64url of a kind, a position, and a keyed hash of both and of the binding's name. Anything else
//! that a client brings is treated as a bookmark of an unknown position, for which the primary answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::position::Position;

/// Characters of a bookmark, at most.
pub const LONGEST_BOOKMARK: usize = 256;
/// Bytes of the hash.
const TAG: usize = 16;
/// A bookmark whose position is not known.
const UNKNOWN: &[u8] = b"?";

/// Writes and reads the bookmarks of one binding.
#[derive(Debug)]
pub(crate) struct Bookmarks {
    key: hmac::Key,
    binding: Arc<str>,
    refused: AtomicU64,
}

/// The data that a session has to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Needed {
    /// Any.
    Nothing,
    /// All changes of the primary.
    Newest,
    /// The changes up to a position.
    UpTo(Position),
}

impl Bookmarks {
    pub(crate) fn new(key: &[u8], binding: &Arc<str>) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            binding: Arc::clone(binding),
            refused: AtomicU64::new(0),
        }
    }

    /// Texts that were none of this binding.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn tag(&self, content: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"edgerouter bookmark\0");
        context.update(self.binding.as_bytes());
        context.update(b"\0");
        context.update(content);
        context.sign()
    }

    pub(super) fn write(&self, needed: &Needed) -> Option<String> {
        let mut bytes = Vec::new();
        match needed {
            Needed::Nothing => return None,
            Needed::Newest => bytes.extend(UNKNOWN),
            Needed::UpTo(position) => position.encode(&mut bytes),
        }
        let tag = self.tag(&bytes);
        bytes.extend(tag.as_ref().iter().take(TAG));
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The data that a session needs that begins with a text.
    pub(super) fn read(&self, text: &str) -> Needed {
        match text {
            "" | "first-unconstrained" => return Needed::Nothing,
            "first-primary" => return Needed::Newest,
            _ => {}
        }
        self.verified(text).unwrap_or_else(|| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Needed::Newest
        })
    }

    fn verified(&self, text: &str) -> Option<Needed> {
        if text.len() > LONGEST_BOOKMARK {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (content, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
        let wanted = self.tag(content);
        constant_time::verify_slices_are_equal(wanted.as_ref().get(..TAG)?, tag).ok()?;
        if content == UNKNOWN {
            return Some(Needed::Newest);
        }
        Position::decode(content).map(Needed::UpTo)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_is_read_by_its_own_binding_only() {
        let of = |key: &[u8], name: &str| Bookmarks::new(key, &name.into());
        let own = of(b"key", "DB");
        let needed = Needed::UpTo(Position::Postgres(7));
        let text = own.write(&needed).unwrap();
        assert_eq!(own.read(&text), needed);
        assert_eq!(of(b"key", "DB").read(&text), needed);
        for foreign in [of(b"other", "DB"), of(b"key", "DB2")] {
            assert_eq!(foreign.read(&text), Needed::Newest);
            assert_eq!(foreign.refused(), 1);
        }
        assert_eq!((own.read(""), own.refused()), (Needed::Nothing, 0));
        let unknown = own.write(&Needed::Newest).unwrap();
        assert_eq!((own.read(&unknown), own.refused()), (Needed::Newest, 0));
        assert_eq!(own.write(&Needed::Nothing), None);
    }

    #[test]
    fn no_other_text_is_a_bookmark() {
        let own = Bookmarks::new(b"key", &"DB".into());
        let text = own.write(&Needed::UpTo(Position::Postgres(7))).unwrap();
        let mut others: Vec<String> = (1..text.len()).map(|end| text[..end].to_owned()).collect();
        for at in 0..text.len() {
            let other = if text.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            let mut changed = text.clone();
            changed.replace_range(at..=at, other);
            others.push(changed);
        }
        others.extend([
            format!("{text}="),
            format!("{text}A"),
            format!(" {text}"),
            "ü".to_owned(),
            "first-Primary".to_owned(),
            "A".repeat(1 << 20),
        ]);
        for (count, other) in others.iter().enumerate() {
            assert_eq!(own.read(other), Needed::Newest, "{other}");
            assert_eq!(own.refused(), count as u64 + 1);
        }
    }

    #[test]
    fn the_longest_bookmark_has_its_bound() {
        let all: String = (0..14).map(|at| format!("{at}-1-{},", u64::MAX)).collect();
        let position = Position::of_maria(&all).unwrap();
        let own = Bookmarks::new(b"key", &"DB".into());
        let text = own.write(&Needed::UpTo(position)).unwrap();
        assert!(text.len() <= LONGEST_BOOKMARK, "{}", text.len());
    }
}
