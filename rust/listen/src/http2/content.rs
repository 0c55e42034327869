//! The content of one request on its way to its reader.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use edgerouter_core::{admit::Refusal, http::Fields};
use h2::RecvStream;

use super::meter::{OpenStream, StreamFault};
use crate::connection::Inflow;

/// Bytes of content that are taken from a client although nobody reads them: it may send all of it before it looks at
/// the response. Past them, or [`DISCARDING`], the stream is reset.
const DISCARDED: u64 = 16 << 20;
const DISCARDING: Duration = Duration::from_secs(10);

/// Content that has not come yet.
pub(super) struct Content {
    body: RecvStream,
    inflow: Rc<Inflow>,
    /// Bytes that it may still have.
    left: u64,
    /// Bytes that nobody read.
    discarded: u64,
}

/// The result of taking content from the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// More may come.
    Some,
    /// Nothing more is to be taken.
    Last,
}

impl Content {
    /// Content of at most `most` bytes.
    pub(super) fn new(body: RecvStream, inflow: Rc<Inflow>, most: u64) -> Self {
        Self {
            body,
            inflow,
            left: most,
            discarded: 0,
        }
    }

    /// True if somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.inflow.is_awaited()
    }

    /// Takes content from the library while somebody waits for it.
    pub(super) fn poll(&mut self, open: &OpenStream, cx: &mut Context<'_>) -> Poll<Taken> {
        self.inflow.sent_by(cx.waker());
        if self.inflow.is_dropped() {
            open.awaits_content(false);
            return self.poll_discard(open, cx).map(|()| Taken::Last);
        }
        if !self.inflow.is_awaited() {
            open.awaits_content(false);
            return Poll::Pending;
        }
        if open.take_fault() == Some(StreamFault::SendsNothing) {
            return Poll::Ready(self.refuse(open, Refusal::BodyTooSlow));
        }
        let Poll::Ready(data) = self.body.poll_data(cx) else {
            open.awaits_content(true);
            return Poll::Pending;
        };
        match data {
            Some(Ok(data)) => {
                let length = data.len();
                open.read(length);
                // Fails where the stream has ended.
                let _ = self.body.flow_control().release_capacity(length);
                let Some(left) = self.left.checked_sub(length as u64) else {
                    return Poll::Ready(self.refuse(open, Refusal::BodyTooLarge));
                };
                self.left = left;
                if length > 0 {
                    self.inflow.put(data);
                }
                Poll::Ready(Taken::Some)
            }
            Some(Err(_)) => Poll::Ready(self.break_off(open)),
            None => self.poll_end(open, cx),
        }
    }

    /// Takes the trailers, or learns that there are none.
    fn poll_end(&mut self, open: &OpenStream, cx: &mut Context<'_>) -> Poll<Taken> {
        let Poll::Ready(trailers) = self.body.poll_trailers(cx) else {
            open.awaits_content(true);
            return Poll::Pending;
        };
        let Ok(trailers) = trailers else {
            return Poll::Ready(self.break_off(open));
        };
        self.inflow.complete(trailers.as_ref().map(Fields::from));
        open.awaits_content(false);
        Poll::Ready(Taken::Last)
    }

    fn refuse(&self, open: &OpenStream, refusal: Refusal) -> Taken {
        open.stream.refuse(refusal);
        self.break_off(open)
    }

    /// Ends it for its reader, before its end.
    pub(super) fn break_off(&self, open: &OpenStream) -> Taken {
        self.inflow.break_off();
        open.awaits_content(false);
        Taken::Last
    }

    /// Takes content that nobody reads: to its end, or as much of it as the bounds allow.
    pub(super) async fn discard(&mut self, open: &OpenStream) {
        let discarded = std::future::poll_fn(|cx| self.poll_discard(open, cx));
        let _ = tokio::time::timeout(DISCARDING, discarded).await;
    }

    fn poll_discard(&mut self, open: &OpenStream, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(Ok(data)) = ready!(self.body.poll_data(cx)) {
            open.read(data.len());
            self.discarded += data.len() as u64;
            if self.discarded > DISCARDED {
                break;
            }
            // Fails where the stream has ended.
            let _ = self.body.flow_control().release_capacity(data.len());
        }
        Poll::Ready(())
    }
}
