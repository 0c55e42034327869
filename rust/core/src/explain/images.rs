//! The variant of an image that a request wants, and the route that the image comes by.

use http::Method;

use super::Steps;
use crate::{
    images::{self, ImageRequest, ImageUrl, Parameters},
    path::Admitted,
    plan::{
        ImagePolicy, ImageSources, Route,
        matcher::{Probe, ProbeQuery},
    },
};

const PHASE: &str = "image";

/// The variant on a route that makes some; `None` if the request is refused.
pub(super) fn variant(
    policy: &ImagePolicy,
    admitted: &mut Admitted,
    steps: &mut Steps<'_>,
) -> Option<()> {
    match images::requested(policy, &mut admitted.head) {
        Ok(Some(request)) => {
            let reason =
                "the parameters of the query, Accept and the route's images; part of the key";
            steps.add(PHASE, request.to_string(), reason);
        }
        Ok(None) => steps.add(
            PHASE,
            "none",
            "the path ends like no image, and no parameter is given",
        ),
        Err(refusal) => return steps.end(PHASE, "400", refusal.to_string()),
    }
    Some(())
}

/// The image that the query names, and its variant.
pub(super) fn named(
    route: &Route,
    sources: &ImageSources,
    admitted: &mut Admitted,
    steps: &mut Steps<'_>,
) {
    let query = admitted.head.target.query();
    let read = Parameters::read(query, true).and_then(|(parameters, _)| {
        let policy = route.images.as_deref().cloned().unwrap_or_default();
        let request = ImageRequest::of(&policy, &parameters, &admitted.head.headers)?;
        let url = ImageUrl::parse(parameters.url.as_deref().unwrap_or_default())?;
        Ok((request, url))
    });
    let (request, url) = match read {
        Ok(read) => read,
        Err(refusal) => return steps.add(PHASE, "400", refusal.to_string()),
    };
    let plan = steps.plan;
    let base = admitted.base();
    let path = images::own_path(
        plan,
        &sources.origins,
        &url,
        base.host,
        base.effective_port(),
    );
    let Some(path) = path else {
        return steps.add(
            PHASE,
            request.to_string(),
            "the image is fetched from another host, if sources names it",
        );
    };
    let probe = Probe {
        path: path.path(),
        query: ProbeQuery::Text(path.query()),
        method: &Method::GET,
        ..admitted.probe()
    };
    let found = plan.router.find(&plan.routes, &probe);
    match found.and_then(|id| plan.route(id)) {
        Some(own) => match images::refusal(plan, own, sources, admitted.host(), path.path()) {
            None => steps.add(
                PHASE,
                request.to_string(),
                format!("{} by the route {}", path.as_str(), own.label),
            ),
            Some(refusal) => steps.add(PHASE, "403", refusal.to_string()),
        },
        None => steps.add(
            PHASE,
            "404",
            format!("no route of this edge has {}", path.as_str()),
        ),
    }
}
