//! Phase 9 when the store has no answer: what is fetched in its place, and which requests may wait for that fetch.

use std::{rc::Rc, sync::Arc};

use edgerouter_core::{
    cache::{
        fill::{Fill, NotFilled},
        slices::{self, First},
        storable::Authorization,
    },
    http::{range::Range, structured::Forward},
    outcome::Detail,
    plan::Target,
};
use http::Method;

use super::{look_up::LookUp, missing::Missing};
use crate::store::Entry;

/// Why the store does not answer a request, as far as the look-up knows.
pub(super) struct NoAnswer {
    pub why: Forward,
    pub detail: Detail,
    /// The last response for this URL could not be stored.
    pub unshared: bool,
    /// False if every request has to revalidate the stored response.
    pub shares: bool,
    /// The response to revalidate.
    pub stale: Option<Arc<Entry>>,
    /// A stored response that lacks these bytes.
    pub held: Option<(Arc<Entry>, Range)>,
    /// Why this request does not have the slices stored that it needs.
    pub not_filled: Option<NotFilled>,
}

impl NoAnswer {
    #[inline]
    pub(super) fn new(why: Forward, detail: Detail) -> Self {
        Self {
            why,
            detail,
            unshared: false,
            shares: true,
            stale: None,
            held: None,
            not_filled: None,
        }
    }
}

impl LookUp<'_, '_> {
    /// The question with all that its fetch has to know.
    pub(super) fn missing(&self, mut lack: NoAnswer) -> Missing {
        let (exchange, route, question) = (self.exchange, self.route, self.question);
        // A hook of that phase is shown the whole response, so the whole is requested, and a function makes the whole.
        let whole = matches!(route.target, Target::Function(_))
            || exchange.runs_any(&route.hooks.origin_response);
        let slice = self.first_slice(whole, &mut lack);
        if let Some(reason) = lack.not_filled {
            lack.detail = reason.into();
        }
        // A body would be part of the question, but not of the key.
        let plain = question.method == Method::GET
            && !exchange.has_body
            && (slice.is_some() || whole || question.range().is_none());
        if !plain {
            lack.stale = (lack.stale).filter(|_| question.method == Method::HEAD);
        }
        let collapse = plain && route.cache.collapse && !self.is_alone(&lack);
        // A stale response is checked as a whole: its slices stay when it has not changed.
        let slice = slice.filter(|_| lack.stale.is_none());
        Missing {
            question: Rc::new(question.owned()),
            flight: self.flight(slice),
            stale: lack.stale,
            since: exchange.worker.shared.cache.departure(),
            why: lack.why,
            detail: lack.detail,
            held: lack.held,
            slice,
            collapse,
            unshared: lack.unshared,
        }
    }

    /// The slice to begin with, where a part is requested and its slices may be stored.
    #[inline]
    fn first_slice(&self, whole: bool, lack: &mut NoAnswer) -> Option<First> {
        let (exchange, route, question) = (self.exchange, self.route, self.question);
        let range = question.range()?;
        let is_sliced = route.cache.slices && question.method == Method::GET;
        if !is_sliced || whole || lack.not_filled.is_some() {
            return None;
        }
        let slice = slices::first(range, exchange.worker.slice_bytes(&exchange.live)?)?;
        // For a response that is held this has been decided. A stale one is checked as a whole, whatever the policy
        // says of parts, and may turn out to be another object.
        if lack.held.is_none() {
            let fill = match lack.stale {
                Some(_) => Fill::First,
                None => route.cache.fill,
            };
            let fills = &exchange.worker.shared.fills;
            let again = || fills.seen(question.key.url(), self.now);
            lack.not_filled = self.fills(fill, again).err();
        }
        lack.not_filled.is_none().then_some(slice)
    }

    /// True for requests that need their own answer and for responses that every request has to revalidate: they gain
    /// nothing by waiting.
    #[inline]
    fn is_alone(&self, lack: &NoAnswer) -> bool {
        let (exchange, directives) = (self.exchange, &self.directives);
        directives.no_cache
            || directives.no_store
            || lack.unshared
            || !lack.shares
            || self.question.forbidden.is_some()
            || lack.not_filled == Some(NotFilled::Authorization)
            // The fetch that it would follow may be the one that made it.
            || exchange.worker.shared.cdn_loop.passes(&exchange.head.headers) > 0
    }

    /// The key under which requests for the same part of the same response meet.
    #[inline]
    fn flight(&self, slice: Option<First>) -> Vec<u8> {
        let mut flight = self.question.key.bytes().to_vec();
        if let Some(slice) = slice {
            let (kind, place) = match slice {
                First::Slice(range) => (b'r', range.first),
                First::Suffix(bytes) => (b's', bytes),
            };
            flight.push(kind);
            flight.extend_from_slice(&place.to_le_bytes());
        }
        if matches!(
            self.question.authorization,
            Authorization::Present | Authorization::Verified { shared: false }
        ) {
            // Its answer may turn out to be for this client only.
            flight.extend_from_slice(b"\0authorized");
        }
        flight
    }
}
