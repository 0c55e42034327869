//! Content on its way to a callable, piece by piece: of a request, and of a response that it transforms.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use http_body::Body;
use tokio::time::timeout;

use crate::{
    account::Hold,
    functions::pipe::{PieceWriter, ROOM, Unwanted},
};

/// Puts content into a pipe, as it comes and is wanted. It breaks off where its source does, after `patience` without a
/// piece, and past `left` bytes. `hold`: the memory for the pieces that wait.
pub(super) async fn feed<B>(
    mut body: B,
    writer: PieceWriter,
    mut left: u64,
    patience: Option<Duration>,
    hold: Option<Hold>,
) where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        if room(&writer).await.is_err() {
            return;
        }
        let next = poll_fn(|cx| match writer.poll_unwanted(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => Pin::new(&mut body).poll_frame(cx).map(Some),
        });
        let next = match patience {
            Some(patience) => timeout(patience, next).await.unwrap_or_default(),
            None => next.await,
        };
        match next {
            Some(None) => {
                drop(hold);
                return writer.finish();
            }
            Some(Some(Ok(frame))) => {
                let Ok(mut content) = frame.into_data() else {
                    continue;
                };
                left = match left.checked_sub(content.len() as u64) {
                    Some(left) => left,
                    None => return,
                };
                // A stored body may come as one piece, which nobody has to work on as a whole.
                while content.len() > ROOM {
                    let piece = content.split_to(ROOM);
                    if writer.put(piece).is_err() || room(&writer).await.is_err() {
                        return;
                    }
                }
                if writer.put(content).is_err() {
                    return;
                }
            }
            None | Some(Some(Err(_))) => return,
        }
    }
}

/// Waits for room for a piece.
async fn room(writer: &PieceWriter) -> Result<(), Unwanted> {
    poll_fn(|cx| writer.poll_room(cx)).await
}
