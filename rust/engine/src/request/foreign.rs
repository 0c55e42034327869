//! Images of hosts that are no origins: fetched from an address that the core has judged, and from no other.
//!
//! A redirect is a request to another host: it begins anew.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use edgerouter_core::{
    cache::hooked::HookEffect,
    finish,
    http::{Fields, PathAndQuery, cdn_loop::CDN_LOOP, header},
    images::ImageUrl,
    origin::foreign::ForeignRefusal,
    plan::{ImageSources, Scheme},
};
use http::{HeaderValue, Method, StatusCode};

use super::{
    origin_request::{OriginRequest, Received, ReceivedBody, Unanswered},
    outside::{self, OutsideError, OutsideRequest, Waits},
};
use crate::upstream::{FetchError, UpstreamResponse};

/// Redirects that are followed; `docs/limits.md` names them.
const MOST_REDIRECTS: usize = 3;
/// Time for the head of a response, and silence within its content.
const SILENCE: Duration = Duration::from_secs(10);

/// An image of another host, and the places that it may come from.
#[derive(Debug)]
pub(crate) struct ForeignImage {
    pub scheme: Scheme,
    pub host: String,
    pub port: u16,
    pub target: PathAndQuery,
    pub sources: Arc<ImageSources>,
}

/// Fields that count of a response of such a host: those about the content and its freshness.
const KEPT: [edgerouter_core::http::Known; 9] = [
    header::AGE,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
];

/// Why no image came; the status and the text are for the client.
type Refused = (StatusCode, String);

enum Trouble {
    Refused(Refused),
    Failed(FetchError),
}

/// Fetches the image. Whatever else the host sends gives no content to the client.
pub(super) async fn fetch(
    request: &OriginRequest,
    image: &ForeignImage,
) -> Result<Box<Received>, Unanswered> {
    let limit = request.live.plan.limits.images.timeout;
    let requested_at = request.worker.clock.unix_now();
    let followed = Box::pin(follow(request, image));
    let answer = match tokio::time::timeout(limit, followed).await {
        Ok(answer) => answer,
        Err(_) => Err(Trouble::Failed(FetchError::TotalTimeout(
            image.host.clone(),
            limit,
        ))),
    };
    let (status, headers, body) = match answer {
        Ok(answer) => kept(request, answer),
        Err(Trouble::Refused((status, message))) => refused(status, &message),
        Err(Trouble::Failed(error)) => return Err(Unanswered::Failed(error.into())),
    };
    Ok(Box::new(Received {
        status,
        headers,
        body,
        upgrade: None,
        requested_at,
        received_at: request.worker.clock.unix_now(),
        own: Fields::new(),
        hooked: HookEffect::default(),
    }))
}

fn kept(
    request: &OriginRequest,
    mut answer: UpstreamResponse,
) -> (StatusCode, Fields, ReceivedBody) {
    match answer.status {
        StatusCode::OK | StatusCode::NOT_MODIFIED => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            return refused(
                StatusCode::NOT_FOUND,
                "The host of the image does not have it.",
            );
        }
        // A stale variant may stand in for an error; no page of another host is shown.
        other if other.is_server_error() => {
            let message = format!("The host of the image answered with {}.", other.as_u16());
            return refused(StatusCode::BAD_GATEWAY, &message);
        }
        other => {
            let message = format!("The host of the image answered with {}.", other.as_u16());
            return refused(StatusCode::UNPROCESSABLE_ENTITY, &message);
        }
    }
    finish::received(&mut answer.headers, answer.version, &request.live.plan.via);
    let (now, last) = (request.worker.clock.unix_now(), &request.worker.last_date);
    finish::date(&mut answer.headers, now, last);
    let mut headers = Fields::with_capacity(KEPT.len());
    for name in KEPT {
        for value in answer.headers.get_all(name).iter() {
            headers.append(name, value.owned());
        }
    }
    (answer.status, headers, ReceivedBody::Upstream(answer.body))
}

fn refused(status: StatusCode, message: &str) -> (StatusCode, Fields, ReceivedBody) {
    let body = Bytes::from(format!("{message}\n"));
    let mut headers = Fields::with_capacity(4);
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    (status, headers, ReceivedBody::Whole(body))
}

async fn follow(
    request: &OriginRequest,
    image: &ForeignImage,
) -> Result<UpstreamResponse, Trouble> {
    let (mut scheme, mut host, mut port) = (image.scheme, image.host.clone(), image.port);
    let mut target = image.target.clone();
    for _ in 0..=MOST_REDIRECTS {
        let answer = request_once(request, &image.sources, (scheme, &host, port), &target).await?;
        if !is_redirect(answer.status) {
            return Ok(answer);
        }
        let location = answer.headers.get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok()?.split('#').next());
        let next = location.and_then(|location| ImageUrl::parse(location).ok());
        match next {
            Some(ImageUrl::Path(path)) => target = path,
            Some(ImageUrl::Absolute {
                scheme: next_scheme,
                host: next_host,
                port: next_port,
                target: next,
            }) => (scheme, host, port, target) = (next_scheme, next_host, next_port, next),
            None => {
                let message = "The host of the image redirects to no URL.".to_owned();
                return Err(Trouble::Refused((
                    StatusCode::UNPROCESSABLE_ENTITY,
                    message,
                )));
            }
        }
        if !image.sources.foreign.allows(scheme, &host, port) {
            let message = "The image is redirected to a host that images may not come from.";
            return Err(Trouble::Refused((
                StatusCode::FORBIDDEN,
                message.to_owned(),
            )));
        }
    }
    let message = format!("The image is redirected more than {MOST_REDIRECTS} times.");
    Err(Trouble::Refused((
        StatusCode::UNPROCESSABLE_ENTITY,
        message,
    )))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// One request to one host.
async fn request_once(
    request: &OriginRequest,
    sources: &ImageSources,
    (scheme, host, port): (Scheme, &str, u16),
    target: &PathAndQuery,
) -> Result<UpstreamResponse, Trouble> {
    let mut headers = Fields::with_capacity(8);
    for name in [
        header::ACCEPT,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::VIA,
    ] {
        for value in request.headers.get_all(name).iter() {
            headers.append(name, value.owned());
        }
    }
    for value in request.headers.get_all(&CDN_LOOP).iter() {
        headers.append(CDN_LOOP, value.owned());
    }
    let plain = HeaderValue::from_static("identity");
    headers.insert(header::ACCEPT_ENCODING, plain);
    let waits = Waits {
        silence: SILENCE,
        total: request.live.plan.limits.images.timeout,
    };
    let ask = OutsideRequest {
        method: Method::GET,
        place: (scheme, host, port),
        target,
        headers,
        content: Bytes::new(),
    };
    let fetched = outside::fetch(&request.worker, &request.live, &sources.foreign, ask, waits);
    fetched.await.map_err(|trouble| match trouble {
        OutsideError::Address(why) => forbidden(host, why),
        OutsideError::Failed(error) => Trouble::Failed(error),
        OutsideError::NoHost => {
            let message = "The URL has no valid host.".to_owned();
            Trouble::Refused((StatusCode::BAD_REQUEST, message))
        }
    })
}

fn forbidden(host: &str, why: ForeignRefusal) -> Trouble {
    tracing::warn!(host, %why, "an image is not fetched: its host has an address that is not allowed");
    let message = "The host of the image has an address that images may not come from.";
    Trouble::Refused((StatusCode::FORBIDDEN, message.to_owned()))
}
