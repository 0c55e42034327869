//! Phase 13: what of an answer goes into the store, and under which key.

use std::{rc::Rc, sync::Arc, time::Duration};

use edgerouter_core::{
    cache::{
        freshness,
        hooked::Part,
        key,
        purge::{PurgeEffect, Subject},
        refresh_ahead, slices,
        storable::{self, NotStored, StoreInput},
        validate::{self, HeadEffect},
        vary,
    },
    finish,
    http::{
        cache_control::{RequestDirectives, ResponseDirectives},
        date,
        structured::CACHE_STATUS,
    },
    plan::{CachePolicy, Route, SetCookiePolicy},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use smallvec::SmallVec;

use super::{
    fetch::Question,
    flight::{Arrival, Departed},
};
use crate::{
    request::origin::{Received, ReceivedBody},
    store::{
        Birth, Content, Descent, Entry, Object, Variants, View,
        arriving::{End, Writing},
        compact_body,
        flight::Reuse,
    },
    worker::Worker,
};

/// For one hop only (RFC 9111 §3.1).
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// A header section as it is stored, and sent from the store.
pub(super) struct ForStoring {
    pub headers: HeaderMap,
    /// The fields that `no-cache="…"` and `private="…"` name are left out …
    pub set_aside: SmallVec<[HeaderName; 2]>,
    /// … but for the client whose request brought them (RFC 9111 §5.2.2.4, §5.2.2.7).
    pub aside: HeaderMap,
    pub upstream_status: Option<HeaderValue>,
}

/// Takes a header section as it is stored: without what is set aside, and without `Set-Cookie` unless the policy keeps it.
pub(super) fn for_storing(
    headers: &mut HeaderMap,
    directives: &ResponseDirectives,
    policy: &CachePolicy,
) -> ForStoring {
    let set_aside: SmallVec<[HeaderName; 2]> = directives.unshared_fields().cloned().collect();
    let mut aside = HeaderMap::new();
    for name in &set_aside {
        // What frames a message is made anew for each.
        if *name != header::CONTENT_LENGTH && *name != header::CONTENT_RANGE {
            for line in headers.get_all(name) {
                aside.append(name.clone(), line.clone());
            }
        }
        headers.remove(name);
    }
    if policy.set_cookie != SetCookiePolicy::Store {
        headers.remove(header::SET_COOKIE);
    }
    for name in [PROXY_AUTHENTICATION_INFO, header::PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
    let upstream_status = joined(headers, CACHE_STATUS);
    for name in [CACHE_STATUS, header::AGE] {
        headers.remove(&name);
        aside.remove(name);
    }
    ForStoring {
        headers: std::mem::take(headers),
        set_aside,
        aside,
        upstream_status,
    }
}

/// All lines of a list as one.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(first.clone());
    };
    let mut whole = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        whole.extend_from_slice(b", ");
        whole.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&whole).ok()
}

/// Phase 13: takes the body in while others read it, and stores it when it came whole.
pub(super) async fn take_in(worker: &Rc<Worker>, arrival: Arrival, question: &Question) {
    let Arrival {
        arriving,
        received,
        started,
        refresh_ahead: beta,
        set_aside,
        birth,
        aside: _,
    } = arrival;
    let body = &arriving.body;
    let _writing = Writing(body);
    let largest = worker.shared.store.largest();
    let end = match received.body {
        ReceivedBody::Whole(bytes) => {
            if body.push(bytes, question.stall).await {
                End::Complete
            } else {
                End::Broken
            }
        }
        ReceivedBody::Upstream(mut upstream) => loop {
            let frame =
                std::future::poll_fn(|cx| std::pin::Pin::new(&mut upstream).poll_frame(cx)).await;
            match frame {
                None => break End::Complete,
                Some(Err(error)) => {
                    tracing::warn!(error = %error, "the origin stopped in the middle of a body");
                    break End::Broken;
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if !body.push(data, question.stall).await {
                        break End::Broken;
                    }
                    if body.length() > largest {
                        body.stop_keeping();
                    }
                }
            }
            let room = tokio::time::timeout(
                question.stall,
                std::future::poll_fn(|cx| body.poll_room(cx)),
            )
            .await;
            if !matches!(room, Ok(Ok(()))) {
                break End::Broken;
            }
        },
    };
    // A part that says it is all of the response may turn out to be less.
    let short = arriving.status == StatusCode::OK
        && arriving
            .content_length
            .is_some_and(|length| length != body.length());
    let end = if short { End::Broken } else { end };
    if end == End::Complete
        && let Some(pieces) = body.pieces()
    {
        let length = body.length();
        let mut headers = arriving.headers.clone();
        if !headers.contains_key(header::CONTENT_LENGTH) && !finish::bodiless(arriving.status) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let took = millis(started.elapsed());
        let object = Object {
            slices: None,
            status: arriving.status,
            has_validator: validate::has_validator(&headers),
            headers,
            freshness: arriving.freshness,
            took,
            refresh_from: refresh_ahead::begins(&arriving.freshness, took, beta),
            body: compact_body(pieces, usize::try_from(length).unwrap_or(usize::MAX)),
            length,
            upstream_status: arriving.upstream_status.clone(),
            set_aside,
        };
        keep(worker, question, &arriving.vary, object, birth);
    } else if end == End::Complete {
        worker.metrics.not_stored(NotStored::TooLarge.as_str());
    }
    // Only now: who finds the flight over must find the entry.
    body.finish(end);
}

