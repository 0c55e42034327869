//! Rules for experiments of different routes that get in each other's way: those of one route are refused when they do.

use super::advice::Advice;
use crate::{
    experiment::{By, Experiment},
    plan::{Plan, Route},
};

/// Experiments that an earlier route has under the same name and in another form, or whose cookie one of it has.
pub(super) fn experiments(plan: &Plan, advice: &mut Advice<'_>) {
    let route = advice.route;
    let earlier = || plan.routes.iter().filter(|other| other.id < route.id);
    for experiment in &route.experiments {
        let mut others = earlier()
            .filter(|other| share_visitors(route, other))
            .flat_map(|other| other.experiments.iter().map(move |one| (other, one)));
        let Some((other, one)) = others.find(|(_, one)| disturbs(experiment, one)) else {
            continue;
        };
        let (name, at) = (&experiment.name, other.id.0);
        if one.name == experiment.name {
            advice.warn(
                "experiment",
                format!(
                    "the experiment {name} has other variants, weights or another cookie than in routes[{at}]: its visitors change between variants, and are counted together"
                ),
                "make the Experiment once, and give that value to each of its routes",
            );
        } else {
            advice.warn(
                "experiment",
                format!(
                    "the experiments {name} and {} (routes[{at}]) keep their variants in the same cookie, {}: each takes that of the other, or replaces it",
                    one.name, experiment.cookie
                ),
                "give each experiment a cookie of its own, as in cookie=\"NAME\"",
            );
        }
    }
}

/// True unless the routes have different hosts, between which cookies do not travel.
fn share_visitors(route: &Route, other: &Route) -> bool {
    let all = route.hosts.is_empty() || other.hosts.is_empty();
    all || route.hosts.iter().any(|host| other.hosts.contains(host))
}

fn disturbs(experiment: &Experiment, other: &Experiment) -> bool {
    let same_cookie = experiment.cookie == other.cookie;
    if experiment.name == other.name && experiment.run == other.run {
        return !same_cookie || experiment.variants().ne(other.variants());
    }
    // The id of a claim alone decides.
    let kept = |one: &Experiment| !matches!(one.by, By::Claim(_));
    same_cookie && kept(experiment) && kept(other)
}
