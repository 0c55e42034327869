//! Phase 13: the parts of an answer that are stored, and under which key.

use std::{future::poll_fn, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;

use edgerouter_core::{
    cache::{
        arrival::{self, Freshened, Revalidation, SharedHead},
        hooked::HookEffect,
        levels::{Leading, Level, Selected, Variants},
        question::Question,
        slices,
        storable::NotStored,
        validate::{self, HeadEffect},
    },
    finish,
    http::{FieldName, Fields, header},
    plan::Route,
};
use http::{HeaderValue, StatusCode};

use super::{
    coded,
    missing::CacheFetch,
    outcome::{Arrival, FetchOutcome},
    purged::gone,
};
use crate::{
    request::origin::{Received, ReceivedBody},
    store::{
        Content, Entry, Object, PurgeFacts, UNSHARED_FOR,
        arriving::{ArrivalEnd, Arriving, Writing},
        compact_body,
        flight::Reuse,
    },
    worker::Worker,
};

/// The most bytes of a piece that are taken in at a time.
const PART: usize = 1 << 20;

/// Phase 13: takes the body in while others read it, and stores it when it came whole.
pub(super) async fn take_in(worker: &Rc<Worker>, arrival: Arrival, fetch: &CacheFetch) {
    let Arrival {
        arriving,
        body: received,
        started,
        refresh_ahead: beta,
        set_aside,
        facts,
    } = arrival;
    let body = &arriving.body;
    let _writing = Writing(body);
    let largest = worker.shared.cache.store.largest();
    let end = match received {
        ReceivedBody::Whole(bytes) => {
            if take_piece(body, bytes, fetch.stall, largest).await {
                ArrivalEnd::Complete
            } else {
                ArrivalEnd::Broken
            }
        }
        ReceivedBody::Upstream(upstream) => {
            take_pieces(body, Box::pin(upstream), fetch.stall, largest).await
        }
        ReceivedBody::Piped(pieces) => {
            take_pieces(body, Box::pin(pieces), fetch.stall, largest).await
        }
    };
    // A part that says it is all of the response may turn out to be less.
    let short = arriving.status == StatusCode::OK
        && arriving
            .content_length
            .is_some_and(|length| length != body.length());
    let end = if short { ArrivalEnd::Broken } else { end };
    if end == ArrivalEnd::Complete
        && let Some(pieces) = body.pieces()
    {
        let length = body.length();
        let mut headers = arriving.headers.clone();
        if !headers.contains_key(header::CONTENT_LENGTH) && !finish::bodiless(arriving.status) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let head = SharedHead {
            headers,
            set_aside,
            aside: Fields::new(),
            upstream_status: arriving.upstream_status.clone(),
        };
        let (freshness, took) = (arriving.freshness, started.elapsed());
        let variants = fetch.compresses && coded::may_have(arriving.status, &head.headers, length);
        let object = Object {
            variants: variants.then(|| worker.random()),
            body: compact_body(pieces, usize::try_from(length).unwrap_or(usize::MAX)),
            length,
            ..Object::new(arriving.status, head, freshness, took, beta)
        };
        keep(worker, fetch, &arriving.vary, object, facts);
    } else if end == ArrivalEnd::Complete {
        worker.metrics.not_stored(NotStored::TooLarge);
    }
    // Only now: who finds the flight over must find the entry.
    body.finish(end);
}

/// Takes in a body that comes in pieces.
async fn take_pieces<B>(
    body: &Arriving,
    mut pieces: Pin<Box<B>>,
    stall: Duration,
    largest: u64,
) -> ArrivalEnd
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Display>,
{
    loop {
        match poll_fn(|cx| pieces.as_mut().poll_frame(cx)).await {
            None => return ArrivalEnd::Complete,
            Some(Err(error)) => {
                // An origin that is at fault has been named in the log.
                tracing::debug!(%error, "content broke off while it was being stored");
                return ArrivalEnd::Broken;
            }
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if !(take_piece(body, data, stall, largest).await && has_room(body, stall).await) {
                    return ArrivalEnd::Broken;
                }
            }
        }
    }
}

/// Waits until more may be taken in. False if nobody reads it any more.
async fn has_room(body: &Arriving, stall: Duration) -> bool {
    loop {
        let slowest = body.slowest();
        match tokio::time::timeout(stall, poll_fn(|cx| body.poll_room(cx))).await {
            Ok(room) => return room.is_ok(),
            Err(_) if body.may_wait_on(slowest) => {}
            Err(_) => return false,
        }
    }
}

