//! Phase 16, experiments: the variants that a visitor got, and the conversions of its requests.

use std::sync::Arc;

use edgerouter_core::{
    experiment::tally::Sighting,
    plan::{CountedExperiment, REQUEST, Route},
};
use http::StatusCode;

use super::Exchange;
use crate::{
    counting::{Visitor, VisitorNumbers},
    functions::Conversions,
};

impl Exchange {
    /// Keeps the numbers of the visitor, before the phases use the fields up that say who it is.
    pub(super) fn note_visitor(&mut self) {
        // Requests of functions and of the edge itself are nobody's.
        if self.internal || self.counted_before {
            return;
        }
        let key = self.worker.shared.counting.key();
        let (headers, client) = (&self.head.headers, self.client.address);
        let mut numbers = VisitorNumbers::new();
        for experiment in &self.live.plan.experiments {
            numbers.push(experiment.visitor(key, headers, client));
        }
        self.visitor = numbers;
    }

    /// The sighting of its visitor in each experiment of the plan, with the variant that it got.
    fn sightings<'a>(
        &'a self,
        route: Option<&'a Route>,
    ) -> impl Iterator<Item = (&'a CountedExperiment, Sighting, u64)> {
        let key = self.worker.shared.counting.key();
        let experiments = self.live.plan.experiments.iter();
        experiments
            .zip(&self.visitor)
            .enumerate()
            .map(move |(at, (experiment, number))| {
                let of_token = self
                    .claims
                    .as_ref()
                    .and_then(|claims| experiment.visitor_of(key, claims));
                let chosen = self.chosen.iter().find_map(|chosen| {
                    let own = route?.experiments.get(chosen.experiment)?;
                    (own.counted == at).then(|| (own.variant_name(chosen.variant), chosen.variant))
                });
                let sighting = Sighting {
                    id: Arc::clone(&experiment.id),
                    visitor: of_token.unwrap_or(*number),
                    variant: chosen.and_then(|(name, _)| name.cloned()),
                    conversion: None,
                };
                (
                    experiment,
                    sighting,
                    chosen.map_or(0, |(_, variant)| variant as u64 + 1),
                )
            })
    }

    /// Reports what is new about the visitor. `method`: as the client requested it.
    pub(super) fn report_visitor(&self, method: &str, status: StatusCode) {
        let route = self.route.and_then(|id| self.live.plan.route(id));
        let path = self.viewer_path.path();
        for (experiment, mut sighting, variant) in self.sightings(route) {
            let converts = experiment.converts(method, path, status);
            if variant == 0 && !converts {
                continue;
            }
            if converts {
                sighting.conversion = Some((REQUEST.into(), 0.0));
            }
            let what = variant << 1 | u64::from(converts);
            let of_all = sighting.visitor ^ experiment.id.run;
            let (number, conversion) = (
                of_all ^ what.rotate_right(8),
                of_all ^ 1_u64.rotate_right(8),
            );
            let counting = &self.worker.shared.counting;
            self.worker
                .sent
                .or(number, conversion, || counting.send(sighting));
        }
    }

    /// The visitor, for callables that count its conversions; `None` if there is no experiment.
    pub(super) fn conversions(&self, route: &Route) -> Option<Arc<dyn Conversions>> {
        if self.visitor.is_empty() {
            return None;
        }
        Some(Arc::new(Visitor {
            counting: Arc::clone(&self.worker.shared.counting),
            sightings: self
                .sightings(Some(route))
                .map(|(_, sighting, _)| sighting)
                .collect(),
        }))
    }
}
