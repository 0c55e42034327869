//! The experiments of a plan, each once, as their visitors are counted: who a visitor is, and which requests convert.
//!
//! A visitor is a number: the keyed hash of the id that decides the variant, else of the client's address and its
//! `User-Agent`. Each experiment hashes apart from the others, so its numbers cannot be joined with theirs.

mod conversion;

use std::{net::IpAddr, sync::Arc};

use http::StatusCode;
use smallvec::SmallVec;

pub use self::conversion::{Conversion, REQUEST};
use super::{Route, Target};
use crate::{
    experiment::{
        By,
        tally::{RunId, VisitorKey, visitor},
    },
    http::{FieldValue, Fields, header},
    identity::jwt::Claims,
};

/// Bytes of an id or a `User-Agent` that count.
const LONGEST: usize = 1 << 10;

/// An experiment whose visitors are counted.
#[derive(Debug)]
pub struct CountedExperiment {
    /// The counts that its visitors belong to.
    pub id: Arc<RunId>,
    /// Names and weights.
    pub variants: Vec<(Arc<str>, f64)>,
    by: By,
    conversions: Vec<Conversion>,
}

/// The experiments of all routes. Each route's experiments learn their positions among them.
pub(super) fn counted(routes: &mut [Route]) -> Vec<CountedExperiment> {
    let mut found: Vec<CountedExperiment> = Vec::new();
    for experiment in routes.iter_mut().flat_map(|route| &mut route.experiments) {
        let id = RunId {
            name: Arc::clone(&experiment.name),
            run: experiment.run,
        };
        let known = found.iter().position(|one| *one.id == id);
        experiment.counted = known.unwrap_or(found.len());
        if known.is_none() {
            found.push(CountedExperiment {
                id: Arc::new(id),
                variants: (experiment.variants())
                    .map(|(name, weight)| (Arc::clone(name), weight))
                    .collect(),
                by: experiment.by.clone(),
                conversions: Vec::new(),
            });
        }
        if let Some(one) = found.get_mut(experiment.counted) {
            // It was checked with its route.
            let conversion = experiment.conversion.as_deref();
            one.conversions
                .extend(conversion.and_then(|text| Conversion::parse(text).ok()));
        }
    }
    for route in routes.iter_mut() {
        let converts = (found.iter().flat_map(|one| &one.conversions))
            .any(|conversion| conversion.path().intersects(&route.path));
        let has_callables = matches!(route.target, Target::Function(_)) || !route.hooks.is_empty();
        route.counts_visitors =
            !route.experiments.is_empty() || converts || (has_callables && !found.is_empty());
    }
    found
}

impl CountedExperiment {
    /// The visitor that a request is from, as far as it is known before its token is verified.
    pub fn visitor(&self, key: VisitorKey, headers: &Fields, client: IpAddr) -> u64 {
        let named = match &self.by {
            By::Header(name) => headers.get(name).map(FieldValue::as_bytes),
            By::Chance | By::Claim(_) => None,
        };
        if let Some(id) = named.filter(|id| !id.is_empty()) {
            return self.number(key, b'i', id);
        }
        let mut text: SmallVec<[u8; 256]> = SmallVec::new();
        match client.to_canonical() {
            IpAddr::V4(address) => text.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => text.extend_from_slice(&address.octets()),
        }
        text.push(b' ');
        if let Some(agent) = headers.get(header::USER_AGENT) {
            let agent = agent.as_bytes();
            text.extend_from_slice(agent);
        }
        self.number(key, b'c', &text)
    }

    /// The visitor that a verified token names; `None` if a token does not decide the variant.
    pub fn visitor_of(&self, key: VisitorKey, claims: &Claims) -> Option<u64> {
        let By::Claim(name) = &self.by else {
            return None;
        };
        let id = claims.claim(name).filter(|id| !id.is_empty())?;
        Some(self.number(key, b'i', id.as_bytes()))
    }

    /// True if a request converts.
    pub fn converts(&self, method: &str, path: &str, status: StatusCode) -> bool {
        (self.conversions.iter()).any(|conversion| conversion.takes(method, path, status))
    }

    fn number(&self, key: VisitorKey, kind: u8, id: &[u8]) -> u64 {
        visitor(key, &self.id.name, kind, id.get(..LONGEST).unwrap_or(id))
    }
}
