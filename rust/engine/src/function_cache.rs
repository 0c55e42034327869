//! The caches that functions use themselves: the default one and those with a name, in the store that routes use too.
//!
//! A function's entry has a key that no route's has, and is stored, matched and deleted by `core::cache::api`. Nothing
//! here waits: it is the memory tier only.

use std::{
    collections::HashSet,
    fmt::Write as _,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use edgerouter_core::{
    cache::{
        api::{self, Content as Answered, NameError, Place, Refused},
        purge::{PurgeEffect, Subject},
        storable::NotStored,
        tags, validate,
        vary::Reduced,
    },
    http::structured::CACHE_STATUS,
    plan::CachePolicy,
};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;

use crate::{
    body::range_of,
    functions::Answer,
    store::{Birth, Content, Entry, Object, Variants, View, compact_body},
    telemetry::text,
    worker::Shared,
};

/// What all function caches share.
#[derive(Debug)]
pub struct Registry {
    policy: CachePolicy,
    names: Mutex<HashSet<Arc<str>>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    stored: AtomicU64,
    not_stored: AtomicU64,
    refused: AtomicU64,
    deleted: AtomicU64,
    absent: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            policy: api::policy(),
            names: Mutex::default(),
            counts: Counts::default(),
        }
    }
}

impl Registry {
    /// What was done with the caches, as metrics.
    pub fn render(&self, out: &mut String) {
        let counts = &self.counts;
        let name = "edgerouter_function_cache_total";
        let help = "Operations on the caches of functions, by result.";
        text::head(out, name, "counter", help);
        for (operation, result, count) in [
            ("match", "hit", &counts.hits),
            ("match", "miss", &counts.misses),
            ("put", "stored", &counts.stored),
            ("put", "not-stored", &counts.not_stored),
            ("put", "refused", &counts.refused),
            ("delete", "deleted", &counts.deleted),
            ("delete", "absent", &counts.absent),
        ] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "{name}{{operation=\"{operation}\",result=\"{result}\"}} {count}"
            );
        }
    }
}

/// Why an operation was refused. The text names the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(
        "there are {0} named caches already, which is as many as limits.functions.named_caches allows; use fewer names, or put what differs into the URL"
    )]
    TooManyNames(usize),
    #[error("the edge has stopped, and its caches with it")]
    Stopped,
}

/// A function's way to the caches. It does not keep the store alive: a function may keep it for as long as it likes.
#[derive(Debug, Clone)]
pub struct FunctionCaches(Weak<Shared>);

impl FunctionCaches {
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    fn shared(&self) -> Result<Arc<Shared>, CacheError> {
        self.0.upgrade().ok_or(CacheError::Stopped)
    }

    /// The name, once it is known to be one and among those that are allowed.
    pub fn open(&self, name: &str) -> Result<Arc<str>, CacheError> {
        api::name(name)?;
        let shared = self.shared()?;
        let mut names = shared.function_caches.names.lock();
        if let Some(known) = names.get(name) {
            return Ok(Arc::clone(known));
        }
        let name: Arc<str> = name.into();
        if &*name != api::DEFAULT {
            let most = shared.live.load().plan.limits.functions.named_caches;
            if names.len() >= most {
                return Err(CacheError::TooManyNames(most));
            }
            names.insert(Arc::clone(&name));
        }
        Ok(name)
    }

