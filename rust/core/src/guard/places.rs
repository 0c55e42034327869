//! Countries and network operators whose clients a site or a route serves, and those that it refuses.

use super::addresses::AddressRefusal;
use crate::geo::{Country, Place};

/// The most members of one list; `docs/limits.md` names it.
pub const MOST_ASNS: usize = 100_000;

/// Lists of countries and of autonomous systems, beside those of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlacePolicy {
    /// Countries that are served; `None`: the list excludes nobody. Sorted, as all lists here.
    pub allow_countries: Option<Box<[Country]>>,
    /// Countries that are not served.
    pub deny_countries: Box<[Country]>,
    /// Autonomous systems that are served; `None`: the list excludes nobody.
    pub allow_asns: Option<Box<[u32]>>,
    /// Autonomous systems that are not served.
    pub deny_asns: Box<[u32]>,
}

impl PlacePolicy {
    /// True without any list.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True if some list serves only its members.
    pub fn allows_some(&self) -> bool {
        self.allow_countries.is_some() || self.allow_asns.is_some()
    }

    /// Why clients of a place are refused, if one of the lists names it. A place that is not known is in no list.
    pub fn denies(&self, place: &Place) -> Option<AddressRefusal> {
        if has(&self.deny_countries, place.country) {
            return Some(AddressRefusal::DeniedCountry);
        }
        has(&self.deny_asns, place.asn).then_some(AddressRefusal::DeniedAsn)
    }

    /// True if one of the lists of what is served names the place.
    pub fn allows(&self, place: &Place) -> bool {
        let listed = |list: &Option<Box<[Country]>>| {
            list.as_ref().is_some_and(|list| has(list, place.country))
        };
        listed(&self.allow_countries)
            || self
                .allow_asns
                .as_ref()
                .is_some_and(|list| has(list, place.asn))
    }
}

fn has<T: Ord>(list: &[T], one: Option<T>) -> bool {
    one.is_some_and(|one| list.binary_search(&one).is_ok())
}
