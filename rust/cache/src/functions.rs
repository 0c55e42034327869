//! The caches that functions use themselves: the default one and those with a name, in the store that routes use too.
//!
//! A function's entry has a key that no route's has, and is stored, matched and deleted by `core::cache::api`. Nothing
//! here waits: it is the memory tier only.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use edgerouter_core::{
    cache::{
        api::{self, CacheUrl, ReplyContent},
        key::Key,
        levels::{Level, Variants},
        purge::PurgeEffect,
        storable::NotStored,
        tags,
        vary::Reduced,
    },
    http::{FieldName, Fields, header},
    plan::CachePolicy,
};
use edgerouter_functions::{Answer, CacheError, FunctionCaches};
use edgerouter_store::{Content, Entry, Object, PurgeFacts, Store, compact_body, range_of};
use edgerouter_telemetry::{secret::SecretNumbers, text};
use http::{Method, StatusCode};
use parking_lot::Mutex;

use crate::purge::Purges;

/// All caches of functions.
#[derive(Debug)]
pub struct Registry {
    store: Arc<Store>,
    purges: Arc<Purges>,
    /// Names that functions may open, at most.
    most: AtomicUsize,
    /// Seconds between the wall clock and the system's, which tests move.
    shift: AtomicI64,
    secret: SecretNumbers,
    policy: CachePolicy,
    names: Mutex<HashSet<Arc<str>>>,
    counts: CacheCounts,
}

#[derive(Debug, Default)]
struct CacheCounts {
    hits: AtomicU64,
    misses: AtomicU64,
    stored: AtomicU64,
    not_stored: AtomicU64,
    refused: AtomicU64,
    deleted: AtomicU64,
    absent: AtomicU64,
}

impl Registry {
    /// `most`: named caches that may exist, from `limits.functions.named_caches`.
    pub fn new(store: Arc<Store>, purges: Arc<Purges>, most: usize) -> Self {
        Self {
            store,
            purges,
            most: AtomicUsize::new(most),
            shift: AtomicI64::default(),
            secret: SecretNumbers::default(),
            policy: api::policy(),
            names: Mutex::default(),
            counts: CacheCounts::default(),
        }
    }

    /// Follows `limits.functions.named_caches` of the plan in service.
    pub fn allow(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Moves the wall clock to `seconds` from the system's.
    pub fn shift_clock(&self, seconds: i64) {
        self.shift.store(seconds, Ordering::Release);
    }

    fn now(&self) -> u64 {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        unix.saturating_add_signed(self.shift.load(Ordering::Acquire))
    }

    /// Operations on the caches, as metrics.
    pub fn render(&self, out: &mut String) {
        let counts = &self.counts;
        let counted = [
            (["match", "hit"], &counts.hits),
            (["match", "miss"], &counts.misses),
            (["put", "stored"], &counts.stored),
            (["put", "not-stored"], &counts.not_stored),
            (["put", "refused"], &counts.refused),
            (["delete", "deleted"], &counts.deleted),
            (["delete", "absent"], &counts.absent),
        ];
        text::labelled(
            out,
            "edgerouter_function_cache_total",
            "Operations on the caches of functions, by result.",
            ["operation", "result"],
            counted.map(|(labels, count)| (labels, count.load(Ordering::Relaxed))),
        );
    }
}

impl Registry {
    /// The response under a key that a request selects, unless it was purged.
    fn stored(&self, mut key: Key, request: &Fields) -> Option<Arc<Entry>> {
        let get = |key: &[u8]| self.store.memory().get(key);
        let found = key.select(request, Reduced::default(), get).found?;
        let newest = self.purges.newest();
        if found.cleared() < newest {
            if self.purges.effect_on(&found) != PurgeEffect::Untouched {
                return None;
            }
            found.clear(newest);
        }
        Some(found)
    }

    fn keep(
        &self,
        mut key: Key,
        request: &Fields,
        status: StatusCode,
        kept: api::Kept,
        body: Bytes,
    ) -> bool {
        let api::Kept {
            head,
            freshness,
            vary: names,
        } = kept;
        let length = body.len() as u64;
        if length > self.store.memory().largest() {
            self.store.memory().remove(key.url());
            return false;
        }
        let facts = PurgeFacts {
            last_purge: self.purges.newest(),
            viewer: None,
            tags: tags::of(&head.headers, &self.policy.tags),
        };
        let object = Object {
            body: compact_body(vec![body], usize::try_from(length).unwrap_or(usize::MAX)),
            length,
            ..Object::new(status, head, freshness, Duration::ZERO, None)
        };
        key.place(request, Reduced::default(), &names, |above, names| {
            self.lead(above, names)
        });
        let entry = Entry::new(key.bytes(), Content::Object(object), facts);
        self.store.memory().insert(Arc::new(entry))
    }

    /// The entry that leads to variants by these names. If the previous response selected by other fields, the newest
    /// one decides how the next request selects.
    fn lead(&self, above: &[u8], names: &[FieldName]) -> Variants {
        let memory = self.store.memory();
        let known = memory.peek(above);
        if let Some(known) = known.as_ref().and_then(Level::variants)
            && names.iter().all(|name| known.names.contains(name))
        {
            return known.clone();
        }
        let variants = Variants::new(names.into(), fastrand::u64(..));
        let content = Content::Variants(variants.clone());
        memory.insert(Arc::new(Entry::new(above, content, PurgeFacts::default())));
        variants
    }

