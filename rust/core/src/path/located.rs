//! The place of a request's client, looked up by its first reader and once.

use std::{
    cell::{OnceCell, RefCell},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use http::Method;

use super::{Admitted, LookUps, PathDecision, PathEnd, route_of};
use crate::{
    geo::{Country, Place},
    plan::{
        Plan, Route,
        matcher::{Located, Probe},
    },
};

impl Located for Place {
    fn country(&self) -> Option<Country> {
        self.country
    }
}

/// A place that is looked up when it is read.
struct Lazy<'a, L> {
    place: OnceCell<Arc<Place>>,
    look_ups: RefCell<&'a mut L>,
    address: IpAddr,
    named: Option<Country>,
}

impl<L> fmt::Debug for Lazy<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl<L: LookUps> Located for Lazy<'_, L> {
    fn country(&self) -> Option<Country> {
        let look_up = || located(self.address, self.named, &mut **self.look_ups.borrow_mut());
        self.place.get_or_init(look_up).country
    }
}

fn located(address: IpAddr, named: Option<Country>, look_ups: &mut impl LookUps) -> Arc<Place> {
    let place = look_ups.place(address).named(named);
    look_ups.decided(PathDecision::Located(address, &place));
    place
}

impl Admitted {
    /// The client's place.
    pub(super) fn locate(&mut self, plan: &Plan, look_ups: &mut impl LookUps) -> Arc<Place> {
        if let Some(place) = &self.place {
            return Arc::clone(place);
        }
        let named = self.named_country(plan);
        let place = located(self.client.address, named, look_ups);
        Arc::clone(self.place.insert(place))
    }

    /// The country that a trusted proxy names.
    pub fn named_country(&self, plan: &Plan) -> Option<Country> {
        plan.geo.as_ref()?.named_country(&self.head.headers)
    }

    /// The client's place, if something has read it.
    pub fn place(&self) -> Option<&Arc<Place>> {
        self.place.as_ref()
    }

    /// Phase 3 on a site with conditions on the country: it is looked up only if a route that matches otherwise has
    /// one.
    #[cold]
    pub(super) fn find_located_route<'p, L: LookUps>(
        &mut self,
        plan: &'p Plan,
        requested: Option<&Method>,
        look_ups: &mut L,
    ) -> Result<&'p Route, PathEnd> {
        let known = self.place.take();
        let lazy = Lazy {
            named: self.named_country(plan),
            place: known.map_or_else(OnceCell::new, OnceCell::from),
            address: self.client.address,
            look_ups: RefCell::new(look_ups),
        };
        let mut probe = Probe {
            place: Some(&lazy),
            ..self.probe()
        };
        let found = route_of(plan, &self.head.target, &mut probe, requested);
        self.place = lazy.place.into_inner();
        found
    }
}
