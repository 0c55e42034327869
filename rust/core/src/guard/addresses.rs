//! Networks of clients that a site or a route serves, and those that it refuses.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::places::PlacePolicy;
use crate::geo::Place;

/// The most networks of one list; `docs/limits.md` names it.
pub const MOST_NETWORKS: usize = 100_000;

/// Networks as sorted ranges that neither overlap nor touch, so that a look-up is one binary search.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl AddressSet {
    /// The addresses of all these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self {
            v4: merged(v4, |bound| bound.checked_add(1)),
            v6: merged(v6, |bound| bound.checked_add(1)),
        }
    }

    /// True if the address is in one of the networks. An IPv4-mapped address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => within(&self.v6, address.to_bits()),
        }
    }

    /// True if an address is in both.
    pub fn meets(&self, other: &Self) -> bool {
        meet(&self.v4, &other.v4) || meet(&self.v6, &other.v6)
    }

    /// The number of ranges.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// True without any network.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressSet({} ranges)", self.len())
    }
}

fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut kept: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match kept.last_mut() {
            // No address follows the last one.
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => kept.push((first, last)),
        }
    }
    kept.into()
}

fn meet<T: Ord + Copy>(ranges: &[(T, T)], others: &[(T, T)]) -> bool {
    ranges.iter().any(|(first, last)| {
        // The first range that does not end before this one begins.
        let at = others.partition_point(|(_, end)| end < first);
        others.get(at).is_some_and(|(start, _)| start <= last)
    })
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after
        .checked_sub(1)
        .and_then(|at| ranges.get(at))
        .is_some_and(|(_, last)| address <= *last)
}

/// Addresses that are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Only these are served; `None`: all.
    pub allow: Option<AddressSet>,
    /// These are not served, even if they are allowed.
    pub deny: AddressSet,
    /// The same by country and network operator; `None`: their places are not looked up.
    pub places: Option<Box<PlacePolicy>>,
}

/// Why an address is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRefusal {
    /// It is in `deny`.
    Denied,
    /// It is not in `allow`.
    NotAllowed,
    /// It is in none of the lists of what is served.
    NotAllowedPlace,
    /// Its country is in `deny_countries`.
    DeniedCountry,
    /// Its autonomous system is in `deny_asns`.
    DeniedAsn,
}

impl AddressRefusal {
    /// The rule that refuses, for `explain`.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Denied => "is in addresses.deny",
            Self::NotAllowed => "is not in addresses.allow",
            Self::NotAllowedPlace => "is in none of the lists of addresses that are allowed",
            Self::DeniedCountry => "is of a country in addresses.deny_countries",
            Self::DeniedAsn => "is of a network in addresses.deny_asns",
        }
    }
}

impl AddressPolicy {
    /// The decision about a client's address. Each `deny` has precedence, and one of the lists of what is served has to
    /// name the client, if there is any. `place`: called only if the decision depends on it.
    pub fn judge<P: AsRef<Place>>(
        &self,
        address: IpAddr,
        place: impl FnOnce() -> P,
    ) -> Result<(), AddressRefusal> {
        if self.deny.contains(address) {
            return Err(AddressRefusal::Denied);
        }
        let listed = self.allow.as_ref().map(|allow| allow.contains(address));
        let Some(places) = &self.places else {
            return served(listed != Some(false), AddressRefusal::NotAllowed);
        };
        let place = place();
        if let Some(refusal) = places.denies(place.as_ref()) {
            return Err(refusal);
        }
        let limited = listed.is_some() || places.allows_some();
        let named = listed == Some(true) || places.allows(place.as_ref());
        served(!limited || named, AddressRefusal::NotAllowedPlace)
    }
}

