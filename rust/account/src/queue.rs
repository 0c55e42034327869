//! Holders that wait for memory, in the order in which they came. Memory that is returned wakes those that it is enough
//! for, and no others: if it woke all of them, each return would cost as much as there are waiting.

use std::{collections::BTreeMap, task::Waker};

use edgerouter_core::bounds::memory::{KINDS, Purpose};

/// Waiting holders of each kind that are looked at for one return: one that wants much does not hold up all behind it.
pub(crate) const LOOK: usize = 16;

/// The holders that wait, by kind and by the number of their place.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    kinds: [BTreeMap<u64, Waiting>; KINDS],
    last: u64,
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    waker: Waker,
}

impl Queue {
    /// The number of a new place, behind all others.
    pub(crate) fn place(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Waits at a place until there is room for `bytes`.
    pub(crate) fn wait(&mut self, kind: Purpose, place: u64, bytes: u64, waker: &Waker) {
        if let Some(queue) = self.kinds.get_mut(kind as usize) {
            let waiting = queue.entry(place).or_insert_with(|| Waiting {
                bytes,
                waker: waker.clone(),
            });
            waiting.waker.clone_from(waker);
        }
    }

    /// Gives a place up.
    pub(crate) fn leave(&mut self, kind: Purpose, place: u64) {
        if let Some(queue) = self.kinds.get_mut(kind as usize) {
            queue.remove(&place);
        }
    }

    /// Wakes those of each kind for which its room is enough, the first ones first, and at most so many of each.
    pub(crate) fn wake(&mut self, most: usize, room: impl Fn(Purpose) -> u64) {
        // Kinds share most of the room.
        let mut promised = 0_u64;
        for kind in Purpose::ALL {
            let Some(queue) = self.kinds.get_mut(kind as usize) else {
                continue;
            };
            if queue.is_empty() {
                continue;
            }
            let room = room(kind);
            let mut fit = [None; LOOK];
            for (found, (place, waiting)) in fit.iter_mut().zip(queue.iter()) {
                let wanted = promised.saturating_add(waiting.bytes);
                if wanted <= room {
                    promised = wanted;
                    *found = Some(*place);
                }
            }
            for place in fit.into_iter().flatten().take(most) {
                if let Some(waiting) = queue.remove(&place) {
                    waiting.waker.wake();
                }
            }
        }
    }
}
