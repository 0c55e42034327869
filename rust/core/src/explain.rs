//! The decisions of the edge about a request, and their reasons, without acting on them: phases 2 to 9 by the very
//! functions that serve, in the order of [`crate::path`].
//!
//! Two things are not known here and said so: what a hook would change, and which variant chance would give.

mod admission;
mod caching;
mod files;
mod images;
mod stored;
#[cfg(test)]
mod tests;
mod visitor;

use std::{net::IpAddr, sync::Arc};

use http::{Method, StatusCode};
use serde::Serialize;

use self::caching::{fetch, find, store};
pub use self::stored::ExplainResponse;
use crate::{
    cache::{question::Question, validate::Precondition},
    experiment::Readings,
    geo::PlaceSource,
    path::Admitted,
    plan::{ErrorPage, GroupId, Hook, Plan, Route, RouteId, Scheme, Target, table},
};

/// A request that is not sent.
#[derive(Debug, Clone)]
pub struct ExplainRequest {
    /// Case-sensitive (RFC 9110 §9.1).
    pub method: String,
    /// Absolute (`https://www.example.com/a?b`), or a path when a `Host` field says the rest.
    pub url: String,
    /// Names and values in their order; a name may occur more than once.
    pub headers: Vec<(String, String)>,
    /// The connection's other end.
    pub client: IpAddr,
    /// Of the connection, where the URL does not say it.
    pub scheme: Option<Scheme>,
    /// Looks up the client's place; `None`: no place is known.
    pub places: Option<Arc<dyn PlaceSource>>,
    /// The settings of experiments that are in use.
    pub readings: Readings,
    /// A response that an origin might give.
    pub response: Option<ExplainResponse>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainStep {
    /// The phase's name in docs/design.md §3.
    pub phase: &'static str,
    /// The result, in a few words.
    pub decision: String,
    /// The rule, limit or setting that led to it.
    pub reason: String,
}

/// All that is decided about a request.
#[derive(Debug, Clone)]
pub struct Explained {
    /// In order. The last one is what answers it.
    pub steps: Vec<ExplainStep>,
    /// For the cache, with the route; `None` where the cache is passed by, which a step gives the reason for.
    pub question: Option<(RouteId, Question<'static>)>,
}

/// The decisions about a request at `now` (Unix seconds).
pub fn explain(plan: &Plan, request: &ExplainRequest, now: u64) -> Explained {
    let mut steps = Steps {
        plan,
        now,
        places: request.places.clone(),
        readings: request.readings.clone(),
        taken: Vec::new(),
        variants: Vec::new(),
        question: None,
    };
    if let Some(admitted) = admission::arrived(request, &mut steps) {
        walk(admitted, request, &mut steps);
    }
    Explained {
        steps: steps.taken,
        question: steps.question,
    }
}

/// The decisions so far.
struct Steps<'p> {
    plan: &'p Plan,
    now: u64,
    places: Option<Arc<dyn PlaceSource>>,
    readings: Readings,
    taken: Vec<ExplainStep>,
    /// Each experiment with the variant that the key will have.
    variants: Vec<(String, String)>,
    question: Option<(RouteId, Question<'static>)>,
}

impl Steps<'_> {
    fn add(&mut self, phase: &'static str, decision: impl Into<String>, reason: impl Into<String>) {
        self.taken.push(ExplainStep {
            phase,
            decision: decision.into(),
            reason: reason.into(),
        });
    }