    fn answer(&self, object: &Object, request: &Fields, now: u64) -> Answer {
        let api::Reply {
            status,
            mut headers,
            content,
        } = api::reply(
            request,
            object.status,
            &object.headers,
            object.length,
            object.freshness.age(now),
            self.secret.unguessable(),
        );
        // The placeholder that a route would fill in.
        headers.remove(header::CACHE_STATUS);
        let body = match content {
            ReplyContent::Empty => Bytes::new(),
            ReplyContent::Whole => joined(object.body.iter().cloned()),
            ReplyContent::Range(range) => {
                joined(range_of(&object.body, range.first, range.last).into_iter())
            }
            ReplyContent::Parts { parts, end } => joined(
                parts
                    .into_iter()
                    .flat_map(|(head, range)| {
                        std::iter::once(head).chain(range_of(&object.body, range.first, range.last))
                    })
                    .chain([end]),
            ),
        };
        Answer {
            status,
            headers,
            body,
        }
    }
}

impl FunctionCaches for Registry {
    fn open(&self, name: &str) -> Result<Arc<str>, CacheError> {
        api::name(name)?;
        let mut names = self.names.lock();
        if let Some(known) = names.get(name) {
            return Ok(Arc::clone(known));
        }
        let name: Arc<str> = name.into();
        if &*name != api::DEFAULT {
            let most = self.most.load(Ordering::Relaxed);
            if names.len() >= most {
                return Err(CacheError::TooManyNames(most));
            }
            names.insert(Arc::clone(&name));
        }
        Ok(name)
    }

    fn find(&self, cache: &str, place: &CacheUrl, request: &Fields) -> Option<Answer> {
        let now = self.now();
        let found = self.stored(place.key(cache), request).and_then(|entry| {
            let object = entry.object()?;
            api::reusable(&object.freshness, &self.policy, now)
                .then(|| self.answer(&object, request, now))
        });
        let count = if found.is_some() {
            &self.counts.hits
        } else {
            &self.counts.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    fn miss(&self) {
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
    }

    fn put(
        &self,
        cache: &str,
        place: &CacheUrl,
        method: &Method,
        request: &Fields,
        response: Answer,
    ) -> Result<Result<(), NotStored>, CacheError> {
        let Self { policy, counts, .. } = self;
        let Answer {
            status,
            headers,
            body,
        } = response;
        let now = self.now();
        let judged = api::put(method, status, headers, body.len() as u64, policy, now);
        let (count, result) = match judged {
            Err(refused) => (&counts.refused, Err(CacheError::Refused(refused))),
            Ok(Err(why)) => (&counts.not_stored, Ok(Err(why))),
            Ok(Ok(kept)) => {
                if self.keep(place.key(cache), request, status, kept, body) {
                    (&counts.stored, Ok(Ok(())))
                } else {
                    (&counts.not_stored, Ok(Err(NotStored::TooLarge)))
                }
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        result
    }

    fn delete(&self, cache: &str, place: &CacheUrl) -> bool {
        let deleted = self.store.memory().remove(place.key(cache).url());
        let count = if deleted {
            &self.counts.deleted
        } else {
            &self.counts.absent
        };
        count.fetch_add(1, Ordering::Relaxed);
        deleted
    }
}

/// The caches of a version whose functions find nothing that those of other versions have stored.
#[derive(Debug)]
pub struct CachesApart {
    registry: Arc<Registry>,
    tag: Arc<str>,
}

impl CachesApart {
    /// `tag`: no other version has it.
    pub fn new(registry: Arc<Registry>, tag: Arc<str>) -> Self {
        Self { registry, tag }
    }

    /// No name of a cache has a line feed.
    fn own(&self, cache: &str) -> String {
        format!("{}\n{cache}", self.tag)
    }
}

impl FunctionCaches for CachesApart {
    fn open(&self, name: &str) -> Result<Arc<str>, CacheError> {
        self.registry.open(name)
    }

    fn find(&self, cache: &str, place: &CacheUrl, request: &Fields) -> Option<Answer> {
        self.registry.find(&self.own(cache), place, request)
    }

    fn miss(&self) {
        self.registry.miss();
    }

    fn put(
        &self,
        cache: &str,
        place: &CacheUrl,
        method: &Method,
        request: &Fields,
        response: Answer,
    ) -> Result<Result<(), NotStored>, CacheError> {
        let own = self.own(cache);
        self.registry.put(&own, place, method, request, response)
    }

    fn delete(&self, cache: &str, place: &CacheUrl) -> bool {
        self.registry.delete(&self.own(cache), place)
    }
}

/// A single piece, as most bodies are, is passed on without a copy.
fn joined(pieces: impl Iterator<Item = Bytes>) -> Bytes {
    let pieces: Vec<Bytes> = pieces.collect();
    match pieces.as_slice() {
        [] => Bytes::new(),
        [one] => one.clone(),
        _ => pieces.concat().into(),
    }
}
