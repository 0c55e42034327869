//! Responses of the admin listener: text, JSON, JSON about the fault of a request, and streams of events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use edgerouter_core::http::Named;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

pub(super) type Answer = Response<AdminBody>;

/// Content of a response: whole, or events that follow as they happen.
#[derive(Debug)]
pub(super) enum AdminBody {
    Whole(Option<Bytes>),
    Events(mpsc::Receiver<Bytes>),
}

impl Body for AdminBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(events) => events
                .poll_recv(cx)
                .map(|event| event.map(|event| Ok(Frame::data(event)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Events(_) => SizeHint::default(),
        }
    }
}

pub(super) fn text(status: StatusCode, body: &str) -> Answer {
    of(status, "text/plain; charset=utf-8", body.to_owned())
}

pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    of(status, "application/json", format!("{value}\n"))
}

/// `{"error": {"field": …, "message": …}}`; `field` is null if the whole request is at fault.
pub(super) fn error(status: StatusCode, field: Option<&str>, message: &str) -> Answer {
    json(
        status,
        &serde_json::json!({"error": {"field": field, "message": message}}),
    )
}

/// The fault of a parameter or of a field of the body.
pub(super) fn wrong(field: &str, message: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, Some(field), message)
}

pub(super) fn of(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let body = Some(body.into()).filter(|body| !body.is_empty());
    headed(status, kind, AdminBody::Whole(body))
}

/// Server-sent events.
pub(super) fn events(events: mpsc::Receiver<Bytes>) -> Answer {
    headed(
        StatusCode::OK,
        "text/event-stream",
        AdminBody::Events(events),
    )
}

fn headed(status: StatusCode, kind: &'static str, body: AdminBody) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

pub(super) fn with(mut answer: Answer, name: impl Named, value: &str) -> Answer {
    if let (Ok(name), Ok(value)) = (
        HeaderName::from_bytes(name.text()),
        HeaderValue::from_str(value),
    ) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