    /// The stored response for a request, if there is one and it is fresh; conditions and ranges are answered from it.
    pub fn find(
        &self,
        cache: &str,
        place: &Place,
        request: &HeaderMap,
    ) -> Result<Option<Answer>, CacheError> {
        let shared = self.shared()?;
        let registry = &shared.function_caches;
        let now = now();
        let found = stored(&shared, &place.key(cache), request).and_then(|entry| {
            let object = entry.object()?;
            api::reusable(&object.freshness, &registry.policy, now)
                .then(|| answer(&shared, &object, request, now))
        });
        let count = if found.is_some() {
            &registry.counts.hits
        } else {
            &registry.counts.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(found)
    }

    /// A request that can have nothing stored: its method is not GET.
    pub fn miss(&self) -> Result<(), CacheError> {
        let shared = self.shared()?;
        shared
            .function_caches
            .counts
            .misses
            .fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Stores a response; `Ok(Err(…))` says why the response itself kept it from being stored.
    pub fn put(
        &self,
        cache: &str,
        place: &Place,
        method: &Method,
        request: &HeaderMap,
        response: Answer,
    ) -> Result<Result<(), NotStored>, CacheError> {
        let shared = self.shared()?;
        let Registry { policy, counts, .. } = &shared.function_caches;
        let Answer {
            status,
            headers,
            body,
        } = response;
        let now = now();
        let judged = api::put(method, status, headers, body.len() as u64, policy, now);
        let result = match judged {
            Err(refused) => Err(CacheError::Refused(refused)),
            Ok(Err(why)) => Ok(Err(why)),
            Ok(Ok(kept)) => {
                let key = place.key(cache);
                if keep(&shared, &key, request, status, kept, body) {
                    Ok(Ok(()))
                } else {
                    Ok(Err(NotStored::TooLarge))
                }
            }
        };
        let count = match &result {
            Err(_) => &counts.refused,
            Ok(Err(_)) => &counts.not_stored,
            Ok(Ok(())) => &counts.stored,
        };
        count.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// Forgets a URL with all of its variants; whether there was something.
    pub fn delete(&self, cache: &str, place: &Place) -> Result<bool, CacheError> {
        let shared = self.shared()?;
        let counts = &shared.function_caches.counts;
        let deleted = shared.store.memory().remove(&place.key(cache));
        let count = if deleted {
            &counts.deleted
        } else {
            &counts.absent
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(deleted)
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// At most two steps, as for routes: the URL's own key, and where it has variants the variant's. What a purge named is
/// not found.
fn stored(shared: &Shared, key: &[u8], request: &HeaderMap) -> Option<Arc<Entry>> {
    let memory = shared.store.memory();
    let found = memory.get(key)?;
    let found = match found.view() {
        View::Object => found,
        View::Variants(variants) => memory.get(&variant(key, variants, request))?,
        View::Unshared { .. } | View::Slice(_) => return None,
    };
    let newest = shared.purges.newest();
    if found.cleared() < newest {
        let subject = Subject::of(found.key(), None, found.tags())?;
        if shared.purges.judge(&subject, found.cleared()) != PurgeEffect::Untouched {
            return None;
        }
        found.clear(newest);
    }
    Some(found)
}

fn variant(key: &[u8], variants: &Variants, request: &HeaderMap) -> Vec<u8> {
    let mut key = key.to_vec();
    variants.select(&mut key, request, Reduced::default());
    key
}

fn keep(
    shared: &Shared,
    key: &[u8],
    request: &HeaderMap,
    status: StatusCode,
    kept: api::Kept,
    body: Bytes,
) -> bool {
    let api::Kept {
        headers,
        freshness,
        vary: names,
        set_aside,
        ..
    } = kept;
    let length = body.len() as u64;
    if length > shared.store.memory().largest() {
        shared.store.memory().remove(key);
        return false;
    }
    let birth = Birth {
        born: shared.purges.newest(),
        viewer: None,
        tags: tags::of(&headers, &shared.function_caches.policy.tags),
    };
    let object = Object {
        status,
        has_validator: validate::has_validator(&headers),
        headers,
        freshness,
        took: 0,
        refresh_from: u32::MAX,
        body: compact_body(vec![body], usize::try_from(length).unwrap_or(usize::MAX)),
        length,
        slices: None,
        upstream_status: None,
        set_aside,
    };
    if names.is_empty() {
        let entry = Entry::new(key, Content::Object(object), birth);
        return shared.store.memory().insert(Arc::new(entry));
    }
    let known = shared.store.memory().peek(key);
    let variants = match known.as_ref().map(|entry| entry.view()) {
        Some(View::Variants(known)) if names.iter().all(|name| known.names.contains(name)) => {
            Variants {
                names: known.names.clone(),
                nonce: known.nonce,
            }
        }
        // The response before it selected by other fields: by which of them the next request must be told apart is
        // what the newest one says.
        _ => {
            let variants = Variants {
                names,
                nonce: fastrand::u64(..),
            };
            let parent = Variants {
                names: variants.names.clone(),
                nonce: variants.nonce,
            };
            shared.store.memory().insert(Arc::new(Entry::new(
                key,
                Content::Variants(parent),
                Birth::default(),
            )));
            variants
        }
    };
    let entry = Entry::new(
        &variant(key, &variants, request),
        Content::Object(object),
        birth,
    );
    shared.store.memory().insert(Arc::new(entry))
}

fn answer(shared: &Shared, object: &Object, request: &HeaderMap, now: u64) -> Answer {
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
        shared.unguessable(),
    );
    // The placeholder that a route would fill in.
    headers.remove(CACHE_STATUS);
    let body = match content {
        Answered::Empty => Bytes::new(),
        Answered::Whole => joined(object.body.iter().cloned()),
        Answered::Range(range) => {
            joined(range_of(&object.body, range.first, range.last).into_iter())
        }
        Answered::Parts { parts, end } => joined(
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

/// One piece, as most bodies are, is passed on as it is.
fn joined(pieces: impl Iterator<Item = Bytes>) -> Bytes {
    let pieces: Vec<Bytes> = pieces.collect();
    match pieces.as_slice() {
        [] => Bytes::new(),
        [one] => one.clone(),
        _ => pieces.concat().into(),
    }
}
