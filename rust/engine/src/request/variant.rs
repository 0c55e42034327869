//! A response with an image becomes one with a variant of it, made by threads of the crate `images`.

use std::{future::poll_fn, pin::Pin};

use bytes::{Bytes, BytesMut};
use edgerouter_core::{
    bounds::memory::Purpose,
    cache::slices::content_length,
    http::{Fields, header},
    images::{self, ImageRequest, SourceFormat},
};
use http::{HeaderValue, StatusCode};

use super::{
    answer,
    origin_request::{OriginRequest, Received, ReceivedBody, Unanswered},
};
use crate::{
    account::Hold,
    image_variants::{ImageError, Made},
    upstream::FetchError,
};

/// Time for which a refusal is stored whose image says nothing of its own freshness.
const REFUSAL_FRESH: HeaderValue = HeaderValue::from_static("max-age=60");

/// Makes the response with an image that with a variant of it. A refusal has the freshness and the tags of the image,
/// since the same image would be refused again.
pub(super) async fn made(
    request: &OriginRequest,
    image: &ImageRequest,
    mut received: Box<Received>,
) -> Result<Box<Received>, Unanswered> {
    if received.status == StatusCode::NOT_MODIFIED {
        images::revalidated(&mut received.headers);
        return Ok(received);
    }
    match images::passes_by(image, received.status, &received.headers) {
        Ok(true) => return Ok(received),
        Ok(false) => {}
        Err(why) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Ok(refusal(received, status, &why.to_string()));
        }
    }
    let most = largest(request);
    let announced = content_length(&received.headers);
    if announced.is_some_and(|length| length > most.bytes as u64) {
        return Ok(too_large(received, &most));
    }
    let body = std::mem::replace(&mut received.body, ReceivedBody::Whole(Bytes::new()));
    let account = &request.worker.shared.account;
    let hold = account.open_uncut(Purpose::Bodies, request.owner);
    let source = match body {
        ReceivedBody::Whole(bytes) => {
            draw(request, &hold, bytes.len()).await?;
            Some(bytes)
        }
        ReceivedBody::Upstream(body) => take_in(request, body, most.bytes, &hold).await?,
        // Functions make no sources of images.
        ReceivedBody::Piped(_) => None,
    };
    let Some(source) = source else {
        return Ok(too_large(received, &most));
    };
    let images = &request.worker.shared.images;
    match images.make(source.clone(), image.clone()).await {
        Ok(Made::Coded(format, bytes)) => {
            images::head(Some(format), bytes.len(), &mut received.headers);
            received.body = ReceivedBody::Whole(bytes);
            Ok(received)
        }
        Ok(Made::Unchanged(format)) => {
            unchanged(format, source.len(), &mut received.headers);
            received.body = ReceivedBody::Whole(source);
            Ok(received)
        }
        Err(error) if error.lasts() => {
            let status = if error.is_type() {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            } else {
                StatusCode::UNPROCESSABLE_ENTITY
            };
            Ok(refusal(received, status, &error.to_string()))
        }
        Err(error) => Err(busy(&error)),
    }
}

/// An image that is passed by policy. Scripts in an SVG run nowhere.
fn unchanged(format: SourceFormat, length: usize, headers: &mut Fields) {
    let kind = match format {
        SourceFormat::Svg => HeaderValue::from_static("image/svg+xml"),
        _ => HeaderValue::from_static("image/avif"),
    };
    headers.insert(header::CONTENT_TYPE, kind);
    headers.remove(header::TRANSFER_ENCODING);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

fn busy(error: &ImageError) -> Unanswered {
    let response = answer::text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
    let later = HeaderValue::from_static("1");
    Unanswered::Early(answer::with(response, header::RETRY_AFTER, later).into())
}

/// The size of the largest image that can be held.
pub(super) struct Largest {
    pub(super) bytes: usize,
    /// The limit that allows no more.
    name: &'static str,
}

/// The smaller one of the limit for images and the memory that one request may draw for them: no time would bring more.
pub(super) fn largest(request: &OriginRequest) -> Largest {
    let shared = &request.worker.shared;
    let limit = shared.images.source_bytes();
    let memory = usize::try_from(shared.account.most(Purpose::Bodies)).unwrap_or(usize::MAX);
    if memory < limit {
        return Largest {
            bytes: memory,
            name: "limits.http.request_memory_bytes",
        };
    }
    Largest {
        bytes: limit,
        name: "limits.images.source_bytes",
    }
}

fn too_large(received: Box<Received>, most: &Largest) -> Box<Received> {
    let message = format!(
        "The image has more than {} bytes ({}).",
        most.bytes, most.name
    );
    refusal(received, StatusCode::UNPROCESSABLE_ENTITY, &message)
}

fn refusal(mut received: Box<Received>, status: StatusCode, message: &str) -> Box<Received> {
    let body = Bytes::from(format!("{message}\n"));
    images::head(None, body.len(), &mut received.headers);
    if !received.headers.contains_key(header::CACHE_CONTROL) {
        received
            .headers
            .insert(header::CACHE_CONTROL, REFUSAL_FRESH);
    }
    received.status = status;
    received.body = ReceivedBody::Whole(body);
    received
}

/// Draws memory for a part of the image from the account.
async fn draw(request: &OriginRequest, hold: &Hold, bytes: usize) -> Result<(), Unanswered> {
    let patience = request.live.plan.limits.http.body_timeout;
    let drawn = hold.drawn(bytes as u64, patience).await;
    drawn.map_err(|_| Unanswered::Failed(FetchError::NoMemory.into()))
}

/// Takes the content of an image in; `None` if it has more than `most` bytes.
pub(super) async fn take_in<B>(
    request: &OriginRequest,
    mut body: B,
    most: usize,
    hold: &Hold,
) -> Result<Option<Bytes>, Unanswered>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| {
            let why = format!("broke off within an image: {error}");
            let error = FetchError::BadResponse("the origin".to_owned(), why);
            Unanswered::Failed(error.into())
        })?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if whole.len() + piece.len() > most {
            return Ok(None);
        }
        draw(request, hold, piece.len()).await?;
        whole.extend_from_slice(&piece);
    }
    Ok(Some(whole.freeze()))
}