/// Puts a response under its key: the URL's own when nothing else tells responses apart. With dimensions it goes below the
/// entry that leads to those, and with selecting fields below one that names them.
pub(super) fn keep(
    worker: &Rc<Worker>,
    question: &Question,
    names: &[HeaderName],
    mut object: Object,
    birth: Birth,
) -> Option<Arc<Entry>> {
    let mut key = question.url_key.clone();
    key.extend_from_slice(&question.dimensions);
    if !question.dimensions.is_empty() {
        let parent = key::parent(&key, question.url_key.len()).to_vec();
        lead(worker, question, &parent, &[], &birth).select(
            &mut key,
            &question.request,
            question.reduced,
        );
    }
    if !names.is_empty() {
        let parent = key.clone();
        let variants = lead(worker, question, &parent, names, &birth);
        variants.select(&mut key, &question.request, question.reduced);
    }
    if let Some(newer) = newer(worker, &key, &object) {
        return Some(newer);
    }
    adopt(worker, &key, &mut object);
    let entry = Arc::new(Entry::new(&key, Content::Object(object), birth));
    put(worker, question, &entry);
    Some(entry)
}

/// The entry of `parent` that leads to variants by these names and those that it has already; a new one where it has fewer.
fn lead(
    worker: &Rc<Worker>,
    question: &Question,
    parent: &[u8],
    names: &[HeaderName],
    birth: &Birth,
) -> Variants {
    let store = &worker.shared.store;
    // Variants are found under no list that a purge named: it would say that they may be there still.
    let known = (store.peek(parent)).filter(|known| !is_purged(worker, known));
    let mut all: SmallVec<[HeaderName; 4]> = SmallVec::new();
    if let Some(View::Variants(known)) = known.as_ref().map(|entry| entry.view()) {
        all.clone_from(&known.names);
        if names.iter().all(|name| all.contains(name)) {
            return Variants {
                names: all,
                nonce: known.nonce,
            };
        }
    }
    let more = names.iter().filter(|name| !all.contains(name)).cloned();
    let more: SmallVec<[HeaderName; 4]> = more.collect();
    all.extend(more);
    let nonce = worker.random();
    let birth = Birth {
        born: birth.born,
        viewer: birth.viewer.clone(),
        ..Birth::default()
    };
    let variants = |names| Variants { names, nonce };
    let entry = Entry::new(parent, Content::Variants(variants(all.clone())), birth);
    put(worker, question, &Arc::new(entry));
    variants(all)
}

/// Stores what was asked for after the last unsafe request to its URL. Looked at again once it is stored: so it is either
/// found out of date here, or there for the unsafe request to remove.
fn put(worker: &Worker, question: &Question, entry: &Arc<Entry>) {
    let shared = &worker.shared;
    let departed = question.departs.invalidation;
    let outdated = || shared.invalidations.outdate(&question.url_key, departed);
    if outdated() {
        return;
    }
    shared.store.insert(Arc::clone(entry));
    if outdated() {
        shared.store.remove_same(entry);
    }
}

