//! The content of the store and its reasons: read for an operator, a few entries at a time, without delaying a hit.
//!
//! A walk takes a shard's lock for a few hundred entries and lets others run in between; an answer has a bound on
//! entries and on time, and names the place to continue at. Entries that only the disk has follow those in memory;
//! their sidecars and heads are read on a separate thread.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::{
    cache::{
        decide::{self, Decision, OriginHealth},
        keyed::Keyed,
        levels::Level,
        purge::PurgeEffect,
        question::Question,
        tags,
    },
    explain::{self, ExplainRequest, Explained},
    http::header,
    plan::Plan,
};
use serde_json::{Map, Value, json};

use crate::{
    cache::Cache,
    store::{
        Entry, View,
        disk::{DiskCursor, DiskResponse},
        memory,
    },
};

/// Entries visited under one lock.
const STEP: usize = 256;
/// Time after which an incomplete answer ends and names the place to continue at.
const PATIENCE: Duration = Duration::from_millis(500);
/// Hosts that `stats` counts separately.
const MOST_HOSTS: usize = 1_000;
/// Hosts that it lists.
const TOP_HOSTS: usize = 20;
/// Stored responses that are listed for one URL.
const MOST_OF_ONE: usize = 100;

/// A place in the store from which a walk continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    Memory(memory::MemoryCursor),
    Disk(DiskCursor),
}

impl Default for Cursor {
    fn default() -> Self {
        Self::Memory(memory::MemoryCursor::default())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(cursor) => write!(f, "{cursor}"),
            Self::Disk(cursor) => write!(f, "disk.{cursor}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix("disk.") {
            Some(rest) => rest.parse().map(Self::Disk),
            None => text.parse().map(Self::Memory),
        }
    }
}

/// Visits entries in memory from `cursor` on until `visit` has enough (false) or the time is over; returns where to
/// continue.
async fn walk(
    cache: &Cache,
    mut cursor: memory::MemoryCursor,
    deadline: Instant,
    mut visit: impl FnMut(&Arc<Entry>) -> bool,
) -> Option<memory::MemoryCursor> {
    let mut some = Vec::with_capacity(STEP);
    loop {
        some.clear();
        let next = cache.store.memory().page(cursor, STEP, &mut some);
        for (at, entry) in &some {
            if !visit(entry) {
                return Some(at.after());
            }
        }
        cursor = next?;
        if Instant::now() > deadline {
            return Some(cursor);
        }
        tokio::task::yield_now().await;
    }
}

/// The store in numbers, at `now` (Unix seconds).
pub(crate) async fn stats(cache: &Cache, now: u64) -> Value {
    let mut counted = Counted::default();
    let deadline = Instant::now() + PATIENCE;
    let rest = walk(cache, memory::MemoryCursor::default(), deadline, |entry| {
        counted.note(entry, now);
        true
    })
    .await;
    let memory = cache.store.memory();
    let mut hosts: Vec<(String, (u64, u64))> = counted.hosts.into_iter().collect();
    hosts.sort_by(|a, b| b.1.1.cmp(&a.1.1).then_with(|| a.0.cmp(&b.0)));
    hosts.truncate(TOP_HOSTS);
    json!({
        "memory": {
            "bytes": memory.bytes(),
            "capacity": memory.capacity(),
            "largest_object": memory.largest(),
            "entries": memory.entries(),
            "evicted": memory.evicted(),
        },
        "disk": cache.store.disk().map(|disk| {
            let figures = disk.figures();
            json!({
                "bytes": figures.bytes,
                "capacity": figures.capacity,
                "entries": figures.entries,
                "evicted": figures.evicted,
                "failing": figures.failing,
            })
        }),
        "responses": counted.responses,
        "body_bytes": counted.body_bytes,
        "fresh": counted.fresh,
        "stale": counted.responses - counted.fresh,
        "urls_with_variants": counted.parents,
        "not_shareable": counted.unshared,
        "slices": counted.slices,
        "by_functions": counted.functions,
        "by_lifetime_rule": counted.rules,
        "by_status": counted.statuses,
        "hosts": hosts
            .into_iter()
            .map(|(host, (responses, bytes))| json!({"host": host, "responses": responses, "bytes": bytes}))
            .collect::<Vec<_>>(),
        "fetches_in_flight": cache.in_flight(),
        // False: the store is so large that counting it took too long, and only a part of the responses was counted.
        "complete": rest.is_none(),
    })
}

#[derive(Default)]
struct Counted {
    responses: u64,
    body_bytes: u64,
    fresh: u64,
    parents: u64,
    unshared: u64,
    slices: u64,
    functions: u64,
    rules: BTreeMap<&'static str, u64>,
    statuses: BTreeMap<String, u64>,
    hosts: BTreeMap<String, (u64, u64)>,
}