fn served(served: bool, otherwise: AddressRefusal) -> Result<(), AddressRefusal> {
    if served { Ok(()) } else { Err(otherwise) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::geo::Country;

    #[test]
    fn sets_meet_where_they_have_an_address_in_common() {
        let set = |networks: &[&str]| {
            let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
            AddressSet::new(&networks)
        };
        for (one, other, want) in [
            (&["10.0.0.0/8"][..], &["10.9.0.0/16"][..], true),
            (&["10.0.0.0/8"], &["11.0.0.0/8"], false),
            (
                &["10.0.0.1/32", "12.0.0.0/8"],
                &["9.0.0.0/8", "12.1.1.1/32"],
                true,
            ),
            (&["10.0.0.255/32"], &["10.0.0.0/24"], true),
            (&["10.0.0.0/24"], &["10.0.1.0/32"], false),
            (&["2001:db8::/32"], &["10.0.0.0/8"], false),
            (&["2001:db8::/32"], &["10.0.0.0/8", "2001:db8::1/128"], true),
            (&[], &["::/0", "0.0.0.0/0"], false),
        ] {
            assert_eq!(set(one).meets(&set(other)), want, "{one:?} {other:?}");
            assert_eq!(set(other).meets(&set(one)), want, "{other:?} {one:?}");
        }
    }

    #[test]
    fn places_are_judged_beside_addresses_and_looked_up_only_if_they_matter() {
        use AddressRefusal::{Denied, DeniedAsn, DeniedCountry, NotAllowedPlace};
        let countries = |codes: &[&str]| -> Box<[Country]> {
            codes
                .iter()
                .filter_map(|code| Country::parse(code.as_bytes()))
                .collect()
        };
        let germany = PlacePolicy {
            allow_countries: Some(countries(&["AT", "DE"])),
            ..PlacePolicy::default()
        };
        let not_france = PlacePolicy {
            deny_countries: countries(&["FR"]),
            ..PlacePolicy::default()
        };
        let operator = PlacePolicy {
            allow_asns: Some([64_500].into()),
            deny_asns: [64_511].into(),
            ..PlacePolicy::default()
        };
        for (places, allow, country, asn, want) in [
            (&germany, None, "DE", None, Ok(())),
            (&germany, None, "FR", None, Err(NotAllowedPlace)),
            // A place that is not known is in no list.
            (&germany, None, "", None, Err(NotAllowedPlace)),
            (&germany, Some("203.0.113.0/24"), "", None, Ok(())),
            (
                &germany,
                Some("198.51.100.0/24"),
                "FR",
                None,
                Err(NotAllowedPlace),
            ),
            (&not_france, None, "FR", None, Err(DeniedCountry)),
            (&not_france, None, "", None, Ok(())),
            (
                &not_france,
                Some("203.0.113.0/24"),
                "FR",
                None,
                Err(DeniedCountry),
            ),
            (&operator, None, "", Some(64_500), Ok(())),
            (&operator, None, "", Some(64_511), Err(DeniedAsn)),
            (&operator, None, "", Some(1), Err(NotAllowedPlace)),
            (&operator, None, "", None, Err(NotAllowedPlace)),
        ] {
            let policy = AddressPolicy {
                allow: allow.map(|net| set(&[net])),
                deny: set(&[]),
                places: Some(Box::new(places.clone())),
            };
            let place = Place {
                country: Country::parse(country.as_bytes()),
                asn,
                ..Place::default()
            };
            let judged = policy.judge("203.0.113.7".parse().unwrap(), || Arc::new(place));
            assert_eq!(judged, want, "{places:?} {allow:?} {country} {asn:?}");
        }
        let denied = AddressPolicy {
            allow: None,
            deny: set(&["203.0.113.7/32"]),
            places: Some(Box::new(germany)),
        };
        let never = || -> Arc<Place> { unreachable!("the address decides") };
        assert_eq!(
            denied.judge("203.0.113.7".parse().unwrap(), never),
            Err(Denied)
        );
    }

    fn set(networks: &[&str]) -> AddressSet {
        let networks: Vec<IpNet> = networks.iter().map(|net| net.parse().unwrap()).collect();
        AddressSet::new(&networks)
    }

    #[test]
    fn deny_has_precedence_and_an_allow_list_excludes_all_others() {
        use AddressRefusal::{Denied, NotAllowed};
        for (allow, deny, address, want) in [
            (None, &[][..], "203.0.113.7", Ok(())),
            (None, &["203.0.113.0/24"], "203.0.113.7", Err(Denied)),
            (None, &["203.0.113.0/24"], "203.0.114.0", Ok(())),
            (None, &["203.0.113.0/24"], "::ffff:203.0.113.7", Err(Denied)),
            (None, &["0.0.0.0/0"], "255.255.255.255", Err(Denied)),
            (None, &["0.0.0.0/0"], "2001:db8::1", Ok(())),
            (None, &["::/0"], "2001:db8::1", Err(Denied)),
            (Some(&["10.0.0.0/8"][..]), &[], "10.255.255.255", Ok(())),
            (Some(&["10.0.0.0/8"]), &[], "11.0.0.0", Err(NotAllowed)),
            (Some(&["10.0.0.0/8"]), &[], "2001:db8::1", Err(NotAllowed)),
            (
                Some(&["10.0.0.0/8"]),
                &["10.1.0.0/16"],
                "10.1.2.3",
                Err(Denied),
            ),
            (Some(&["10.0.0.0/8"]), &["10.1.0.0/16"], "10.2.0.0", Ok(())),
            (Some(&["2001:db8::/32"]), &[], "2001:db8:ffff::1", Ok(())),
            (Some(&[]), &[], "127.0.0.1", Err(NotAllowed)),
        ] {
            let policy = AddressPolicy {
                allow: allow.map(set),
                deny: set(deny),
                places: None,
            };
            let never = || -> Arc<Place> { unreachable!("no place is looked up") };
            let found = policy.judge(address.parse().unwrap(), never);
            assert_eq!(found, want, "{allow:?} {deny:?} {address}");
        }
    }

    #[test]
    fn networks_that_overlap_or_touch_become_one_range() {
        for (networks, ranges) in [
            (&["10.0.0.0/9", "10.128.0.0/9"][..], 1),
            (&["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8"], 1),
            (&["10.0.0.1/32", "10.0.0.3/32"], 2),
            (&["255.255.255.255/32", "255.255.255.254/32"], 1),
            (&["0.0.0.0/0", "10.0.0.0/8"], 1),
            (&["::/0", "0.0.0.0/0", "2001:db8::/32"], 2),
        ] {
            assert_eq!(set(networks).len(), ranges, "{networks:?}");
        }
        let around = set(&["10.0.0.1/32", "10.0.0.3/32"]);
        let found = [0, 1, 2, 3, 4].map(|last| around.contains([10, 0, 0, last].into()));
        assert_eq!(found, [false, true, false, true, false]);
    }
}
