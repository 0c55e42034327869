//! Variants of images: the request for one becomes a request for the image, whose response becomes the variant before
//! it is stored. So freshness, tags, purges, validation and coalescing are those of the image's own response.
//!
//! The core decides which variant, and `variant` has it made. It is a part of the key, as a field that a hook sets is.

use std::{rc::Rc, sync::Arc};

use edgerouter_core::{
    http::{PathAndQuery, header},
    images::{self, ImageRefusal, ImageRequest, ImageUrl, Parameters, VARIANT},
    outcome::Detail,
    plan::{ImagePolicy, ImageSources, Route},
};
use http::{HeaderValue, Method, StatusCode};

use super::{
    answer::{self, Early},
    cached::{self, Found},
    exchange::{Exchange, WantedImage},
    foreign::ForeignImage,
    original, pages,
};
use crate::{
    body::EdgeResponse, functions::fetch::FetchCache, live::LocalLive, telemetry::Outcome,
};

/// An image that the query names, of a path of this edge.
pub(super) async fn named(
    exchange: &mut Exchange,
    live: &LocalLive,
    route: &Route,
    sources: &Arc<ImageSources>,
) -> Result<EdgeResponse, Early> {
    if !matches!(exchange.head.method, Method::GET | Method::HEAD) {
        exchange.note.detail = Some(Detail::MethodNotAllowed);
        let message = "Images can be read with GET and HEAD.";
        let refused = answer::text(StatusCode::METHOD_NOT_ALLOWED, message);
        let allowed = HeaderValue::from_static("GET, HEAD");
        return Ok(answer::with(refused, header::ALLOW, allowed));
    }
    let standard = ImagePolicy::default();
    let policy = route.images.as_deref().unwrap_or(&standard);
    let (request, url) = match read(exchange, policy) {
        Ok(read) => read,
        Err(refusal) => return Ok(refused(exchange, &refusal)),
    };
    let base = exchange.base();
    let (host, port) = (base.host, base.effective_port());
    let Some(path) = images::own_path(&live.plan, &sources.origins, &url, host, port) else {
        return of_other_host(exchange, route, policy, (request, url), sources).await;
    };
    let Some(own) = exchange.route_for_get(live, path.path(), path.query()) else {
        exchange.note.detail = Some(Detail::NoRoute);
        let message = "No route of this edge has the image.";
        return Ok(answer::text(StatusCode::NOT_FOUND, message));
    };
    let why = images::refusal(&live.plan, own, sources, exchange.host(), path.path());
    if let Some(why) = why {
        return Ok(forbidden(exchange, &why.to_string()));
    }
    // From here to the response it is a request for the image, so that purges of the image's URL name its variants.
    let requested = std::mem::replace(&mut exchange.request.viewer_path, path.clone());
    exchange.request.head.target = path;
    let evaded = edgerouter_core::admit::evades(&live.plan, own, &exchange.probe()).is_some();
    let answered = if evaded {
        Ok(forbidden(
            exchange,
            "The URL can be read in two ways, and one of them is guarded.",
        ))
    } else {
        request.select(&mut exchange.request.head.headers);
        answered(exchange, own, policy, Some(request)).await
    };
    exchange.request.viewer_path = requested;
    answered
}

/// An image of another host.
async fn of_other_host(
    exchange: &mut Exchange,
    route: &Route,
    policy: &ImagePolicy,
    (mut request, url): (ImageRequest, ImageUrl),
    sources: &Arc<ImageSources>,
) -> Result<EdgeResponse, Early> {
    let named = url.to_string();
    let (scheme, host, port, target) = match url {
        ImageUrl::Absolute {
            scheme,
            host,
            port,
            target,
        } if sources.foreign.allows(scheme, &host, port) => (scheme, host, port, target),
        _ => {
            let message = "The URL is of no origin or host that images may come from.";
            return Ok(forbidden(exchange, message));
        }
    };
    exchange.foreign = Some(Rc::new(ForeignImage {
        scheme,
        host,
        port,
        target,
        sources: Arc::clone(sources),
    }));
    request.foreign = Some(named.into());
    request.select(&mut exchange.request.head.headers);
    // Nothing of the client but the variant reaches the host.
    for name in [header::COOKIE, header::AUTHORIZATION] {
        exchange.request.head.headers.remove(name);
    }
    // The variant is in the key, and so is its URL.
    let path = PathAndQuery::try_from(exchange.head.target.path());
    exchange.request.head.target = path.unwrap_or_default();
    answered(exchange, route, policy, Some(request)).await
}