/// Takes in a piece, in parts: a function gives all of its content at once, which may be more than there is memory for.
/// False if it cannot be taken in.
async fn take_piece(body: &Arriving, mut data: Bytes, stall: Duration, largest: u64) -> bool {
    loop {
        let part = data.split_to(data.len().min(PART));
        if !body.push(part, stall).await {
            return false;
        }
        if body.length() > largest {
            body.stop_keeping();
        }
        if data.is_empty() {
            return true;
        }
        if !has_room(body, stall).await {
            return false;
        }
    }
}

/// Puts a response under its key: the URL's own when nothing else tells responses apart. With dimensions it goes below
/// the entry that leads to those, and with selecting fields below one that names them.
pub(super) fn keep(
    worker: &Rc<Worker>,
    fetch: &CacheFetch,
    names: &[FieldName],
    mut object: Object,
    facts: PurgeFacts,
) -> Option<Arc<Entry>> {
    let question = &fetch.question;
    let mut key = question.key.clone();
    key.place(
        &question.request,
        question.reduced,
        names,
        |above, names| lead(worker, fetch, above, names, &facts),
    );
    let key = key.bytes();
    if let Some(newer) = newer(worker, key, &object) {
        return Some(newer);
    }
    adopt(worker, key, &mut object);
    let entry = Arc::new(Entry::new(key, Content::Object(object), facts));
    fetch.put(worker, &entry);
    Some(entry)
}

/// The entry of `parent` that leads to variants by these names and those that it has already; a new one where it has
/// fewer, or names that are not needed any longer.
fn lead(
    worker: &Rc<Worker>,
    fetch: &CacheFetch,
    parent: &[u8],
    names: &[FieldName],
    facts: &PurgeFacts,
) -> Variants {
    let store = &worker.shared.cache.store;
    // Variants are found under no list that a purge named: it would say that they may be there still.
    let known = (store.peek(parent)).filter(|known| !gone(worker, known));
    let known = known.as_ref().and_then(Level::variants);
    let variants = match Variants::leading(known, names, || worker.random()) {
        Leading::Known(variants) => return variants,
        Leading::New(variants) => variants,
    };
    let facts = PurgeFacts {
        last_purge: facts.last_purge,
        viewer: facts.viewer.clone(),
        ..PurgeFacts::default()
    };
    let entry = Entry::new(parent, Content::Variants(variants.clone()), facts);
    fetch.put(worker, &Arc::new(entry));
    variants
}