impl Counted {
    fn note(&mut self, entry: &Arc<Entry>, now: u64) {
        let object = match entry.view() {
            View::Object => entry.object(),
            View::Variants(_) => return self.parents += 1,
            View::Unshared { .. } => return self.unshared += 1,
            View::Slice(_) => return self.slices += 1,
        };
        let Some(object) = object else { return };
        self.responses += 1;
        self.body_bytes += object.length;
        self.fresh += u64::from(object.freshness.fresh(now));
        *self
            .rules
            .entry(object.freshness.rule.as_str())
            .or_default() += 1;
        *self
            .statuses
            .entry(object.status.as_str().to_owned())
            .or_default() += 1;
        let Some(keyed) = Keyed::read(entry.key()) else {
            return;
        };
        self.functions += u64::from(keyed.function.is_some());
        if self.hosts.len() < MOST_HOSTS || self.hosts.contains_key(&keyed.host) {
            let (responses, bytes) = self.hosts.entry(keyed.host).or_default();
            *responses += 1;
            *bytes += entry.size();
        }
    }
}

/// The entries to list.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    pub host: Option<String>,
    /// Of the path.
    pub prefix: Option<String>,
    pub tag: Option<String>,
    /// The whole key of a URL: that entry and all whose keys begin with it.
    pub key: Option<Vec<u8>>,
}

impl Filter {
    fn takes(&self, key: &[u8], tags: &[u64], keyed: &Keyed) -> bool {
        self.host.as_ref().is_none_or(|host| *host == keyed.host)
            && self
                .prefix
                .as_ref()
                .is_none_or(|prefix| keyed.path.starts_with(prefix.as_str()))
            && self
                .tag
                .as_ref()
                .is_none_or(|tag| tags::has(tags, tags::hash(tag.as_bytes())))
            && self.key.as_ref().is_none_or(|own| key.starts_with(own))
    }
}

/// Stored responses that can be reached at `now`, at most `limit`, and where to continue.
pub(crate) async fn list(
    cache: &Cache,
    filter: &Filter,
    limit: usize,
    cursor: Cursor,
    now: u64,
) -> (Vec<Value>, Option<Cursor>) {
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    let from = match cursor {
        Cursor::Disk(from) => from,
        Cursor::Memory(from) => {
            let rest = walk(cache, from, deadline, |entry| {
                if entry.is_object()
                    && let Some(keyed) = Keyed::read(entry.key())
                    && filter.takes(entry.key(), entry.tags(), &keyed)
                {
                    found.push(Arc::clone(entry));
                }
                found.len() < limit
            })
            .await;
            if let Some(rest) = rest {
                return (
                    all_described(cache, found, now).await,
                    Some(Cursor::Memory(rest)),
                );
            }
            DiskCursor::default()
        }
    };
    let more = limit.saturating_sub(found.len());
    let mut described = all_described(cache, found, now).await;
    let (on_disk, rest) = on_disk(cache, filter, more, from, deadline).await;
    for response in on_disk {
        if let Some(Value::Object(mut entry)) = describe(cache, &response.entry, now).await {
            entry.insert("bytes".to_owned(), response.bytes.into());
            if entry.get("sliced") == Some(&Value::Bool(false)) {
                entry.insert("length".to_owned(), response.body_bytes.into());
            }
            entry.insert("tier".to_owned(), "disk".into());
            described.push(entry.into());
        }
    }
    (described, rest.map(Cursor::Disk))
}

async fn all_described(cache: &Cache, entries: Vec<Arc<Entry>>, now: u64) -> Vec<Value> {
    let mut described = Vec::with_capacity(entries.len());
    for entry in entries {
        described.extend(describe(cache, &entry, now).await);
    }
    described
}

/// Entries that only the disk has, read on a separate thread.
async fn on_disk(
    cache: &Cache,
    filter: &Filter,
    most: usize,
    from: DiskCursor,
    deadline: Instant,
) -> (Vec<DiskResponse>, Option<DiskCursor>) {
    let Some(disk) = cache.store.disk().map(Arc::clone) else {
        return (Vec::new(), None);
    };
    let filter = filter.clone();
    let walked = tokio::task::spawn_blocking(move || {
        disk.page(from, most, deadline, |meta| {
            Keyed::read(meta.key).is_some_and(|keyed| filter.takes(meta.key, meta.tags, &keyed))
        })
    });
    walked.await.unwrap_or_default()
}

/// The entry under a key, in either tier.
async fn anywhere(cache: &Cache, key: &[u8]) -> Option<Arc<Entry>> {
    match cache.store.peek(key) {
        Some(entry) => Some(entry),
        None => cache.store.load(cache.store.find(key)?, key).await,
    }
}

/// Tags by which a purge would find it. Only their hashes are kept.
fn tagged(entry: &Entry) -> Vec<String> {
    let tags = entry.tags().iter();
    tags.map(|hash| format!("#{hash:016x}")).collect()
}

