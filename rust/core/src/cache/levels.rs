//! The levels of the store: the way from the key of a URL to the response that a request selects (RFC 9111 §4.1).
//!
//! A response is stored under the URL's own key. Where requests have dimensions (by the policy's key, by an experiment,
//! by hooks), an entry leads from the URL to the responses that those distinguish; where the response selects by
//! `Vary`, one more names the fields. Removing the one or two entries that a URL has makes all of its responses
//! unreachable at once, so invalidation never walks.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use crate::http::{FieldName, Fields};
use smallvec::SmallVec;

use super::{
    key::{DIMENSIONS, Key},
    vary::{self, Reduced},
};

/// The names that select among variants (RFC 9111 §4.1), and a nonce that is part of every variant's key: a new nonce
/// makes all variants of before unreachable at once. The entry that leads to the responses that dimensions tell apart
/// has no names.
#[derive(Debug, Clone)]
pub struct Variants {
    /// The selecting fields, sorted, each once. Empty for the entry that leads to dimensions.
    pub names: SmallVec<[FieldName; 4]>,
    /// Random; part of the key of every variant.
    pub nonce: u64,
    needed: Needed,
}

/// The names that the `Vary` of the last responses had, by their places. Bits and a number that threads change one
/// after the other: an error costs a variant, and never gives a request the variant of another.
#[derive(Debug, Default)]
struct Needed {
    responses: AtomicU32,
    places: AtomicU64,
}

impl Clone for Needed {
    /// A copy begins to count.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Variants for a response that selects by certain names.
#[derive(Debug)]
pub enum Leading {
    /// Those that an entry leads to.
    Known(Variants),
    /// New ones, whose entry is to be stored.
    New(Variants),
}

/// Responses in a row without a name, after which it selects no longer.
const UNTIL_GIVEN_UP: u32 = 128;

/// Names by which the responses for one URL may be selected, together. A response may have all that its `Vary` names,
/// and what its hooks read.
const MOST_NAMES: usize = 256;

impl Variants {
    /// Variants by these names, sorted, each once.
    pub fn new(names: SmallVec<[FieldName; 4]>, nonce: u64) -> Self {
        Self {
            names,
            nonce,
            needed: Needed::default(),
        }
    }

    /// The variants among which a response is stored that selects by `names`: `known` if they see all of these, or else
    /// new ones that see the names of both. A name that an origin sends no longer is given up with new variants, or it
    /// would tell requests apart for as long as the URL is in demand.
    pub fn leading(
        known: Option<&Self>,
        names: &[FieldName],
        nonce: impl FnOnce() -> u64,
    ) -> Leading {
        let all = match known {
            Some(known) if names.iter().all(|name| known.names.contains(name)) => {
                match known.fewer(names) {
                    Some(fewer) => fewer,
                    None => return Leading::Known(known.clone()),
                }
            }
            _ => Self::joined(known.map_or(&[], |known| &known.names), names),
        };
        Leading::New(Self::new(all, nonce()))
    }

    /// Counts a response that selects by `names`. The names that are left if some are given up.
    fn fewer(&self, names: &[FieldName]) -> Option<SmallVec<[FieldName; 4]>> {
        // More than bits: all of them stay.
        if self.names.is_empty() || self.names.len() > u64::BITS as usize {
            return None;
        }
        let bits = self.names.iter().rev().fold(0u64, |bits, name| {
            bits << 1 | u64::from(names.contains(name))
        });
        let seen = self.needed.places.fetch_or(bits, Relaxed) | bits;
        if self.needed.responses.fetch_add(1, Relaxed) + 1 != UNTIL_GIVEN_UP {
            return None;
        }
        self.needed.responses.store(0, Relaxed);
        self.needed.places.store(0, Relaxed);
        let needed = self.names.iter().enumerate();
        let needed: SmallVec<_> = needed
            .filter(|(at, _)| seen >> at & 1 == 1)
            .map(|(_, name)| name.clone())
            .collect();
        (needed.len() < self.names.len()).then_some(needed)
    }

    /// The names of an entry that leads to variants by those of `known` and by `names`. An origin whose `Vary` names
    /// other fields each time would make the list endless, and every look-up slower: then it begins again with `names`.
    pub fn joined(known: &[FieldName], names: &[FieldName]) -> SmallVec<[FieldName; 4]> {
        let more = names.iter().filter(|name| !known.contains(name));
        let all: SmallVec<[FieldName; 4]> = known.iter().chain(more).cloned().collect();
        if all.len() > MOST_NAMES {
            return names.into();
        }
        all
    }

