//! Hands connections on to the worker with the fewest (docs/decisions/0055): one that has accepted more than its share
//! puts the socket into the queue of another, which serves it as if it had accepted it itself.

use std::{net::SocketAddr, rc::Rc, sync::atomic::Ordering};

use edgerouter_core::{bounds::spread, plan::ListenerId};
use edgerouter_telemetry::life::Life;
use tokio::{net::TcpStream, sync::watch};

use crate::{
    connection::{ConnectionOwner, Handed, Place},
    http,
};

/// A new connection that this worker serves; `None`: another one does.
pub(crate) fn kept(
    owner: &impl ConnectionOwner,
    stream: TcpStream,
    peer: SocketAddr,
    listener: Option<ListenerId>,
) -> Option<(TcpStream, Place)> {
    let connections = owner.connections();
    let (all, own) = (&connections.all, connections.index);
    let open = all
        .shares
        .iter()
        .map(|share| share.open.load(Ordering::Relaxed));
    let Some(to) = spread::handed_to(own, open) else {
        return Some((stream, Place::of(all, own)));
    };
    let free = all
        .shares
        .get(to)
        .and_then(|share| share.queue.try_reserve().ok());
    let Some(free) = free else {
        return Some((stream, Place::of(all, own)));
    };
    match stream.into_std() {
        Ok(stream) => free.send(Handed {
            stream,
            peer,
            listener,
            place: Place::of(all, to),
        }),
        Err(error) => tracing::debug!(%error, %peer, "a connection could not be handed on"),
    }
    None
}

/// Serves the connections that other workers hand on, until the engine drains, and then those that are in the queue.
pub async fn take_handed<O: ConnectionOwner>(owner: Rc<O>, mut life: watch::Receiver<Life>) {
    let connections = owner.connections();
    let share = connections.all.shares.get(connections.index);
    let Some(mut queue) = share.and_then(|share| share.waiting.lock().take()) else {
        return;
    };
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            handed = queue.recv() => {
                let Some(Handed { stream, peer, listener, place }) = handed else {
                    return;
                };
                match TcpStream::from_std(stream) {
                    Ok(stream) => drop(http::take(&owner, stream, peer, listener, place, draining)),
                    Err(error) => tracing::debug!(%error, %peer, "a connection could not be taken over"),
                }
            }
            changed = life.changed(), if !draining => {
                if changed.is_err() || *life.borrow_and_update() != Life::Serving {
                    draining = true;
                    queue.close();
                }
            }
        }
    }
}
