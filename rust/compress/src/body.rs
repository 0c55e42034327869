//! A body that is compressed while it is sent.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;

use super::{
    Compressing, STEP,
    coder::{Coder, CompressionError, Until},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Fed = Result<(Option<Coder>, Bytes), CompressionError>;

/// Content of so many bytes goes in one step, if that suits its coder.
const WHOLE: usize = 128 << 10;

/// Compresses the bytes of another body. Bytes are flushed when that body has no more of them for now, so that events
/// and parts of a page arrive when they are sent.
pub struct CompressedBody<B> {
    source: B,
    compressing: Compressing,
    /// The step that a thread does.
    step: Option<Pin<Box<dyn Future<Output = Fed>>>>,
    /// Bytes went in that need not have come out.
    behind: bool,
    /// The source has ended.
    ended: bool,
    /// The source broke off behind the bytes of the step.
    broken: Option<BoxError>,
}

impl<B> std::fmt::Debug for CompressedBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompressedBody")
            .field("compressing", &self.compressing)
            .finish_non_exhaustive()
    }
}

impl<B> CompressedBody<B> {
    /// `source`: the body as it is.
    pub fn new(source: B, compressing: Compressing) -> Self {
        Self {
            source,
            compressing,
            step: None,
            behind: false,
            ended: false,
            broken: None,
        }
    }

    /// Has a thread code the pieces.
    fn begin(&mut self, pieces: SmallVec<[Bytes; 4]>, until: Until) {
        let Some(coder) = self.compressing.coder.take() else {
            return;
        };
        let all = Arc::clone(&self.compressing.all);
        let length: usize = pieces.iter().map(Bytes::len).sum();
        all.bytes_in.fetch_add(length as u64, Ordering::Relaxed);
        self.behind = until == Until::More;
        self.ended = until == Until::End;
        self.step = Some(Box::pin(async move {
            let job = move || coder.feed(&pieces, until);
            let done = all.threads.proceed(all.timeout(), job).await;
            done.map_err(|_| CompressionError::TimedOut).flatten()
        }));
    }

    fn failed(&mut self, error: CompressionError) -> BoxError {
        let failed = &self.compressing.all.failed;
        failed.fetch_add(1, Ordering::Relaxed);
        self.ended = true;
        error.into()
    }
}

impl<B: Body> CompressedBody<B> {
    /// The bytes of the next step, if they are there.
    fn step_bytes(&self) -> usize {
        let prefers_whole = |coder: &Coder| coder.prefers_whole();
        let is_short = |length| length <= WHOLE as u64;
        if self.compressing.coder.as_ref().is_some_and(prefers_whole)
            && self.source.size_hint().upper().is_some_and(is_short)
        {
            // The end is behind the last byte.
            return WHOLE + 1;
        }
        STEP
    }
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Body for CompressedBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some(step) = &mut this.step {
                let Poll::Ready(fed) = step.as_mut().poll(cx) else {
                    return Poll::Pending;
                };
                this.step = None;
                match fed {
                    Ok((coder, out)) => {
                        this.compressing.coder = coder;
                        if !out.is_empty() {
                            let sent = &this.compressing.all.bytes_out;
                            sent.fetch_add(out.len() as u64, Ordering::Relaxed);
                            return Poll::Ready(Some(Ok(Frame::data(out))));
                        }
                    }
                    Err(error) => return Poll::Ready(Some(Err(this.failed(error)))),
                }
            }
            if let Some(error) = this.broken.take() {
                this.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let most = this.step_bytes();
            let (mut pieces, mut length) = (SmallVec::<[Bytes; 4]>::new(), 0);
            let until = loop {
                if length >= most {
                    break Until::More;
                }
                match Pin::new(&mut this.source).poll_frame(cx) {
                    Poll::Pending => break Until::Flushed,
                    Poll::Ready(None) => break Until::End,
                    Poll::Ready(Some(Err(error))) => {
                        this.broken = Some(error);
                        break Until::Flushed;
                    }
                    // Trailers are about the bytes before they were coded.
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(data) = frame.into_data() {
                            length += data.len();
                            pieces.push(data);
                        }
                    }
                }
            };
            if pieces.is_empty() && until == Until::Flushed && !this.behind {
                if this.broken.is_some() {
                    continue;
                }
                return Poll::Pending;
            }
            this.begin(pieces, until);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.step.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