    /// Extends the key of a URL and its dimensions to that of the variant which a request selects. `reduced` as for
    /// [`vary::secondary`].
    pub fn select(&self, key: &mut Vec<u8>, request: &Fields, reduced: Reduced) {
        key.push(0);
        key.extend_from_slice(&self.nonce.to_le_bytes());
        vary::secondary(key, &self.names, request, reduced);
    }
}

/// A stored entry, as far as it leads to others.
pub trait Level {
    /// The variants to which the entry leads; `None` for one that is a response itself.
    fn variants(&self) -> Option<&Variants>;
}

impl<E: Level> Level for Arc<E> {
    fn variants(&self) -> Option<&Variants> {
        (**self).variants()
    }
}

/// The end of the way.
#[derive(Debug)]
pub struct Selected<E> {
    /// The entry under the last key, which may be no response.
    pub found: Option<E>,
    /// The entry that led to it.
    pub above: Option<E>,
}

impl Key {
    /// Follows the levels to the response that a request selects, and grows to its key. `find` reads the entry under a
    /// key.
    pub fn descend<E: Level, Error>(
        &mut self,
        request: &Fields,
        reduced: Reduced,
        mut find: impl FnMut(&[u8]) -> Result<Option<E>, Error>,
    ) -> Result<Selected<E>, Error> {
        self.bytes.truncate(self.end);
        let hops = if self.dimensions().is_empty() { 1 } else { 2 };
        let mut found = find(self.top())?;
        let mut above = None;
        for _ in 0..hops {
            let Some(variants) = found.as_ref().and_then(Level::variants) else {
                break;
            };
            variants.select(&mut self.bytes, request, reduced);
            let next = find(&self.bytes)?;
            above = std::mem::replace(&mut found, next);
        }
        Ok(Selected { found, above })
    }

    /// As `descend`, of a store that can always be read.
    pub fn select<E: Level>(
        &mut self,
        request: &Fields,
        reduced: Reduced,
        mut find: impl FnMut(&[u8]) -> Option<E>,
    ) -> Selected<E> {
        let find = |key: &[u8]| Ok::<_, Infallible>(find(key));
        match self.descend(request, reduced, find) {
            Ok(selected) => selected,
            Err(never) => match never {},
        }
    }

    /// Grows to the key under which a response that selects by `names` is stored. `lead` gives the entry under a key
    /// that leads to variants by at least these names.
    pub fn place(
        &mut self,
        request: &Fields,
        reduced: Reduced,
        names: &[FieldName],
        mut lead: impl FnMut(&[u8], &[FieldName]) -> Variants,
    ) {
        if !self.dimensions().is_empty() {
            lead(self.top(), &[]).select(&mut self.bytes, request, reduced);
        }
        if !names.is_empty() {
            lead(&self.bytes, names).select(&mut self.bytes, request, reduced);
        }
    }

