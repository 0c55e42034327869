//! The loop in which a worker accepts connections, from whatever kind of socket.

use std::{future::poll_fn, rc::Rc, task::Poll};

use edgerouter_telemetry::life::Life;
use tokio::sync::watch;

use crate::{
    connection::ConnectionOwner,
    http::Taken,
    tight::{self, Listening, Spare},
};

/// Connections that are accepted before the others have their turn.
const AT_ONCE: usize = 8;

/// Accepts until the engine drains, and then those connections that the kernel has accepted by then. `take` serves one;
/// its second argument: the engine drains.
pub(crate) async fn accept<O: ConnectionOwner, L: Listening>(
    owner: Rc<O>,
    listener: L,
    mut life: watch::Receiver<Life>,
    take: impl Fn(&Rc<O>, L::Accepted, bool) -> Taken,
) {
    let mut spare = Spare::new();
    let mut accepted_now = 0;
    loop {
        if accepted_now == AT_ONCE {
            accepted_now = 0;
            tokio::task::yield_now().await;
        }
        tokio::select! {
            biased;
            accepted = poll_fn(|cx| listener.poll_accepted(cx)) => match accepted {
                Ok(accepted) => {
                    accepted_now += 1;
                    if take(&owner, accepted, false) == Taken::InPlaceOfAnother {
                        // The other one closes before the next one is accepted.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if tight::exhausted(&error) => spare.refuse_one(&*owner, &listener, &error).await,
                // It was closed before it was accepted; the next one may be well.
                Err(error) => tracing::debug!(%error, "a connection could not be accepted"),
            },
            changed = life.changed() => {
                if changed.is_err() || *life.borrow_and_update() != Life::Serving {
                    break;
                }
            }
        }
    }
    // Handshakes that the kernel completed before the socket closes would be reset otherwise.
    loop {
        let accepted = poll_fn(|cx| Poll::Ready(listener.poll_accepted(cx))).await;
        let Poll::Ready(Ok(accepted)) = accepted else {
            return;
        };
        take(&owner, accepted, true);
    }
}
