//! Phases 3 to 6 in words.

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use http::{HeaderValue, Method};

use super::{Admitted, Steps};
use crate::{
    admit::Evasion,
    experiment::{AssignedBy, Assignment, Experiment, Reading},
    geo::Place,
    guard::{
        basic::{BasicPolicy, Credentials},
        rate::{RateDecision, RateKey, RateLimit},
    },
    identity::jwt::{self, Claims, JwtPolicy, TokenError},
    path::{LookUps, PathDecision, PathEnd},
    plan::{
        Plan, Route, RouteId,
        matcher::{MatchResult, Probe},
        table,
    },
};

const ADMIT: &str = "admit";
const ROUTE: &str = "route";
const VIEWER: &str = "viewer";
const IDENTIFY: &str = "identify";
const BUCKET: &str = "bucket";

impl LookUps for Steps<'_> {
    fn token(
        &mut self,
        policy: &Arc<JwtPolicy>,
        token: &[u8],
    ) -> Result<Option<Arc<Claims>>, TokenError> {
        jwt::check_form(token)?;
        policy
            .static_keys()
            .map(|keys| jwt::verify(policy, keys, token, self.now).map(Arc::new))
            .transpose()
    }

    fn rate(&mut self, limit: &RateLimit, _: RateKey<'_>) -> RateDecision {
        let reason = format!(
            "{} requests in {} s by {}; counts are not read here",
            limit.quota, limit.window, limit.by
        );
        self.add(IDENTIFY, format!("rate limit {}", limit.name), reason);
        limit.decide(0, 1).0
    }

    fn password(&mut self, policy: &Arc<BasicPolicy>, credentials: &Credentials) -> Option<bool> {
        Some(policy.verifies(credentials))
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn chance(&mut self) -> u64 {
        0
    }

    fn place(&mut self, address: IpAddr) -> Arc<Place> {
        let places = self.places.as_ref();
        places.map_or_else(Arc::default, |places| places.find(address))
    }

    fn reading(&mut self, experiment: &Experiment) -> Option<Arc<Reading>> {
        self.readings.get(experiment).cloned()
    }

    fn decided(&mut self, decision: PathDecision<'_>) {
        match decision {
            PathDecision::Routed(route, probe) => {
                let reason = before_others(self.plan, route, probe);
                self.add(ROUTE, route.label.to_string(), reason);
            }
            PathDecision::Viewer(route) => {
                let policy = table::viewer(route.viewer);
                self.add(VIEWER, "proceed", format!("viewer policy {policy}"));
            }
            PathDecision::Located(address, place) => {
                let country = place.country.map_or_else(|| "unknown".to_owned(), |country| country.to_string());
                let network = place.asn.map_or_else(String::new, |asn| format!(" in AS{asn}"));
                self.add(ROUTE, format!("country {country}"), format!("the place of {address}{network}"));
            }
            PathDecision::Address(address) => self.add(
                ROUTE,
                "served",
                format!("{address} is allowed by the route's addresses"),
            ),
            PathDecision::Cors(readable_for) => {
                let decision = readable_for.map_or_else(
                    || "readable for pages of this site only".to_owned(),
                    |origin| format!("readable for pages of {}", text(origin)),
                );
                self.add(VIEWER, decision, "the route's cors");
            }
            PathDecision::Password(credentials) => self.add(
                IDENTIFY,
                format!("user {}", credentials.user),
                "the password is the user's; Authorization does not go to the origin",
            ),
            PathDecision::Signed => self.add(
                IDENTIFY,
                "signed",
                "the signature opens the URL; its parts leave the query and the cookies",
            ),
            PathDecision::Preflight => self.add(
                IDENTIFY,
                "nobody",
                "it is a preflight, and the route's preflight=\"origin\" lets it through without a token",
            ),
            PathDecision::Anonymous => self.add(
                IDENTIFY,
                "nobody",
                "there is no token, and the route's policy is optional",
            ),
            PathDecision::Unverified => self.add(
                IDENTIFY,
                "unknown",
                "the keys are fetched by URL while serving: the token is not verified here",
            ),
            PathDecision::Verified(policy, claims) => {
                let fields: Vec<&str> = policy
                    .forward
                    .iter()
                    .map(|(_, field)| field.as_str())
                    .collect();
                let passed = if fields.is_empty() {
                    String::new()
                } else {
                    format!("; the origin gets {}", fields.join(", "))
                };
                let who = claims
                    .sub()
                    .map_or_else(|| "verified".to_owned(), |sub| format!("verified: {sub}"));
                self.add(IDENTIFY, who, format!("signature and claims are valid{passed}"));
            }
            PathDecision::Assigned(experiment, assigned, reading) => {
                self.assigned(experiment, assigned, reading);
            }
        }
    }
}