fn read(
    exchange: &Exchange,
    policy: &ImagePolicy,
) -> Result<(ImageRequest, ImageUrl), ImageRefusal> {
    let head = &exchange.head;
    let (parameters, _) = Parameters::read(head.target.query(), true)?;
    let url = ImageUrl::parse(parameters.url.as_deref().unwrap_or_default())?;
    let mut request = ImageRequest::of(policy, &parameters, &head.headers)?;
    // Nothing but images comes by this route.
    request.passes_by = false;
    Ok((request, url))
}

/// A request of a route with images: for a variant, or for something else.
pub(super) async fn on_route(
    exchange: &mut Exchange,
    route: &Route,
) -> Result<EdgeResponse, Early> {
    let standard = ImagePolicy::default();
    let policy = route.images.as_deref().unwrap_or(&standard);
    match images::requested(policy, &mut exchange.request.head) {
        Ok(request) => answered(exchange, route, policy, request).await,
        Err(refusal) => Ok(refused(exchange, &refusal)),
    }
}

fn refused(exchange: &mut Exchange, refusal: &ImageRefusal) -> EdgeResponse {
    exchange.note.outcome = Outcome::Error;
    exchange.note.detail = Some(Detail::Image);
    answer::text(StatusCode::BAD_REQUEST, &refusal.to_string())
}

fn forbidden(exchange: &mut Exchange, message: &str) -> EdgeResponse {
    exchange.note.outcome = Outcome::Error;
    exchange.note.detail = Some(Detail::Image);
    answer::text(StatusCode::FORBIDDEN, message)
}

/// Phases 8 to 13 for a variant of the image that the request is for by now, or for the response as it is.
async fn answered(
    exchange: &mut Exchange,
    route: &Route,
    policy: &ImagePolicy,
    request: Option<ImageRequest>,
) -> Result<EdgeResponse, Early> {
    // The head of a variant is known once it is made, so a HEAD leaves it in the store as a GET does.
    let is_head = request.is_some() && exchange.head.method == Method::HEAD;
    if is_head {
        exchange.request.head.method = Method::GET;
    }
    let answered = for_get(exchange, route, policy, request).await;
    if is_head {
        exchange.request.head.method = Method::HEAD;
    }
    answered
}

/// The same once it is known that no HEAD needs another answer. A variant that takes long is made behind another.
async fn for_get(
    exchange: &mut Exchange,
    route: &Route,
    policy: &ImagePolicy,
    request: Option<ImageRequest>,
) -> Result<EdgeResponse, Early> {
    exchange.rewrite(route).map_err(|end| exchange.end(end))?;
    if request.is_some() {
        exchange.hooked.push(VARIANT);
    }
    let mut request = request.map(Rc::new);
    let is_plain = !exchange.wants_upgrade
        && !exchange.has_body
        && exchange.fetch_cache != FetchCache::NoStore;
    let mut response = loop {
        let is_stored =
            cached::cacheable(&exchange.head.method, route) && is_plain && exchange.agrees(route);
        exchange.image = request.as_ref().map(|variant| WantedImage {
            variant: Rc::clone(variant),
            original: is_stored.then_some(original::begin),
        });
        if !is_stored {
            exchange.enter()?;
            break pages::passed(exchange, route).await?;
        }
        match cached::look_up(exchange, route).await {
            Found::Answer(response) => break response,
            Found::Missing(missing) => {
                if exchange.head.method == Method::GET
                    && let Some(slow) = &request
                    && let Some(meanwhile) = slow.meanwhile(policy)
                {
                    cached::fetch_behind(exchange, route, &missing);
                    meanwhile.select(&mut exchange.request.head.headers);
                    request = Some(Rc::new(meanwhile));
                    continue;
                }
                exchange.enter()?;
                let body = exchange.take_body();
                break cached::fetch(exchange, route, missing, body).await?;
            }
        }
    };
    if let Some(request) = &request {
        images::vary(request, response.headers_mut());
    }
    Ok(response)
}