/// A large object that is the same as the one stored goes on with its slices.
fn adopt(worker: &Worker, key: &[u8], object: &mut Object) {
    let Some(cut) = &mut object.slices else {
        return;
    };
    // What was purged may be wrong under the right name.
    let known = worker.shared.store.peek(key);
    let Some(known) = known.filter(|known| !is_purged(worker, known)) else {
        return;
    };
    if let Some(known) = known.object()
        && let Some(before) = known.slices
        && before.size == cut.size
        && known.length == object.length
        && let Some(validator) = slices::strong_validator(&known.headers)
        && Some(validator) == slices::strong_validator(&object.headers)
    {
        *cut = before;
    }
}

fn is_purged(worker: &Worker, entry: &Entry) -> bool {
    let birth = &entry.birth();
    birth.born < worker.shared.purges.newest()
        && Subject::of(entry.key(), birth.viewer.as_deref(), &birth.tags).is_some_and(|subject| {
            worker.shared.purges.judge(&subject, birth.born) == PurgeEffect::Gone
        })
}

/// What is stored, where it is fresh and its `Date` says that it was made later: answers may overtake one another, and the
/// most recent one is to be used (RFC 9111 §4).
fn newer(worker: &Rc<Worker>, key: &[u8], object: &Object) -> Option<Arc<Entry>> {
    let known = worker.shared.store.peek(key)?;
    // A purge since may have ended it.
    if known.born() < worker.shared.purges.newest() {
        return None;
    }
    let freshness = known.freshness()?;
    let made = |object: &Object| date::parse(object.headers.get(header::DATE)?.as_bytes());
    let keeps = freshness.fresh(worker.clock.unix_now())
        && !freshness.always_validate
        && made(&known.object()?)? > made(object)?;
    keeps.then_some(known)
}

/// A whole answer to a validation that may not be stored ends what was stored: it would come back on the next error, or
/// while it is refreshed.
pub(super) fn outdate(
    worker: &Rc<Worker>,
    question: &Question,
    received: &Received,
    why: NotStored,
) {
    if let Some(stale) = &question.stale
        && why.outdates(received.status)
    {
        worker.shared.store.remove_same(stale);
    }
}

/// For a while, requests like this one do not wait for one another.
pub(super) fn remember_unshared(worker: &Rc<Worker>, question: &Question) {
    let mut key = question.url_key.clone();
    key.extend_from_slice(&question.dimensions);
    let parent = key::parent(&key, question.url_key.len());
    if worker.shared.store.peek(parent).is_some() {
        return;
    }
    let until = worker.clock.unix_now() + UNSHARED_FOR;
    worker
        .shared
        .store
        .insert(Arc::new(Entry::marker(parent, Content::Unshared { until })));
}

/// Seconds for which an answer that could not be stored switches coalescing off for its URL.
const UNSHARED_FOR: u64 = 10;

