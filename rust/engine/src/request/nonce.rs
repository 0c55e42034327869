//! Nonces in pages (phase 15): the content is searched for the placeholder on its way to the client.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use edgerouter_core::{
    guard::nonce::{self, NoNonce, NoncePlaceholder, PageNonce},
    http::etag,
};
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use memchr::memmem;

use super::exchange::Exchange;
use crate::{
    body::{EdgeBody, EdgeResponse},
    upstream::BoxError,
};

/// Puts a nonce into a page and notes it for the policy in its head.
pub(super) fn replace(
    exchange: &mut Exchange,
    placeholder: &NoncePlaceholder,
    response: &mut EdgeResponse,
) {
    if response.status() == StatusCode::NOT_MODIFIED {
        // The tag of its 200: a cache would refresh nothing by a strong one (RFC 9111 §4.3.4).
        etag::weaken(response.headers_mut());
        exchange.request.page_nonce = PageNonce::Kept;
        return;
    }
    match nonce::apply(response.headers_mut()) {
        Ok(()) => {}
        Err(NoNonce::NoPage) => return,
        Err(NoNonce::Coded) => {
            tracing::warn!(
                "a page has no nonce: its origin coded it, though it was requested as it is"
            );
            return;
        }
    }
    let shared = &exchange.worker.shared;
    let made = placeholder.nonce(|| shared.unguessable());
    if exchange.head.method != Method::HEAD {
        let page = std::mem::replace(response.body_mut(), EdgeBody::empty());
        let body = NonceBody {
            page,
            placeholder: placeholder.as_bytes().into(),
            nonce: made.as_bytes().into(),
            held: Vec::new(),
            behind: None,
        };
        *response.body_mut() = EdgeBody::streamed(body);
    }
    exchange.request.page_nonce = PageNonce::Fresh(made);
}

/// A page whose placeholders are replaced. Bytes that may begin one are held until the next ones come.
struct NonceBody<B> {
    page: B,
    placeholder: Box<[u8]>,
    nonce: Box<[u8]>,
    /// Fewer bytes than the placeholder has.
    held: Vec<u8>,
    /// A frame behind the held bytes.
    behind: Option<Frame<Bytes>>,
}

impl<B> NonceBody<B> {
    fn replaced(&mut self, data: Bytes) -> Bytes {
        let found = memmem::find(&data, &self.placeholder).is_some();
        if self.held.is_empty() && !found && self.begun(&data) == 0 {
            return data;
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(&data);
        let finder = memmem::Finder::new(&self.placeholder);
        let places: Vec<usize> = finder.find_iter(&bytes).collect();
        for at in places {
            if let Some(place) = bytes.get_mut(at..at + self.nonce.len()) {
                place.copy_from_slice(&self.nonce);
            }
        }
        self.held = bytes.split_off(bytes.len() - self.begun(&bytes));
        Bytes::from(bytes)
    }

    /// Bytes at the end that may begin a placeholder.
    fn begun(&self, bytes: &[u8]) -> usize {
        let most = bytes.len().min(self.placeholder.len().saturating_sub(1));
        (1..=most)
            .rev()
            .find(|&length| {
                let end = bytes.get(bytes.len() - length..);
                end == self.placeholder.get(..length)
            })
            .unwrap_or(0)
    }
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Body for NonceBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some(frame) = this.behind.take() {
                return Poll::Ready(Some(Ok(frame)));
            }
            let frame = match Pin::new(&mut this.page).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(None) if !this.held.is_empty() => {
                    let rest = Bytes::from(std::mem::take(&mut this.held));
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
                other => return other,
            };
            match frame.into_data() {
                Ok(data) => {
                    let data = this.replaced(data);
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Err(trailers) => {
                    if this.held.is_empty() {
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                    this.behind = Some(trailers);
                    let rest = Bytes::from(std::mem::take(&mut this.held));
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.behind.is_none() && self.page.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // A nonce is as long as the placeholder.
        let mut hint = self.page.size_hint();
        let held = self.held.len() as u64;
        match hint.exact() {
            Some(rest) => hint.set_exact(rest + held),
            None => hint = SizeHint::default(),
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACEHOLDER: &[u8] = b"Placeholder-of-a-page-zz";
    const NONCE: &[u8] = b"NONCENONCENONCENONCENONC";

    #[test]
    fn each_placeholder_is_replaced_wherever_the_content_is_cut() {
        let parts = |text: &[u8]| {
            [
                b"<p>Placeholder-of-a-page-",
                text,
                b"Placeholder",
                text,
                text,
                b"</p>Placeholder-of-a-page-z",
            ]
            .concat()
        };
        let page = parts(PLACEHOLDER);
        for size in 1..=page.len() {
            let mut body = NonceBody {
                page: EdgeBody::empty(),
                placeholder: PLACEHOLDER.into(),
                nonce: NONCE.into(),
                held: Vec::new(),
                behind: None,
            };
            let mut out = Vec::new();
            for piece in page.chunks(size) {
                out.extend_from_slice(&body.replaced(Bytes::copy_from_slice(piece)));
            }
            out.extend_from_slice(&body.held);
            assert_eq!(out, parts(NONCE), "in pieces of {size}");
        }
    }
}