/// A large object that is the same as the one stored goes on with its slices.
fn adopt(worker: &Worker, key: &[u8], object: &mut Object) {
    let Some(cut) = &mut object.slices else {
        return;
    };
    // A purged response may be wrong under the right name.
    let known = worker.shared.cache.store.peek(key);
    let Some(known) = known.filter(|known| !gone(worker, known)) else {
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

/// The stored response that stays although this one arrives.
fn newer(worker: &Rc<Worker>, key: &[u8], object: &Object) -> Option<Arc<Entry>> {
    let known = worker.shared.cache.store.peek(key)?;
    // A purge since may have ended it.
    if known.last_purge() < worker.shared.cache.purges.newest() {
        return None;
    }
    let now = worker.clock.unix_now();
    let stays = arrival::stays(
        &known.freshness()?,
        &known.object()?.headers,
        &object.headers,
        now,
    );
    stays.then_some(known)
}

/// True if another response took the place of `entry` while it was validated: a 304 updates the responses that it is
/// about (RFC 9111 §4.3.4), and brings none back.
fn overtaken(worker: &Rc<Worker>, entry: &Arc<Entry>, fresh: &Arc<Entry>) -> bool {
    let known = worker.shared.cache.store.peek(entry.key());
    let Some(known) = known.filter(|known| !Arc::ptr_eq(known, entry) && !gone(worker, known))
    else {
        return false;
    };
    let (Some(known), Some(entry), Some(fresh)) = (known.object(), entry.object(), fresh.object())
    else {
        return false;
    };
    let now = worker.clock.unix_now();
    !validate::selects(&known.headers, &entry.headers)
        || arrival::stays(&known.freshness, &known.headers, &fresh.headers, now)
}

/// For a while, requests like this one do not wait for one another.
pub(super) fn remember_unshared(worker: &Rc<Worker>, question: &Question<'_>) {
    let parent = question.key.top();
    if worker.shared.cache.store.peek(parent).is_some() {
        return;
    }
    let until = worker.clock.unix_now() + UNSHARED_FOR;
    worker
        .shared
        .cache
        .store
        .insert(Arc::new(Entry::marker(parent, Content::Unshared { until })));
}

/// Makes a stored response new by a 304 (RFC 9111 §4.3.4), unless that says that it may not be stored any longer.
/// `None` for an entry that is no response.
pub(super) fn freshen(
    worker: &Rc<Worker>,
    route: &Route,
    fetch: &CacheFetch,
    entry: &Arc<Entry>,
    received: &Received,
    took: Duration,
    mut facts: PurgeFacts,
) -> Option<FetchOutcome> {
    let object = entry.object()?;
    let selected = || selected_by(worker, &fetch.question, entry, &received.hooked);
    let Freshened {
        mut head,
        freshness,
        revalidation,
    } = (fetch.answered(route)).freshen(
        object.status,
        object.headers,
        &received.arrived(),
        selected,
    );
    let aside = std::mem::take(&mut head.aside);
    // The body is the same, and so are its variants.
    let may_have = |_: &u64| coded::may_have(object.status, &head.headers, object.length);
    let fresh = Object {
        variants: object.variants.filter(may_have),
        slices: object.slices,
        body: object.body,
        length: object.length,
        upstream_status: object.upstream_status,
        ..Object::new(
            object.status,
            head,
            freshness,
            took,
            route.cache.refresh_ahead,
        )
    };
    if facts.tags.is_empty() {
        facts.tags = entry.tags().into();
    }
    let fresh = Arc::new(Entry::new(entry.key(), Content::Object(fresh), facts));
    let reuse = match revalidation {
        Revalidation::Replaced if overtaken(worker, entry, &fresh) => Reuse::RevalidatedUnstored,
        Revalidation::Replaced => {
            fetch.put(worker, &fresh);
            Reuse::Revalidated
        }
        Revalidation::Shared => Reuse::RevalidatedUnstored,
        Revalidation::Untouched => Reuse::RevalidatedForOne,
        Revalidation::Removed(why) => {
            if let Some(why) = why {
                worker.metrics.not_stored(why);
            }
            worker.shared.cache.store.remove(entry.key());
            Reuse::RevalidatedForOne
        }
    };
    Some(FetchOutcome::Stored(fresh, reuse, None, aside))
}

/// True if the key of a stored response sees everything that the hooks read this time.
fn selected_by(worker: &Worker, question: &Question<'_>, entry: &Entry, part: &HookEffect) -> bool {
    if part.selects.is_empty() {
        return true;
    }
    let Selected { found, above } = question.selected(|key| worker.shared.cache.store.peek(key));
    let names = above.as_ref().and_then(Level::variants);
    let known = |name| names.is_some_and(|known| known.names.contains(name));
    found.is_some_and(|found| *found.key() == *entry.key()) && part.selects.iter().all(known)
}

/// Applies a 200 to HEAD to the stored GET (RFC 9111 §4.3.5): it is made new, or removed.
pub(super) fn head_effects(
    worker: &Rc<Worker>,
    route: &Route,
    fetch: &CacheFetch,
    received: &Received,
) {
    let Some(entry) = &fetch.stale else { return };
    let Some(object) = entry.object() else { return };
    // Without the changes of the hook, it says nothing about the stored response.
    let forbidden = fetch.question.forbidden.or(received.hooked.forbids);
    if forbidden == Some(NotStored::HookFailed) {
        return;
    }
    if received.status != StatusCode::OK || object.status != StatusCode::OK {
        return;
    }
    match validate::head_effect(&object.headers, &received.headers) {
        HeadEffect::Update => {
            let took = Duration::from_millis(u64::from(object.took));
            let facts = fetch.facts(entry.tags().into());
            freshen(worker, route, fetch, entry, received, took, facts);
        }
        HeadEffect::Outdate => {
            // One that was stored in its place meanwhile is not the one that was compared.
            worker.shared.cache.store.remove_same(entry);
        }
        HeadEffect::Leave => {}
    }
}