impl Steps<'_> {
    fn assigned(
        &mut self,
        experiment: &Experiment,
        assigned: &Assignment<'_>,
        reading: Option<&Reading>,
    ) {
        let dimension = experiment.dimension(assigned.index, reading).to_owned();
        let (variant, dimension, reason) = match assigned.reason {
            AssignedBy::Id => (
                assigned.variant.to_string(),
                dimension,
                "the hash of the id selects it".to_owned(),
            ),
            AssignedBy::Kept => (
                assigned.variant.to_string(),
                dimension,
                format!("the cookie {} says so", experiment.cookie),
            ),
            AssignedBy::New | AssignedBy::Reassigned => {
                let in_use = |at| reading.and_then(|reading| reading.weight(at));
                let weights: Vec<String> = (experiment.variants().enumerate())
                    .map(|(at, (name, weight))| format!("{name} {}", in_use(at).unwrap_or(weight)))
                    .collect();
                let reason = format!(
                    "by chance, for the cookie {} names none: {}",
                    experiment.cookie,
                    weights.join(", ")
                );
                ("any".to_owned(), "any".to_owned(), reason)
            }
        };
        let name = experiment.name.to_string();
        self.add(BUCKET, format!("{name}: {variant}"), reason);
        self.variants.push((name, dimension));
    }
}

/// The answer that ends the request, in words.
pub(super) fn ended(admitted: &Admitted, answer: &PathEnd, steps: &mut Steps<'_>) {
    let plan = steps.plan;
    let status = answer.status().as_u16().to_string();
    let to = |location: &HeaderValue| format!("{status} to {}", text(location));
    let over_http = || {
        let route = admitted.route.and_then(|id| plan.route(id));
        let policy = route.map_or("?", |route| table::viewer(route.viewer));
        format!("viewer policy {policy}, and the request came over http")
    };
    let (phase, decision, reason) = match answer {
        PathEnd::Server => (
            ROUTE,
            status,
            "the request is about the edge (RFC 9110 §9.3.7)".into(),
        ),
        PathEnd::Address(refusal) => {
            let whose = if admitted.route.is_some() {
                "route"
            } else {
                "site"
            };
            let reason = format!(
                "{} {} of the {whose}",
                admitted.client.address,
                refusal.rule()
            );
            (ADMIT, status, reason)
        }
        PathEnd::Misdirected => {
            let hosts: Vec<String> = plan.guard.hosts.iter().map(ToString::to_string).collect();
            (
                ADMIT,
                status,
                format!("the site serves {} only", hosts.join(", ")),
            )
        }
        PathEnd::Basic(refusal, _) => {
            let reason = format!("the route needs a user's password: {}", refusal.as_str());
            (IDENTIFY, status, reason)
        }
        PathEnd::Signature(refusal) => {
            let reason = format!("the route's URLs must be signed: {}", refusal.as_str());
            (IDENTIFY, status, reason)
        }
        PathEnd::Preflight(answer) => {
            let reason = match answer {
                Some(_) => "the route's cors answers the preflight, before any token is read",
                None => "the preflight's origin is not in cors.origins of the route",
            };
            (VIEWER, status, reason.into())
        }
        PathEnd::NoRoute => (ROUTE, status, no_route(plan, &admitted.probe())),
        PathEnd::MethodNotAllowed(allowed) => {
            let methods: Vec<&str> = allowed.iter().map(Method::as_str).collect();
            let reason = format!("the URL takes {} only", methods.join(", "));
            (ROUTE, status, reason)
        }
        PathEnd::Evades(evasion) => {
            let found = plan.router.find(&plan.routes, &admitted.probe());
            let other = match evasion {
                Evasion::Guarded(guarded) => format!(
                    "a lenient server would read the path as one of {}, whose guard it would go round",
                    label(plan, *guarded)
                ),
                Evasion::Elsewhere => {
                    "a lenient server would read the path as one that this route does not serve"
                        .to_owned()
                }
                Evasion::Prefix => {
                    "a lenient server would read the path as one outside the prefix at the origin"
                        .to_owned()
                }
                Evasion::TooMany => {
                    "lenient servers could read the path in too many ways".to_owned()
                }
            };
            let reason = format!(
                "{} matches, but {other}",
                found.map_or("?", |id| label(plan, id))
            );
            (ROUTE, status, reason)
        }
        PathEnd::HttpsOnly => (VIEWER, status, over_http()),
        PathEnd::Https(_, location) => (VIEWER, to(location), over_http()),
        PathEnd::Unauthorized(error, ..) => {
            let reason = error.as_ref().map_or_else(
                || "the route needs a token, and there is none".to_owned(),
                ToString::to_string,
            );
            (IDENTIFY, status, reason)
        }
        PathEnd::Variant(location) => {
            let reason = "with the variant's cookie, as mode=\"redirect\" says";
            (BUCKET, to(location), reason.into())
        }
        PathEnd::NoLocation => {
            let reason = "a parameter's value may not stand in that part of the location";
            (VIEWER, status, reason.into())
        }
        other => (VIEWER, status, other.message().into()),
    };
    steps.add(phase, decision, reason);
}

