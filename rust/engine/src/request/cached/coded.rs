//! Coded variants of stored responses: found by hits, made once beside the workers.
//!
//! A response of a route that compresses is stored as the origin sent it. The first hit in a coding is compressed while
//! it is sent, and has the variant made by the threads that compress; later hits send that from the store. A variant is
//! found only through the response that it was made from: whatever removes that, a purge or another fetch, removes it.

use std::{convert::Infallible, rc::Rc, sync::Arc};

use bytes::Bytes;
use edgerouter_core::{
    compression,
    http::{Fields, coding::ContentCoding},
    plan::Route,
};
use http::{Method, StatusCode};
use tokio::task::spawn_local;

use crate::{
    body::EdgeBody,
    request::Exchange,
    store::{Chunks, Content, Entry, MakesVariant, Store},
};

/// The content of a stored response in a coding.
#[derive(Debug)]
pub(crate) struct CodedBody {
    coding: ContentCoding,
    bytes: Bytes,
}

impl CodedBody {
    /// Fits the head to this body, and gives it: nothing to HEAD.
    pub(super) fn apply(self, method: &Method, headers: &mut Fields) -> EdgeBody {
        let length = self.bytes.len() as u64;
        compression::coded(self.coding, length, headers);
        if *method == Method::HEAD {
            return EdgeBody::empty();
        }
        EdgeBody::stored(Chunks::from_iter([self.bytes]), length)
    }
}

/// True if a response that is stored may have variants.
pub(super) fn may_have(status: StatusCode, headers: &Fields, length: u64) -> bool {
    compression::compressible(status, headers, Some(length)).is_ok()
}

/// The variant of a stored response in the coding that the request likes best. If it is missing it is made, and the
/// response is sent as a hit without it. `find` reads the entry under a key.
pub(super) fn find<E>(
    exchange: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    find: impl FnOnce(&[u8]) -> Result<Option<Arc<Entry>>, E>,
) -> Result<Option<CodedBody>, E> {
    // Hooks are shown the content as the origin sent it, and a nonce is put into it.
    if !route.hooks.viewer_response.is_empty() || route.nonce.is_some() {
        return Ok(None);
    }
    let Some((coded, coding)) = entry
        .coded()
        .and_then(|coded| Some((coded, compression::wanted(&exchange.head.headers)?)))
    else {
        return Ok(None);
    };
    let key = coded.key(entry.key(), coding);
    let variant = find(&key)?;
    if let Some(bytes) = variant.as_ref().and_then(|variant| variant.slice()) {
        return Ok(Some(CodedBody {
            coding,
            bytes: bytes.clone(),
        }));
    }
    if exchange.head.method == Method::GET {
        make(exchange, route, entry, coding, key);
    }
    Ok(None)
}

/// As `find`, in memory alone, for a response that no look-up found fresh.
pub(super) fn in_memory(
    exchange: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
) -> Option<CodedBody> {
    let store = &exchange.worker.shared.cache.store;
    match find(exchange, route, entry, |key| {
        Ok::<_, Infallible>(store.get(key))
    }) {
        Ok(coded) => coded,
        Err(never) => match never {},
    }
}

/// Has a variant made, unless it is being made already or the threads have enough to do: then a later hit tries again.
fn make(
    exchange: &Exchange,
    route: &Route,
    entry: &Arc<Entry>,
    coding: ContentCoding,
    key: Vec<u8>,
) {
    let Some(object) = entry.object() else {
        return;
    };
    let Some(making) = MakesVariant::begin(entry, coding) else {
        return;
    };
    let shared = &exchange.worker.shared;
    let owner = exchange.owner(route);
    let begun = shared
        .compressors
        .begin_variant(coding, object.length, &shared.account, owner);
    let Some(variant) = begun else {
        return;
    };
    let worker = Rc::clone(&exchange.worker);
    let entry = Arc::clone(entry);
    spawn_local(async move {
        let coded = variant.code(object.body).await;
        let store = &worker.shared.cache.store;
        // Nothing leads to the variant of a response that is gone.
        if let Ok(coded) = coded
            && is_stored(store, &entry)
        {
            let slice = Content::Slice(coded);
            store.insert(Arc::new(Entry::new(&key, slice, entry.facts())));
        }
        drop(making);
    });
}

/// True if the response, or a fresher state of it, is still stored.
fn is_stored(store: &Store, entry: &Entry) -> bool {
    let nonce = |entry: &Entry| entry.coded().map(|coded| coded.nonce());
    match store.peek(entry.key()) {
        Some(known) => nonce(&known) == nonce(entry),
        None => store.find(entry.key()).is_some(),
    }
}
