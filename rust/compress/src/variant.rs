//! The coded variant of a stored response, made once by the threads, a step at a time.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use edgerouter_account::Hold;
use edgerouter_core::http::coding::ContentCoding;

use super::{
    Compressors, MADE, STEP,
    coder::{self, Coder, CompressionError, Effort, Until},
};

/// One variant that is being made, and its part of the account.
#[derive(Debug)]
pub struct CodingVariant {
    all: Arc<Compressors>,
    coding: ContentCoding,
    effort: Effort,
    hold: Hold,
}

impl CodingVariant {
    pub(crate) fn new(
        all: Arc<Compressors>,
        coding: ContentCoding,
        effort: Effort,
        hold: Hold,
    ) -> Self {
        Self {
            all,
            coding,
            effort,
            hold,
        }
    }

    /// False if there is no memory for it.
    pub(crate) fn draw(&self) -> bool {
        let bytes = coder::memory(self.coding, self.effort);
        self.hold.draw_free(bytes).is_ok()
    }

    /// Codes the pieces of the body.
    pub async fn code(
        self,
        body: impl IntoIterator<Item = Bytes>,
    ) -> Result<Bytes, CompressionError> {
        let coded = self.steps(body).await;
        let counter = match &coded {
            Ok(_) => MADE
                .iter()
                .zip(&self.all.variants)
                .find(|(made, _)| **made == self.coding)
                .map(|(_, counter)| counter),
            Err(_) => Some(&self.all.variants_refused),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        coded
    }

    async fn steps(
        &self,
        body: impl IntoIterator<Item = Bytes>,
    ) -> Result<Bytes, CompressionError> {
        let (coding, effort) = (self.coding, self.effort);
        let mut steps: Vec<Bytes> = body.into_iter().flat_map(cut).collect();
        // The last one ends the content: if it is the only one, the content is coded as a whole.
        let last = steps.pop().unwrap_or_default();
        // A coder of megabytes is allocated and filled with zeros by the thread, too.
        let begun = move |coder: Option<Coder>| {
            coder
                .or_else(|| Coder::new(coding, effort))
                .ok_or(CompressionError::Failed)
        };
        let mut coder = None;
        let mut parts = Vec::new();
        for step in steps {
            let fed = self.step(coder, move |coder| begun(coder)?.feed(&[step], Until::More));
            let (next, out) = fed.await?;
            coder = next;
            parts.push(out);
        }
        let joined = self.step(coder, move |coder| {
            let (_, end) = begun(coder)?.feed(&[last], Until::End)?;
            parts.push(end);
            Ok((None, Bytes::from(parts.concat().into_boxed_slice())))
        });
        Ok(joined.await?.1)
    }

    async fn step(
        &self,
        coder: Option<Coder>,
        step: impl FnOnce(Option<Coder>) -> Result<(Option<Coder>, Bytes), CompressionError>
        + Send
        + 'static,
    ) -> Result<(Option<Coder>, Bytes), CompressionError> {
        let all = &self.all;
        let done = all.threads.proceed(all.timeout(), move || step(coder));
        done.await.map_err(|_| CompressionError::TimedOut).flatten()
    }
}

/// The steps of a piece of the body.
fn cut(mut piece: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let step = piece.split_to(piece.len().min(STEP));
        (!step.is_empty()).then_some(step)
    })
}

impl Drop for CodingVariant {
    fn drop(&mut self) {
        self.all.variants_under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