pub(super) fn text(location: &HeaderValue) -> String {
    String::from_utf8_lossy(location.as_bytes()).into_owned()
}

fn label(plan: &Plan, id: RouteId) -> &str {
    plan.route(id).map_or("?", |route| &route.label)
}

fn no_route(plan: &Plan, probe: &Probe<'_>) -> String {
    match plan.router.candidates(&plan.routes, probe).first() {
        Some((id, MatchResult::Condition(at))) => format!(
            "{} matches, but its condition when[{at}] does not hold",
            label(plan, *id)
        ),
        _ => "no route has this host and path".to_owned(),
    }
}

/// The rules that put a route before the others that match, and keep others from matching.
fn before_others(plan: &Plan, route: &Route, probe: &Probe<'_>) -> String {
    let candidates = plan.router.candidates(&plan.routes, probe);
    let mut reason = String::new();
    for (id, result) in &candidates {
        match result {
            MatchResult::Matches if *id == route.id => break,
            MatchResult::Method => {
                let _ = write!(reason, "{} takes other methods; ", label(plan, *id));
            }
            MatchResult::Condition(at) => {
                let _ = write!(
                    reason,
                    "the condition when[{at}] of {} does not hold; ",
                    label(plan, *id)
                );
            }
            MatchResult::Matches => {}
        }
    }
    let next = candidates
        .iter()
        .skip_while(|(id, _)| *id != route.id)
        .skip(1)
        .find(|(_, result)| *result == MatchResult::Matches);
    match next.and_then(|(id, _)| plan.route(*id)) {
        None => reason.push_str("the only route that matches"),
        Some(next) => {
            let _ = write!(
                reason,
                "before {} because {}",
                next.label,
                precedence(route, next, probe.host)
            );
        }
    }
    reason
}

/// The rule that puts one route before another (docs/design.md §3).
fn precedence(first: &Route, second: &Route, host: &str) -> String {
    let specificity = |route: &Route| crate::plan::matcher::specificity(route, host);
    if first.priority != second.priority {
        format!(
            "its priority is higher ({} and {})",
            first.priority, second.priority
        )
    } else if specificity(first) != specificity(second) {
        "its host is more specific".to_owned()
    } else if first.path.is_exact() != second.path.is_exact() {
        "its path is exact".to_owned()
    } else if first.path.literal_prefix().len() != second.path.literal_prefix().len() {
        "its literal prefix is longer".to_owned()
    } else if first.path.wildcards() != second.path.wildcards() {
        "it has fewer wildcards".to_owned()
    } else {
        "it is declared first".to_owned()
    }
}