    /// The request is answered here.
    fn end<T>(
        &mut self,
        phase: &'static str,
        decision: impl Into<String>,
        reason: impl Into<String>,
    ) -> Option<T> {
        self.add(phase, decision, reason);
        None
    }
}

fn walk(mut admitted: Admitted, request: &ExplainRequest, steps: &mut Steps<'_>) {
    let plan = steps.plan;
    let route = match admitted.decide(plan, steps) {
        Ok(route) => route,
        Err(answer) => return visitor::ended(&admitted, &answer, steps),
    };
    let declared = &route.hooks;
    hooks("viewer_request", &declared.viewer_request, &admitted, steps);
    match &route.target {
        Target::Group(group) => {
            if origin(route, *group, &mut admitted, request, steps).is_none() {
                return;
            }
        }
        Target::Function(call) if !route.cache.enabled => steps.add(
            "function",
            table::callable(plan, *call),
            "an edge function takes the place of key, look up, fetch and store",
        ),
        Target::Function(call) => {
            let stores = find(plan, route, &admitted, steps);
            steps.add(
                "function",
                table::callable(plan, *call),
                "an edge function takes the place of fetch; what it reads selects",
            );
            stored_or_not(route, &admitted, request, stores, steps);
        }
        Target::Redirect(redirect) => match admitted.location(route, redirect) {
            Ok(location) => steps.add(
                "viewer",
                format!(
                    "{} to {}",
                    redirect.status.as_u16(),
                    visitor::text(&location)
                ),
                format!("the route redirects to {}", redirect.location),
            ),
            Err(answer) => visitor::ended(&admitted, &answer, steps),
        },
        Target::Respond(fixed) => {
            let reason = format!("a fixed response of {} bytes", fixed.body.len());
            let status = match admitted.fixed(fixed).0 {
                Precondition::Send => fixed.status,
                Precondition::NotModified => StatusCode::NOT_MODIFIED,
                Precondition::Failed => StatusCode::PRECONDITION_FAILED,
            };
            steps.add("viewer", status.as_u16().to_string(), reason);
        }
        Target::Files(folder) => files::file(folder, &admitted, steps),
        Target::Images(sources) => images::named(route, sources, &mut admitted, steps),
    }
    hooks(
        "viewer_response",
        &declared.viewer_response,
        &admitted,
        steps,
    );
}

/// The phases of a request that an origin answers; `None`: it is answered before.
fn origin(
    route: &Route,
    group: GroupId,
    admitted: &mut Admitted,
    request: &ExplainRequest,
    steps: &mut Steps<'_>,
) -> Option<()> {
    let plan = steps.plan;
    if let Some(policy) = &route.images {
        images::variant(policy, admitted, steps)?;
    }
    if let Err(answer) = admitted.rewrite(route) {
        visitor::ended(admitted, &answer, steps);
        return None;
    }
    let (viewer, path) = (admitted.viewer_path.path(), admitted.head.target.path());
    if path != viewer {
        steps.add(
            "viewer",
            format!("{viewer} becomes {path}"),
            "strip_prefix, rewrite, add_prefix and index, in this order",
        );
    }
    let stores = find(plan, route, admitted, steps);
    let declared = &route.hooks;
    hooks("origin_request", &declared.origin_request, admitted, steps);
    fetch(plan, route, group, admitted, steps);
    hooks(
        "origin_response",
        &declared.origin_response,
        admitted,
        steps,
    );
    stored_or_not(route, admitted, request, stores, steps);
    if let Some(given) = &request.response {
        error_page(route, admitted, given.status, steps);
    }
    Some(())
}

/// Phase 13: on the response that was given, if one was, and in general otherwise.
fn stored_or_not(
    route: &Route,
    admitted: &Admitted,
    request: &ExplainRequest,
    stores: bool,
    steps: &mut Steps<'_>,
) {
    match &request.response {
        Some(given) if stores => {
            let authorization = admitted.authorization(route);
            stored::response(route, admitted, authorization, given, steps.now, steps);
        }
        _ => store(route, admitted.claims.is_some(), stores, steps),
    }
}

/// The page that would stand in for an answer of that status.
fn error_page(route: &Route, admitted: &Admitted, status: StatusCode, steps: &mut Steps<'_>) {
    let Some((_, page)) = route.errors.iter().find(|(of, _)| *of == status) else {
        return;
    };
    let reason = format!("the route's errors, {}", status.as_u16());
    match page {
        ErrorPage::Path(path) if !matches!(admitted.head.method, Method::GET | Method::HEAD) => {
            steps.add(
                "error page",
                "none",
                format!("{reason}: {path} is for GET and HEAD"),
            )
        }
        ErrorPage::Path(path) => steps.add("error page", path.to_string(), reason),
        ErrorPage::Fixed(held) => steps.add(
            "error page",
            format!("the edge's own, of {} bytes", held.body.len()),
            reason,
        ),
    }
}

fn hooks(phase: &'static str, hooks: &[Hook], admitted: &Admitted, steps: &mut Steps<'_>) {
    for hook in hooks {
        if hook.runs(admitted.host(), admitted.viewer_path.path()) {
            steps.add(
                phase,
                table::callable(steps.plan, hook.call),
                format!("{} matches; it is not called here", hook.pattern),
            );
        }
    }
}