/// A 304 makes the stored response new again (RFC 9111 §4.3.4), unless it says that it may not be kept any longer.
#[allow(clippy::too_many_arguments)] // each is a part of the one question: what does this 304 make of that entry
pub(super) fn freshen(
    worker: &Rc<Worker>,
    route: &Route,
    question: &Question,
    entry: &Arc<Entry>,
    object: Object,
    received: &Received,
    took: Duration,
    birth: Birth,
) -> Departed {
    let mut headers = object.headers;
    headers.remove(header::AGE);
    headers.remove(CACHE_STATUS);
    let before = vary::of(&headers);
    validate::freshen(&mut headers, &received.headers);
    let varies = vary::of(&headers);
    let directives = ResponseDirectives::parse(&headers, &route.cache.targets);
    let freshness = freshness::freshness(
        object.status,
        &headers,
        &directives,
        &route.cache,
        received.requested_at,
        received.received_at,
    );
    // A cookie of the 304 is for the client that asked, and not kept: the policy was asked about cookies when the
    // response was stored.
    if route.cache.set_cookie != SetCookiePolicy::Store {
        headers.remove(header::SET_COOKIE);
    }
    let storable = storable::storable(&StoreInput {
        method: &Method::GET,
        request: &question.request,
        request_directives: &RequestDirectives::default(),
        authorization: question.authorization,
        status: object.status,
        response: &headers,
        directives: &directives,
        policy: &route.cache,
        now: received.received_at,
    });
    let ForStoring {
        headers,
        set_aside,
        mut aside,
        ..
    } = for_storing(&mut headers, &directives, &route.cache);
    if route.cache.set_cookie == SetCookiePolicy::Refuse {
        for cookie in received.headers.get_all(header::SET_COOKIE) {
            aside.append(header::SET_COOKIE, cookie.clone());
        }
    }
    let took = millis(took);
    let fresh = Object {
        slices: object.slices,
        status: object.status,
        has_validator: validate::has_validator(&headers),
        headers,
        freshness,
        took,
        refresh_from: refresh_ahead::begins(&freshness, took, route.cache.refresh_ahead),
        body: object.body,
        length: object.length,
        upstream_status: object.upstream_status,
        set_aside,
    };
    let fresh = Arc::new(Entry::new(entry.key(), Content::Object(fresh), birth));
    let forbidden = question.forbidden.or(received.hooked.forbids);
    let reuse = match storable.and_then(|()| forbidden.map_or(Ok(()), Err)) {
        // Nothing that a hook should have had a part in is stored, and nothing is said against what is.
        Err(NotStored::HookFailed) => Reuse::RevalidatedForOne,
        // Where it is stored says what it used to vary by.
        Ok(()) if varies != before || !selected_by(worker, question, entry, &received.hooked) => {
            worker.shared.store.remove(entry.key());
            Reuse::RevalidatedForOne
        }
        // What this request brought may not be kept, and says nothing against what was kept before.
        Ok(()) if question.directives.no_store => Reuse::Revalidated,
        Ok(()) => {
            put(worker, question, &fresh);
            Reuse::Revalidated
        }
        Err(why) => {
            worker.metrics.not_stored(why.as_str());
            worker.shared.store.remove(entry.key());
            Reuse::RevalidatedForOne
        }
    };
    Departed::Stored(fresh, reuse, aside)
}

/// Whether the key of a stored response sees everything that the hooks read this time.
fn selected_by(worker: &Worker, question: &Question, entry: &Entry, part: &Part) -> bool {
    if part.selects.is_empty() {
        return true;
    }
    let store = &worker.shared.store;
    let url = question.url_key.len();
    let mut key = question.url_key.clone();
    key.extend_from_slice(&question.dimensions);
    let mut descent = Descent::new(key.len() > url, &question.request, question.reduced);
    let mut next = store.peek(key::parent(&key, url));
    let mut names: SmallVec<[HeaderName; 4]> = SmallVec::new();
    while let Some(at) = next {
        if let View::Variants(known) = at.view() {
            names.clone_from(&known.names);
        }
        if !descent.descend(at.view(), &mut key) {
            return *at.key() == *entry.key()
                && part.selects.iter().all(|name| names.contains(name));
        }
        next = store.peek(&key);
    }
    false
}

/// As an object keeps the time that its fetch took.
pub(super) fn millis(took: Duration) -> u32 {
    u32::try_from(took.as_millis()).unwrap_or(u32::MAX)
}

/// What a 200 to HEAD says about the stored GET (RFC 9111 §4.3.5): it is made new, or out of date.
pub(super) fn head_effects(
    worker: &Rc<Worker>,
    route: &Route,
    question: &Question,
    received: &Received,
) {
    let Some(entry) = &question.stale else { return };
    let Some(object) = entry.object() else { return };
    // Without what a hook would have made of it, it says nothing about what is stored.
    let forbidden = question.forbidden.or(received.hooked.forbids);
    if forbidden == Some(NotStored::HookFailed) {
        return;
    }
    if received.status != StatusCode::OK || object.status != StatusCode::OK {
        return;
    }
    match validate::head_effect(&object.headers, &received.headers) {
        HeadEffect::Update => {
            let took = Duration::from_millis(u64::from(object.took));
            let birth = Birth {
                born: question.departs.purge,
                viewer: question.viewer.clone(),
                tags: entry.tags().into(),
            };
            freshen(
                worker, route, question, entry, object, received, took, birth,
            );
        }
        HeadEffect::Outdate => {
            worker.shared.store.remove(entry.key());
        }
        HeadEffect::Leave => {}
    }
}
