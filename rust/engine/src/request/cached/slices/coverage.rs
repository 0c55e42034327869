//! Coverage: the part of a stored response that is here, of all that a request needs.

use std::{convert::Infallible, sync::Arc};

use edgerouter_core::{
    cache::{
        question::Question,
        validate::{self, Precondition},
    },
    http::range::{self, Range, RangeRequest},
};
use http::{Method, StatusCode};
use smallvec::SmallVec;

use super::super::coded::CodedBody;
use crate::{
    cache::Cache,
    store::{Entry, Object, Slices, Store, run::RunReader},
};

/// Slices of one response that are looked for before its head is sent.
const MOST_LOOKED: u64 = 4096;

/// The place of a body's first bytes.
#[derive(Debug)]
pub(crate) enum Begin {
    /// In any place where they are found.
    Anywhere,
    Slice(Arc<Entry>),
    Run(RunReader),
    /// It is sent in a coding, from this variant.
    Coded(CodedBody),
}

/// The part of a stored response that is here when the head is to be sent, of all that a request needs.
pub(crate) enum Coverage {
    Whole(Begin),
    /// The slices that are not here are on their way, for another request.
    Coming(Begin),
    /// Something behind the beginning has to be fetched.
    Partly(Begin),
    /// This has to be fetched before anything can be sent.
    Lacking(Range),
}

/// As `coverage`, for a response that is sent without another look at the disk.
pub(crate) fn at_hand(cache: &Cache, question: &Question<'_>, entry: &Arc<Entry>) -> Coverage {
    let store = &cache.store;
    let find = |key: &[u8]| -> Result<_, Infallible> {
        let slice = store.get(key).map(Begin::Slice);
        Ok(slice.or_else(|| store.find(key).map(|_| Begin::Anywhere)))
    };
    match coverage(cache, question, entry, find) {
        Ok(coverage) => coverage,
        Err(never) => match never {},
    }
}

/// Looks for the slices that a request needs. `find` looks for the first of them wherever it may be.
pub(crate) fn coverage<E>(
    cache: &Cache,
    question: &Question<'_>,
    entry: &Arc<Entry>,
    find: impl FnOnce(&[u8]) -> Result<Option<Begin>, E>,
) -> Result<Coverage, E> {
    let Some(cut) = entry.slices() else {
        return Ok(Coverage::Whole(Begin::Anywhere));
    };
    let ranges = entry.object().map(|object| needed(question, &object));
    let ranges = ranges.unwrap_or_default();
    let Some(&first) = ranges.first() else {
        return Ok(Coverage::Whole(Begin::Anywhere));
    };
    let size = cut.size.max(1);
    let begin = match find(&cut.key(entry.key(), first.first / size))? {
        Some(begin) => begin,
        None => match cache.runs.join(cut.nonce, first.first) {
            Some(reader) if reader.has_begun() => Begin::Run(reader),
            _ => return Ok(Coverage::Lacking(first)),
        },
    };
    let mut coming = None;
    let mut whole = !matches!(begin, Begin::Run(_));
    let slices = ranges
        .iter()
        .flat_map(|range| range.first / size..=range.last / size);
    for index in slices.skip(1).take(MOST_LOOKED as usize) {
        if is_stored(&cache.store, entry, cut, index) {
            continue;
        }
        whole = false;
        let position = index * size;
        let coming = coming.get_or_insert_with(|| cache.runs.coming(cut.nonce));
        let is_coming = |run: &Range| (run.first..=run.last).contains(&position);
        // Slices that a run has brought since are in the store.
        if !coming.iter().any(is_coming) && !is_stored(&cache.store, entry, cut, index) {
            return Ok(Coverage::Partly(begin));
        }
    }
    Ok(if whole {
        Coverage::Whole(begin)
    } else {
        Coverage::Coming(begin)
    })
}

pub(crate) fn is_stored(store: &Store, entry: &Entry, cut: Slices, index: u64) -> bool {
    let key = cut.key(entry.key(), index);
    store.peek(&key).is_some() || store.find(&key).is_some()
}

/// The bytes of a stored response that a request needs: none for its head alone.
fn needed(question: &Question<'_>, object: &Object) -> SmallVec<[Range; 1]> {
    let (method, request) = (&question.method, &question.request);
    let sends = validate::precondition(method, request, object.status, &object.headers);
    if *method == Method::HEAD || sends != Precondition::Send {
        return SmallVec::new();
    }
    let field = question
        .range()
        .filter(|_| object.status == StatusCode::OK && range::if_range(request, &object.headers));
    match field.map(|field| range::parse(field, object.length)) {
        Some(RangeRequest::Satisfiable(ranges)) => ranges,
        Some(RangeRequest::Unsatisfiable) => SmallVec::new(),
        Some(RangeRequest::None) | None => [object.range()].into(),
    }
}
