//! Bodies of responses from an origin.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use edgerouter_core::admit;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::Connected;
use edgerouter_account::Hold;
use edgerouter_core::origin::unanswered::FetchError;

/// A response's body. It drives its connection while it is read, and gives it back to the pool at its end; dropped
/// before, it closes the connection.
pub struct UpstreamBody {
    /// `None`: all of it is held.
    incoming: Option<Incoming>,
    connected: Option<Connected>,
    between: Duration,
    total: Option<(Instant, Duration)>,
    /// Armed only while nothing comes.
    timer: Option<Pin<Box<Sleep>>>,
    /// Frames taken in before the first read.
    held: VecDeque<Frame<Bytes>>,
    /// There is content that is not passed on.
    dropped: bool,
    /// The request's part of the account.
    hold: Option<Hold>,
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody")
            .field("incoming", &self.incoming)
            .finish_non_exhaustive()
    }
}

impl UpstreamBody {
    pub(super) fn new(
        incoming: Incoming,
        connected: Option<Connected>,
        between: Duration,
        total: Option<(Instant, Duration)>,
    ) -> Self {
        let is_over = incoming.is_end_stream();
        let mut body = Self {
            incoming: Some(incoming),
            connected,
            between,
            total,
            timer: None,
            held: VecDeque::new(),
            dropped: false,
            hold: None,
        };
        if is_over {
            body.give_back();
        }
        body
    }

    /// A body that has come whole.
    pub(super) fn whole(content: Bytes) -> Self {
        let frame = (!content.is_empty()).then(|| Frame::data(content));
        Self {
            incoming: None,
            connected: None,
            between: Duration::ZERO,
            total: None,
            timer: None,
            held: frame.into_iter().collect(),
            dropped: false,
            hold: None,
        }
    }

    /// Size of the content that is still to come.
    fn coming(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }

    /// Takes in a body of at most `most` bytes before its response is passed on, for at most `patience`. `Err` when
    /// it breaks off meanwhile: then another origin may still answer.
    pub async fn hold(&mut self, most: u64, patience: Duration) -> Result<(), FetchError> {
        match self.coming().exact() {
            Some(length) if length > 0 && length <= most => {}
            _ => return Ok(()),
        }
        let whole = async {
            while let Some(frame) = poll_fn(|cx| self.poll_incoming(cx)).await {
                self.held.push_back(frame?);
            }
            Ok(())
        };
        tokio::pin!(whole);
        // It came with the head more often than not: then no timer is needed.
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(whole.as_mut().poll(cx))).await {
            return done;
        }
        tokio::time::timeout(patience, whole)
            .await
            .unwrap_or(Ok(()))
    }

    /// Keeps a part of the account for as long as the body comes.
    pub fn keep(&mut self, hold: Hold) {
        if self.connected.is_some() {
            self.hold = Some(hold);
        }
    }

    /// Reads the content and drops it, so that the connection can be used again; past `most` bytes, or when more takes too
    /// long, the connection is closed.
    pub(super) async fn drop_content(&mut self, most: u64) {
        let patience = self.between;
        let _ = tokio::time::timeout(patience, self.read_away(most)).await;
        self.connected = None;
        self.dropped = true;
    }

    async fn read_away(&mut self, most: u64) {
        let mut left = most;
        while let Some(frame) = poll_fn(|cx| self.poll_incoming(cx)).await {
            let length = frame.map_or(u64::MAX, |frame| {
                frame.data_ref().map_or(0, |data| data.len() as u64)
            });
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }

    fn name(&self) -> String {
        self.connected
            .as_ref()
            .map_or_else(String::new, |connected| connected.name().to_string())
    }

    fn give_back(&mut self) {
        if let Some(connected) = self.connected.take() {
            connected.give_back();
        }
        self.hold = None;
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        for turn in 0..2 {
            let Some(incoming) = &mut self.incoming else {
                return Poll::Ready(None);
            };
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(mut frame))) => {
                    self.timer = None;
                    if let Some(trailers) = frame.trailers_mut() {
                        admit::late(trailers);
                    }
                    if incoming.is_end_stream() {
                        self.give_back();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(None) => {
                    self.give_back();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = FetchError::BodyAborted(self.name(), error.to_string());
                    self.connected = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending if turn == 0 => {
                    if let Some(connected) = &mut self.connected {
                        connected.drive(cx);
                    }
                }
                Poll::Pending => {}
            }
        }
        match self.timed_out(cx) {
            Some(error) => {
                self.connected = None;
                Poll::Ready(Some(Err(error)))
            }
            None => Poll::Pending,
        }
    }

    fn timed_out(&mut self, cx: &mut Context<'_>) -> Option<FetchError> {
        let between = self.between;
        let total = self.total;
        let timer = self.timer.get_or_insert_with(|| {
            let next = Instant::now() + between;
            let until = total.map_or(next, |(end, _)| end.min(next));
            Box::pin(tokio::time::sleep_until(until))
        });
        if timer.as_mut().poll(cx).is_pending() {
            return None;
        }
        match self.total {
            Some((end, limit)) if Instant::now() >= end => {
                Some(FetchError::TotalTimeout(self.name(), limit))
            }
            _ => Some(FetchError::BetweenBytesTimeout(self.name(), self.between)),
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = FetchError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        if self.dropped {
            return Poll::Ready(None);
        }
        match self.held.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.poll_incoming(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_over = || self.incoming.as_ref().is_none_or(Body::is_end_stream);
        self.dropped || self.held.is_empty() && is_over()
    }

    fn size_hint(&self) -> SizeHint {
        if self.dropped {
            return SizeHint::with_exact(0);
        }
        let mut hint = self.coming();
        let held: usize = self
            .held
            .iter()
            .filter_map(Frame::data_ref)
            .map(Bytes::len)
            .sum();
        let held = held as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(hint.lower().saturating_add(held));
        hint
    }
}
