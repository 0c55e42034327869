//! Sends kept traces by OTLP over HTTP. Whatever the receiver does, it costs memory up to a bound, and drops are
//! counted.

use std::{future::poll_fn, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use edgerouter_core::{
    http::{Fields, header},
    trace::TracingPolicy,
};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::{sync::watch, time::timeout};

use super::receiver;
use crate::{
    life::Life,
    telemetry::trace::{BATCH, SpanEnd, TraceQueue, encoded, rejected},
    upstream::{RequestBody, UpstreamBody, UpstreamRequest, Upstreams},
    worker::Shared,
};

/// Time that spans wait for others to be sent with.
const PERIOD: Duration = Duration::from_secs(1);
/// Attempts to send one message, and the pause after the first that failed, which doubles.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a receiver may demand.
const LONGEST: Duration = Duration::from_secs(30);
/// Time for all that waits when the engine ends.
const LAST: Duration = Duration::from_secs(1);
/// Bytes of a response that are read.
const MOST: usize = 64 << 10;

/// Sends traces until the engine ends, and then those that wait.
pub(super) async fn run(
    upstreams: Rc<Upstreams>,
    shared: Arc<Shared>,
    mut life: watch::Receiver<Life>,
) {
    let forever = async {
        loop {
            let _ = timeout(PERIOD, shared.traces_due.notified()).await;
            send_all(&upstreams, &shared, ATTEMPTS).await;
        }
    };
    tokio::select! {
        () = forever => {}
        _ = life.wait_for(|life| *life == Life::Ended) => {}
    }
    let _ = timeout(LAST, send_all(&upstreams, &shared, 1)).await;
}

async fn send_all(upstreams: &Upstreams, shared: &Shared, attempts: u32) {
    while shared.traces.waiting() > 0 {
        let live = shared.live.load_full();
        let traces = shared.traces.take(BATCH);
        let spans = traces.iter().map(|trace| trace.spans() as u64).sum();
        let mut batch = Batch {
            queue: &shared.traces,
            spans,
        };
        if let Some(policy) = &live.plan.tracing
            && let Some(url) = &policy.endpoint
        {
            let message = Bytes::from(encoded(&policy.resource, &traces));
            drop(traces);
            batch.send(upstreams, policy, url, message, attempts).await;
        }
    }
}

/// The spans of one message, which are counted when it is dropped unless they were before.
struct Batch<'q> {
    queue: &'q TraceQueue,
    spans: u64,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.queue.count(SpanEnd::Failed, self.spans);
    }
}

/// The outcome of one attempt.
enum Attempt {
    /// The receiver refused so many spans.
    Taken(u64),
    /// Another attempt would end the same.
    Refused(StatusCode),
    /// Another attempt may help, after a pause that the receiver may name.
    Failed(String, Option<Duration>),
}

impl Batch<'_> {
    async fn send(
        &mut self,
        upstreams: &Upstreams,
        policy: &TracingPolicy,
        url: &str,
        message: Bytes,
        attempts: u32,
    ) {
        let mut pause = PAUSE;
        for number in 1..=attempts {
            let attempt = timeout(
                policy.timeout,
                post(upstreams, policy, url, message.clone()),
            );
            let late = || Attempt::Failed(format!("no response within {:?}", policy.timeout), None);
            match attempt.await.unwrap_or_else(|_| late()) {
                Attempt::Taken(rejected) => {
                    let rejected = rejected.min(self.spans);
                    self.queue.count(SpanEnd::Rejected, rejected);
                    self.queue.count(SpanEnd::Sent, self.spans - rejected);
                    self.spans = 0;
                    return;
                }
                Attempt::Refused(status) => {
                    tracing::warn!(origin = "otlp", %status, "the receiver of traces refused them");
                    self.queue.count(SpanEnd::Rejected, self.spans);
                    self.spans = 0;
                    return;
                }
                Attempt::Failed(why, wanted) => {
                    if number == attempts {
                        tracing::warn!(origin = "otlp", error = %why, "traces could not be sent");
                        return;
                    }
                    let jitter = Duration::from_millis(fastrand::u64(0..500));
                    let wait = wanted.unwrap_or(pause).min(LONGEST);
                    tokio::time::sleep(wait + jitter).await;
                    pause *= 2;
                }
            }
        }
    }
}

/// One POST of a message (OTLP 1.x, OTLP/HTTP).
async fn post(upstreams: &Upstreams, policy: &TracingPolicy, url: &str, message: Bytes) -> Attempt {
    let Some((origin, path_and_query)) = receiver("otlp", url, policy.timeout) else {
        return Attempt::Failed("the URL is not one of http or https".to_owned(), None);
    };
    let mut headers = Fields::new();
    headers.insert(header::HOST, origin.authority.clone());
    let kind = HeaderValue::from_static("application/x-protobuf");
    headers.insert(header::CONTENT_TYPE, kind);
    let agent = HeaderValue::from_static(concat!("edgerouter/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, agent);
    for (name, value) in &policy.headers {
        headers.insert(name, value);
    }
    let request = UpstreamRequest {
        method: Method::POST,
        path_and_query,
        headers,
        body: RequestBody::Full(message),
        upgrade: false,
        interims: None,
        expects: false,
        wanted: None,
        begun: std::time::Instant::now(),
    };
    let response = match upstreams.fetch(&origin, request, false).await {
        Ok(response) => response,
        Err(error) => return Attempt::Failed(error.to_string(), None),
    };
    let status = response.status;
    let retry_after = response.headers.get(header::RETRY_AFTER);
    let wanted = retry_after
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body = whole(response.body).await;
    match status {
        _ if status.is_success() => Attempt::Taken(rejected(&body).unwrap_or(0)),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Attempt::Failed(format!("it answered {status}"), wanted),
        _ => Attempt::Refused(status),
    }
}

/// The content of a response; nothing where there is too much of it, or it breaks off.
async fn whole(mut body: Box<UpstreamBody>) -> Bytes {
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(Ok(data)) = frame.map(http_body::Frame::into_data) else {
            return Bytes::new();
        };
        if whole.len() + data.len() > MOST {
            return Bytes::new();
        }
        whole.extend_from_slice(&data);
    }
    whole.freeze()
}
