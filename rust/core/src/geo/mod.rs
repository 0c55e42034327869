//! Geo: what is known about the place of a client, and the rules by which a site uses it.
//!
//! [`place`] has the facts and how they are written into fields; [`guard`](crate::guard::places) has the lists by
//! country and network operator. Nothing here reads a file: the facts come from the caller, which looks them up when
//! they are first needed.

mod place;
mod region;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::http::{FieldName, Fields};

pub use place::{Country, GeoFact, GeoFacts, Place};
pub use region::{Region, nearest};

/// The most files that a site reads places from; `docs/limits.md` names it.
pub const MOST_FILES: usize = 4;
/// The most regions of a site; `docs/limits.md` names it.
pub const MOST_REGIONS: usize = 1_000;
/// The largest file that is read; `docs/limits.md` names it.
pub const MOST_FILE_BYTES: u64 = 1 << 30;

/// The names of the fields in which an origin gets the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GeoNaming {
    /// `X-Geo-Country`.
    #[default]
    XGeo,
    /// `CloudFront-Viewer-Country`.
    CloudFront,
}

/// `geo` of a plan: where the facts come from, and how the origin gets them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GeoPolicy {
    /// Files in MaxMind's format; the first that has a fact gives it.
    pub files: Vec<PathBuf>,
    /// Time between two looks at the files; they are read again if one was replaced.
    pub interval: Duration,
    /// The names of the fields for the origin.
    pub naming: GeoNaming,
    /// Fields in which trusted proxies name the country, such as `CF-IPCountry`; they have precedence over the files.
    /// Copies of other clients are removed on admission.
    pub country_fields: Vec<FieldName>,
    /// Regions, of which functions get the nearest.
    pub regions: Arc<[Region]>,
    /// True if bytes to viewers are counted by country, for which each request looks its place up.
    pub count_countries: bool,
}

impl GeoPolicy {
    /// The country that a trusted proxy names.
    pub fn named_country(&self, headers: &Fields) -> Option<Country> {
        let mut fields = self.country_fields.iter();
        fields.find_map(|name| Country::parse(headers.get(name)?.as_bytes()))
    }

    /// The field in which an origin gets a fact.
    pub fn field(&self, fact: GeoFact) -> FieldName {
        fact.field(self.naming)
    }
}

/// The facts that a route puts into the request's fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteGeo {
    /// In the order of [`GeoFact::ALL`]; client-sent copies are removed on admission.
    pub fields: Vec<(GeoFact, FieldName)>,
    /// Facts that hooks of the origin phases may read: the key has them, or the policy declares that responses do not
    /// depend on them.
    pub settled: GeoFacts,
}

impl RouteGeo {
    /// Sets the fields. Facts that are not known have no field.
    pub fn set(&self, place: &Place, headers: &mut Fields) {
        for (fact, name) in &self.fields {
            if let Some(value) = place.value(*fact) {
                headers.insert(name.clone(), value);
            }
        }
    }
}

/// Finds the places of addresses.
pub trait PlaceSource: Send + Sync + std::fmt::Debug {
    /// The place of an address; facts that are not known are absent.
    fn find(&self, address: IpAddr) -> Arc<Place>;
}
