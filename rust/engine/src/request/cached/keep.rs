//! Phase 13: what of an answer goes into the store, and under which key.

use std::{rc::Rc, sync::Arc, time::Duration};

use edgerouter_core::{
    cache::{
        freshness,
        purge::{Subject, Verdict},
        refresh_ahead, slices,
        storable::NotStored,
        tags, validate,
    },
    finish,
    http::cache_control::ResponseDirectives,
    plan::Route,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Body as _;
use smallvec::SmallVec;

use super::{
    fetch::Question,
    flight::{Arrival, Departed},
    look_up::variant_key,
};
use crate::{
    request::{
        CACHE_STATUS,
        origin::{Received, ReceivedBody},
    },
    store::{Birth, Content, Entry, Object, Variants, View, arriving::End, entry, flight::Reuse},
    worker::Worker,
};

/// Takes a header section as it is stored and sent: `Set-Cookie` and the fields that `no-cache="…"` and `private="…"`
/// name left out.
pub(super) fn for_storing(
    headers: &mut HeaderMap,
    directives: &ResponseDirectives,
) -> (HeaderMap, SmallVec<[HeaderName; 2]>, Option<HeaderValue>) {
    headers.remove(header::SET_COOKIE);
    let set_aside: SmallVec<[HeaderName; 2]> = directives.unshared_fields().cloned().collect();
    for name in &set_aside {
        headers.remove(name);
    }
    let upstream_status = headers.remove(CACHE_STATUS);
    headers.remove(header::AGE);
    (std::mem::take(headers), set_aside, upstream_status)
}

/// The tags of an answer; viewers do not see them unless the policy says so.
pub fn take_tags(route: &Route, headers: &mut HeaderMap) -> Box<[u64]> {
    let policy = &route.cache;
    let tags = tags::of(headers, &policy.tags);
    if !policy.send_tags {
        for name in &policy.tags {
            headers.remove(name);
        }
    }
    tags
}

/// Phase 13: takes the body in while others read it, and stores it when it came whole.
pub(super) async fn take_in(worker: &Rc<Worker>, arrival: Arrival, question: &Question) {
    let Arrival {
        arriving,
        received,
        freshness,
        started,
        refresh_ahead: beta,
        set_aside,
        upstream_status,
        birth,
    } = arrival;
    let body = &arriving.body;
    let largest = worker.shared.store.largest();
    let end = match received.body {
        ReceivedBody::Whole(bytes) => {
            body.push(bytes);
            End::Complete
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
                    body.push(data);
                    if body.length() > largest {
                        body.stop_keeping();
                    }
                }
            }
            let room =
                tokio::time::timeout(STALL, std::future::poll_fn(|cx| body.poll_room(cx))).await;
            if !matches!(room, Ok(Ok(()))) {
                break End::Broken;
            }
        },
    };
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
            freshness,
            took,
            refresh_from: refresh_ahead::begins(&freshness, took, beta),
            body: entry::compact_body(pieces, usize::try_from(length).unwrap_or(usize::MAX)),
            length,
            upstream_status,
            set_aside,
        };
        keep(worker, question, &arriving.vary, object, birth);
    } else if end == End::Complete {
        worker.metrics.not_stored(NotStored::TooLarge.as_str());
    }
    // Only now: who finds the flight over must find the entry.
    body.finish(end);
}

/// How long the slowest reader may hold up an object that is too large to be stored.
const STALL: Duration = Duration::from_secs(30);

/// Puts a response under its key: the URL's own when nothing else tells responses apart, a variant's otherwise.
pub(super) fn keep(
    worker: &Rc<Worker>,
    question: &Question,
    names: &[HeaderName],
    mut object: Object,
    birth: Birth,
) -> Option<Arc<Entry>> {
    let store = &worker.shared.store;
    if names.is_empty() && question.dimensions.is_empty() {
        adopt(worker, &question.url_key, &mut object);
        let entry = Arc::new(Entry::new(
            &question.url_key,
            Content::Object(object),
            birth,
        ));
        store.insert(Arc::clone(&entry));
        return Some(entry);
    }
    let known = store.peek(&question.url_key);
    let (names, nonce) = match known.as_ref().map(|entry| entry.view()) {
        Some(View::Variants(known)) if names.iter().all(|name| known.names.contains(name)) => {
            (known.names.clone(), known.nonce)
        }
        Some(View::Variants(known)) => {
            let mut all = known.names.clone();
            all.extend(
                names
                    .iter()
                    .filter(|name| !known.names.contains(name))
                    .cloned(),
            );
            (all, worker.random())
        }
        _ => (names.iter().cloned().collect(), worker.random()),
    };
    let variants = Variants { names, nonce };
    let mut key = question.url_key.clone();
    key.extend_from_slice(&question.dimensions);
    variant_key(&mut key, &variants, &question.request);
    let is_known =
        matches!(known.as_ref().map(|e| e.view()), Some(View::Variants(v)) if v.nonce == nonce);
    if !is_known {
        store.insert(Arc::new(Entry::marker(
            &question.url_key,
            Content::Variants(variants),
        )));
    }
    adopt(worker, &key, &mut object);
    let entry = Arc::new(Entry::new(&key, Content::Object(object), birth));
    store.insert(Arc::clone(&entry));
    Some(entry)
}

/// A large object that is the same as the one stored goes on with its slices.
fn adopt(worker: &Worker, key: &[u8], object: &mut Object) {
    let Some(cut) = &mut object.slices else {
        return;
    };
    let Some(known) = worker.shared.store.peek(key) else {
        return;
    };
    // What was purged may be wrong under the right name.
    let birth = &known.birth();
    if let Some(subject) = Subject::of(key, birth.viewer.as_deref(), &birth.tags)
        && worker.shared.purges.judge(&subject, birth.born) == Verdict::Gone
    {
        return;
    }
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

/// For a while, requests like this one do not wait for one another.
pub(super) fn remember_unshared(worker: &Rc<Worker>, question: &Question) {
    if worker.shared.store.peek(&question.url_key).is_some() {
        return;
    }
    let until = worker.clock.unix_now() + UNSHARED_FOR;
    worker.shared.store.insert(Arc::new(Entry::marker(
        &question.url_key,
        Content::Unshared { until },
    )));
}

/// Seconds for which an answer that could not be stored switches coalescing off for its URL.
const UNSHARED_FOR: u64 = 10;

/// A 304 makes the stored response new again (RFC 9111 §4.3.4).
pub(super) fn freshen(
    worker: &Rc<Worker>,
    route: &Route,
    entry: &Arc<Entry>,
    object: Object,
    received: &Received,
    took: Duration,
    birth: Birth,
) -> Departed {
    let mut headers = object.headers;
    headers.remove(header::AGE);
    validate::freshen(&mut headers, &received.headers);
    let directives = ResponseDirectives::parse(&headers, &route.cache.targets);
    let (freshness, _rule) = freshness::freshness(
        object.status,
        &headers,
        &directives,
        &route.cache,
        received.requested_at,
        received.received_at,
    );
    let (headers, set_aside, _) = for_storing(&mut headers, &directives);
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
    if directives.no_store {
        worker.shared.store.remove(entry.key());
    } else {
        worker.shared.store.insert(Arc::clone(&fresh));
    }
    Departed::Stored(fresh, Reuse::Revalidated)
}

/// As an object keeps the time that its fetch took.
pub(super) fn millis(took: Duration) -> u32 {
    u32::try_from(took.as_millis()).unwrap_or(u32::MAX)
}
