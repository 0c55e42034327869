//! Connections to the admin listener: few, and no idle one keeps another out.
//!
//! Health checks must get through while an operator's tools hold connections, or while a client opens many and sends
//! nothing. So a new one is always admitted: the one that has been idle for longest is closed. If all of them are being
//! answered (reports that wait for a disk), some more are admitted, so that `/healthz` does not wait.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use slab::Slab;
use tokio::sync::Notify;

/// Number of connections, and of additional ones that are admitted while all are being answered.
const MOST: usize = 64;
const RESERVE: usize = 64;

#[derive(Debug, Default)]
pub(super) struct AdminConnections {
    slots: RefCell<Slab<Rc<State>>>,
    /// Grows with each event; the smallest is the oldest.
    time: Cell<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests being answered.
    answering: Cell<usize>,
    silent_since: Cell<u64>,
    /// The last answer is a stream of events.
    streaming: Cell<bool>,
    evicted: Notify,
}

impl AdminConnections {
    /// A slot for a new connection; `None` when all, including the reserve, are being answered.
    pub(super) fn enter(this: &Rc<Self>) -> Option<ConnectionSlot> {
        let state = Rc::new(State::default());
        state.silent_since.set(this.next());
        let mut slots = this.slots.borrow_mut();
        if slots.len() >= MOST {
            let longest = slots
                .iter()
                .filter(|(_, state)| state.answering.get() == 0)
                .min_by_key(|(_, state)| state.silent_since.get())
                .map(|(number, _)| number);
            match longest {
                Some(number) => slots.remove(number).evicted.notify_one(),
                None if slots.len() >= MOST + RESERVE => return None,
                None => {}
            }
        }
        let number = slots.insert(Rc::clone(&state));
        drop(slots);
        Some(ConnectionSlot {
            connections: Rc::clone(this),
            state,
            number,
        })
    }

    fn next(&self) -> u64 {
        self.time.set(self.time.get() + 1);
        self.time.get()
    }
}

/// A connection's slot, released when it ends.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    connections: Rc<AdminConnections>,
    state: Rc<State>,
    number: usize,
}

impl ConnectionSlot {
    /// Resolves when the slot is given to another connection.
    pub(super) async fn evicted(&self) {
        self.state.evicted.notified().await;
    }

    /// Notes whether the answer is a stream of events.
    pub(super) fn streams(&self, streaming: bool) {
        self.state.streaming.set(streaming);
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.state.streaming.get()
    }

    /// Keeps the slot while a request is being answered.
    pub(super) fn answering(&self) -> AnsweringSlot<'_> {
        self.state.answering.set(self.state.answering.get() + 1);
        AnsweringSlot(self)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut slots = self.connections.slots.borrow_mut();
        // The number of an evicted slot may belong to another connection by now.
        if slots
            .get(self.number)
            .is_some_and(|state| Rc::ptr_eq(state, &self.state))
        {
            slots.remove(self.number);
        }
    }
}

#[derive(Debug)]
pub(super) struct AnsweringSlot<'a>(&'a ConnectionSlot);

impl Drop for AnsweringSlot<'_> {
    fn drop(&mut self) {
        let state = &self.0.state;
        state.answering.set(state.answering.get().saturating_sub(1));
        state.silent_since.set(self.0.connections.next());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::Future as _;

    use super::*;

    fn is_evicted(slot: &ConnectionSlot) -> bool {
        let future = std::pin::pin!(slot.evicted());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.poll(&mut context).is_ready()
    }

    #[test]
    fn the_longest_silent_one_gives_way_and_never_one_that_is_being_answered() {
        let all = Rc::new(AdminConnections::default());
        let slots: Vec<ConnectionSlot> = (0..MOST)
            .map(|_| AdminConnections::enter(&all).unwrap())
            .collect();
        let busy = slots[0].answering();
        let _newest = AdminConnections::enter(&all).unwrap();
        assert!(!is_evicted(&slots[0]) && is_evicted(&slots[1]) && !is_evicted(&slots[2]));
        drop(busy);
        let _newer = AdminConnections::enter(&all).unwrap();
        assert!(!is_evicted(&slots[0]) && is_evicted(&slots[2]));
    }

    #[test]
    fn while_all_are_being_answered_a_reserve_is_let_in() {
        let all = Rc::new(AdminConnections::default());
        let slots: Vec<ConnectionSlot> = (0..MOST + RESERVE)
            .map(|_| {
                let slot = AdminConnections::enter(&all).unwrap();
                std::mem::forget(slot.answering());
                slot
            })
            .collect();
        assert!(AdminConnections::enter(&all).is_none());
        drop(slots);
        assert!(AdminConnections::enter(&all).is_some());
    }
}
