//! The place of a request's client, looked up when a callable first reads it.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use edgerouter_core::geo::{self, Country, GeoFacts, GeoPolicy, Place, PlaceSource};

/// The place of a request's client.
#[derive(Debug)]
pub struct ClientPlace {
    /// Finds it when it is first read.
    pub source: Arc<dyn PlaceSource>,
    /// The plan's.
    pub policy: Arc<GeoPolicy>,
    /// The client's address.
    pub address: IpAddr,
    /// The country that a trusted proxy names.
    pub named: Option<Country>,
    /// Facts whose reading does not make a response the client's own.
    pub settled: GeoFacts,
    /// Set if something has read it before.
    pub found: OnceLock<Arc<Place>>,
}

/// Gives the same place for each address.
#[derive(Debug)]
struct Known(Arc<Place>);

impl PlaceSource for Known {
    fn find(&self, _: IpAddr) -> Arc<Place> {
        Arc::clone(&self.0)
    }
}

impl ClientPlace {
    /// A place that was looked up elsewhere.
    pub fn known(place: Place, address: IpAddr) -> Self {
        Self {
            source: Arc::new(Known(Arc::new(place))),
            policy: Arc::default(),
            address,
            named: None,
            settled: GeoFacts::default(),
            found: OnceLock::new(),
        }
    }

    /// The place.
    pub fn get(&self) -> &Place {
        self.found.get_or_init(|| {
            let place = self.source.find(self.address);
            place.named(self.named)
        })
    }

    /// The name of the nearest region of the plan; `None` if the place is not known, or the plan has none.
    pub fn region(&self) -> Option<&Arc<str>> {
        geo::nearest(&self.policy.regions, self.get())
    }
}
