//! Part of the body of an origin's response.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::upstream::{BoxError, UpstreamBody};

/// A body that ends early.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Interrupted {
    #[error("the origin did not send the rest of the response")]
    Origin,
    #[error("the origin has another representation now: the rest of this one is not available")]
    Changed,
}

/// A range of the bytes of an origin's response.
pub(crate) struct Excerpt {
    body: Box<UpstreamBody>,
    skip: u64,
    left: u64,
}

impl Excerpt {
    pub(crate) fn new(body: Box<UpstreamBody>, skip: u64, length: u64) -> Self {
        Self {
            body,
            skip,
            left: length,
        }
    }
}

impl Body for Excerpt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while this.left > 0 {
            let mut data = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(Some(Err(Interrupted::Origin.into()))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            let length = data.len() as u64;
            let passed = this.skip.min(length);
            this.skip -= passed;
            data.advance(usize::try_from(passed).unwrap_or(usize::MAX));
            data.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
            if !data.is_empty() {
                this.left -= data.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