    /// The keys of the one or two entries that lead to all responses for a URL.
    pub fn tops(self) -> [Vec<u8>; 2] {
        let url = self.url().to_vec();
        let mut with_dimensions = url.clone();
        with_dimensions.push(DIMENSIONS);
        [url, with_dimensions]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::collections::HashMap;

    use crate::http::header;
    use http::HeaderValue;

    use super::*;
    use crate::{
        cache::key::{Base, KeyParts},
        plan::{CachePolicy, Scheme},
    };

    #[derive(Debug, Clone)]
    enum Kept {
        Leads(Variants),
        Response(&'static str),
    }

    impl Level for Kept {
        fn variants(&self) -> Option<&Variants> {
            match self {
                Self::Leads(variants) => Some(variants),
                Self::Response(_) => None,
            }
        }
    }

    type Kepts = HashMap<Vec<u8>, Kept>;

    fn key(variant: &str) -> Key {
        let base = Base {
            scheme: Scheme::Http,
            host: "h",
            port: None,
        };
        let policy = CachePolicy::default();
        let mut key = Key::of(b"left over".to_vec(), base, "/a", None, &policy);
        key.add(&KeyParts {
            headers: &Fields::new(),
            policy: &policy,
            variants: &[("home", variant)][usize::from(variant.is_empty())..],
            claims: &[],
            edge_set: &[],
            hooked: &[],
            tag: None,
        });
        key
    }

    fn language(value: &'static str) -> Fields {
        Fields::from_iter([(header::ACCEPT_LANGUAGE, HeaderValue::from_static(value))])
    }

    fn place(
        store: &mut Kepts,
        mut key: Key,
        request: &Fields,
        names: &[FieldName],
        response: &'static str,
    ) {
        key.place(request, Reduced::default(), names, |above, names| {
            let nonce = store.len() as u64;
            let lead = store
                .entry(above.to_vec())
                .or_insert_with(|| Kept::Leads(Variants::new(names.into(), nonce)));
            lead.variants().unwrap().clone()
        });
        store.insert(key.into_buffer(), Kept::Response(response));
    }

    fn find(store: &Kepts, mut key: Key, request: &Fields) -> Option<&'static str> {
        let get = |key: &[u8]| store.get(key).cloned();
        match key.select(request, Reduced::default(), get).found? {
            Kept::Response(response) => Some(response),
            Kept::Leads(_) => None,
        }
    }

    #[test]
    fn a_response_is_found_where_it_was_placed_and_by_no_other_request() {
        let mut store = Kepts::new();
        let by_language = [header::ACCEPT_LANGUAGE].map(FieldName::known);
        place(
            &mut store,
            key("control"),
            &language("de"),
            &by_language,
            "control, de",
        );
        place(
            &mut store,
            key("control"),
            &language("fr"),
            &by_language,
            "control, fr",
        );
        place(&mut store, key("bold"), &language("de"), &[], "bold");
        for (variant, request, want) in [
            ("control", "de", Some("control, de")),
            ("control", "fr", Some("control, fr")),
            ("control", "it", None),
            ("bold", "de", Some("bold")),
            ("bold", "it", Some("bold")),
            ("plain", "de", None),
            ("", "de", None),
        ] {
            let found = find(&store, key(variant), &language(request));
            assert_eq!(found, want, "{variant:?}, {request}");
        }
        place(
            &mut store,
            key(""),
            &language("de"),
            &[],
            "without dimensions",
        );
        assert_eq!(
            find(&store, key(""), &language("it")),
            Some("without dimensions")
        );
        assert_eq!(find(&store, key("bold"), &language("it")), Some("bold"));
    }

    #[test]
    fn the_names_of_an_origin_that_names_others_each_time_begin_again() {
        let names = |from: usize, count: usize| -> Vec<FieldName> {
            let name = |at| FieldName::from_bytes(format!("x-{at}").as_bytes()).unwrap();
            (from..from + count).map(name).collect()
        };
        let (old, new) = (names(0, MOST_NAMES - 1), names(MOST_NAMES - 2, 2));
        assert_eq!(Variants::joined(&old, &new).len(), MOST_NAMES);
        assert_eq!(*Variants::joined(&old, &old), *old);
        let new = names(MOST_NAMES, 2);
        assert_eq!(*Variants::joined(&old, &new), *new);
    }

    #[test]
    fn a_name_that_the_last_responses_did_not_have_is_given_up() {
        let of = |text: &str| -> SmallVec<[FieldName; 4]> {
            let name = |name: &str| FieldName::from_bytes(name.as_bytes()).unwrap();
            text.split(' ').map(name).collect()
        };
        let new = |leading| match leading {
            Leading::New(variants) => Some(variants),
            Leading::Known(_) => None,
        };
        let variants = Variants::new(of("a b c"), 1);
        let last = UNTIL_GIVEN_UP - 1;
        let placed = |names: &[FieldName]| new(Variants::leading(Some(&variants), names, || 2));
        for _ in 0..last {
            assert!(placed(&of("a")).is_none());
        }
        let fewer = placed(&of("c")).unwrap();
        assert_eq!((fewer.names, fewer.nonce), (of("a c"), 2));
        // Names that alternate are all needed, and counting begins anew.
        for turn in 0..4 * UNTIL_GIVEN_UP {
            let names = of(["a b", "c"][turn as usize % 2]);
            assert!(placed(&names).is_none());
        }
        // A name that is not known joins.
        let more = placed(&of("a d")).unwrap();
        assert_eq!(more.names, of("a b c d"));
        assert_eq!(
            new(Variants::leading(None, &of("a"), || 3)).unwrap().names,
            of("a")
        );
    }

    #[test]
    fn what_leads_to_a_missing_response_is_named() {
        let mut store = Kepts::new();
        place(
            &mut store,
            key(""),
            &language("de"),
            &[header::ACCEPT_LANGUAGE.into()],
            "de",
        );
        let get = |key: &[u8]| store.get(key).cloned();
        let selected = key("").select(&language("fr"), Reduced::default(), get);
        assert!(selected.found.is_none() && selected.above.is_some());
        let selected = key("bold").select(&language("de"), Reduced::default(), get);
        assert!(selected.found.is_none() && selected.above.is_none());
    }

    #[test]
    fn without_the_entries_at_the_top_no_response_of_a_url_is_found() {
        let mut store = Kepts::new();
        let request = language("de");
        place(
            &mut store,
            key("bold"),
            &request,
            &[header::ACCEPT_LANGUAGE.into()],
            "bold",
        );
        place(&mut store, key(""), &request, &[], "plain");
        for top in key("").tops() {
            store.remove(&top);
        }
        assert_eq!(find(&store, key("bold"), &request), None);
        assert_eq!(find(&store, key(""), &request), None);
    }
}