/// An entry's description; `None` when it is not a response, or no longer reachable.
async fn describe(cache: &Cache, entry: &Arc<Entry>, now: u64) -> Option<Value> {
    let (object, keyed) = (entry.object()?, Keyed::read(entry.key())?);
    let mut variant = keyed.dimensions.clone();
    for (length, nonce) in keyed.leads() {
        let lead = anywhere(cache, entry.key().get(..length)?).await?;
        let siblings = lead.variants().filter(|known| known.nonce == nonce)?;
        variant.extend(keyed.selected_by(&siblings.names));
    }
    // A soft purge that the sweep has not applied yet: as a look-up would find it.
    let softened = match cache.purges.effect_on(entry) {
        PurgeEffect::Untouched => None,
        PurgeEffect::Gone => return None,
        PurgeEffect::Soft { at } => entry.softened(at),
    };
    let freshness = softened.as_ref().and_then(Entry::freshness);
    let freshness = freshness.unwrap_or(object.freshness);
    let mut described = Map::new();
    let mut put = |name: &str, value: Value| {
        described.insert(name.to_owned(), value);
    };
    put("url", keyed.address().into());
    put("scheme", keyed.scheme.as_str().into());
    put("host", keyed.host.as_str().into());
    put("port", keyed.port.into());
    put("path", keyed.path.as_str().into());
    put("query", keyed.query.as_deref().into());
    put("variant", variant.into());
    let function = keyed
        .function
        .as_ref()
        .map(|cache| json!({"cache": cache, "scheme": keyed.scheme.as_str()}));
    put("function", function.into());
    put("status", object.status.as_u16().into());
    put("bytes", entry.size().into());
    put("length", object.length.into());
    put("stored_at", freshness.stored_at.into());
    put("age", freshness.age(now).into());
    put("lifetime", freshness.lifetime.into());
    put("ttl", freshness.ttl(now).into());
    put("fresh", freshness.fresh(now).into());
    put("why", freshness.rule.as_str().into());
    put(
        "stale_while_revalidate",
        freshness.stale_while_revalidate.into(),
    );
    put("stale_if_error", freshness.stale_if_error.into());
    put("must_revalidate", freshness.must_revalidate.into());
    put("always_validate", freshness.always_validate.into());
    put("tags", tagged(entry).into());
    put("uses", entry.uses().into());
    put("sliced", object.slices.is_some().into());
    let on_disk = cache.store.find(entry.key()).is_some();
    let tiers = if on_disk { "memory, disk" } else { "memory" };
    put("tier", tiers.into());
    for name in [
        header::CACHE_CONTROL,
        header::EXPIRES,
        header::ETAG,
        header::LAST_MODIFIED,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::VARY,
    ] {
        let value = object
            .headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        put(&name.as_str().replace('-', "_"), value.into());
    }
    Some(Value::Object(described))
}

/// The result of a request's look-up at `now`: the decisions, the selected response, and all that is stored for its
/// URL.
pub(crate) async fn find(cache: &Cache, plan: &Plan, request: &ExplainRequest, now: u64) -> Value {
    let Explained { steps, question } = explain::explain(plan, request, now);
    let Some((route, mut question)) = question else {
        // The request does not use the cache: the steps give the reason.
        return json!({"key": null, "found": null, "decision": null, "stored": [], "complete": true, "steps": steps});
    };
    let selected = selected(cache, &mut question)
        .await
        .filter(|entry| cache.purges.effect_on(entry) != PurgeEffect::Gone);
    let described = match &selected {
        Some(entry) => describe(cache, entry, now).await,
        None => None,
    };
    let decision = selected
        .as_ref()
        .and_then(|entry| entry.object())
        .zip(plan.route(route))
        .map_or("miss", |(object, route)| {
            let policy = &route.cache;
            let healthy = OriginHealth::Healthy;
            match decide::decide(
                &object.freshness,
                &question.directives,
                policy,
                healthy,
                now,
            ) {
                Decision::Fresh => "hit",
                Decision::Stale(allowance) => allowance.as_str(),
                Decision::Validate(reason) => reason.as_str(),
            }
        });
    let filter = Filter {
        key: Some(question.key.url().to_vec()),
        ..Filter::default()
    };
    let (stored, rest) = list(cache, &filter, MOST_OF_ONE, Cursor::default(), now).await;
    json!({
        "key": Keyed::read(question.key.url()).map(|keyed| keyed.address()),
        "found": described,
        "decision": decision,
        "stored": stored,
        "complete": rest.is_none(),
        "steps": steps,
    })
}

/// The response that a request selects, with each of its levels in either tier.
async fn selected(cache: &Cache, question: &mut Question<'_>) -> Option<Arc<Entry>> {
    let mut read: HashMap<Vec<u8>, Option<Arc<Entry>>> = HashMap::new();
    loop {
        let known = |key: &[u8]| read.get(key).cloned().ok_or_else(|| key.to_vec());
        match question.descend(known) {
            Ok(selected) => return selected.found.filter(|entry| entry.is_object()),
            Err(key) => {
                let entry = anywhere(cache, &key).await;
                read.insert(key, entry);
            }
        }
    }
}

/// Fields of a request that an operator gives as `Name: value`.
pub(crate) fn fields(lines: &[String]) -> Result<Vec<(String, String)>, String> {
    lines
        .iter()
        .map(|line| {
            line.split_once(':')
                .filter(|(name, _)| !name.trim().is_empty())
                .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
                .ok_or_else(|| format!("{line:?} is not 'NAME: VALUE'"))
        })
        .collect()
}
