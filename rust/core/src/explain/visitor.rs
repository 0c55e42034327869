//! Phases 5 and 6 in words.

use super::{Asked, Steps};
use crate::{
    identity::jwt::{self, Claims, Extracted, TokenError},
    plan::{Preflight, Route},
    viewer,
};

/// The claims where there are any; `None` ends the request.
pub(super) fn identify(
    route: &Route,
    asked: &Asked,
    now: u64,
    steps: &mut Steps,
) -> Option<Option<Claims>> {
    const PHASE: &str = "identify";
    let Some(policy) = &route.auth else {
        return Some(None);
    };
    if route.preflight == Preflight::Origin
        && viewer::is_preflight(&asked.method, &asked.headers, false)
    {
        steps.add(
            PHASE,
            "nobody",
            "it is a preflight, and the route's preflight=\"origin\" lets it through without a token",
        );
        return Some(None);
    }
    let refused = |steps: &mut Steps, error: Option<&TokenError>| {
        let (status, _) = jwt::challenge(policy, error);
        let reason = error.map_or_else(
            || "the route needs a token, and there is none".to_owned(),
            ToString::to_string,
        );
        steps.end(PHASE, status.as_u16().to_string(), reason)
    };
    match jwt::extract(policy, &asked.headers) {
        Extracted::Absent if policy.optional => {
            steps.add(
                PHASE,
                "nobody",
                "there is no token, and the route's policy is optional",
            );
            Some(None)
        }
        Extracted::Absent => refused(steps, None),
        Extracted::Malformed(error) => refused(steps, Some(&error)),
        Extracted::Token(token) => {
            let Some(keys) = policy.static_keys() else {
                steps.add(
                    PHASE,
                    "unknown",
                    "the keys are fetched by URL while serving: the token is not verified here",
                );
                return Some(None);
            };
            match jwt::verify(policy, keys, token.as_bytes(), now) {
                Err(error) => refused(steps, Some(&error)),
                Ok(claims) => {
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
                    steps.add(PHASE, who, format!("signature and claims hold{passed}"));
                    Some(Some(claims))
                }
            }
        }
    }
}

/// Each experiment with the variant that the key will have.
pub(super) fn bucket<'r>(
    route: &'r Route,
    asked: &Asked,
    claims: Option<&Claims>,
    steps: &mut Steps,
) -> Vec<(&'r str, String)> {
    use crate::experiment::Reason;
    let mut variants = Vec::new();
    for experiment in &route.experiments {
        let assigned = experiment.assign(&asked.headers, claims, 0);
        let by_chance = matches!(assigned.reason, Reason::New | Reason::Reassigned);
        let variant = if by_chance {
            "any".to_owned()
        } else {
            assigned.variant.to_string()
        };
        let reason = match assigned.reason {
            Reason::Id => "the hash of the id falls there".to_owned(),
            Reason::Kept => format!("the cookie {} says so", experiment.cookie),
            Reason::New | Reason::Reassigned => {
                let weights: Vec<String> = experiment
                    .variants()
                    .map(|(name, weight)| format!("{name} {weight}"))
                    .collect();
                format!(
                    "by chance, for the cookie {} names none: {}",
                    experiment.cookie,
                    weights.join(", ")
                )
            }
        };
        steps.add("bucket", format!("{}: {variant}", experiment.name), reason);
        variants.push((&*experiment.name, variant));
    }
    variants
}
