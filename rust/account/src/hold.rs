//! One holder's part of the account: it draws memory, waits for it, and returns it.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use edgerouter_core::bounds::memory::Purpose;

use super::{Account, Spent};

/// After waiting this long, and again each time, a holder has another one cut.
const AGAIN: Duration = Duration::from_millis(250);

/// One holder's part of the account. It is returned when this is dropped.
#[derive(Debug)]
pub struct Hold {
    pub(super) account: Arc<Account>,
    pub(super) id: usize,
    pub(super) kind: Purpose,
    pub(super) moved: Arc<AtomicU64>,
}

impl Hold {
    /// Draws `bytes` more, if there is room for them, or if others can be cut at once.
    pub fn draw(&self, bytes: u64) -> Result<(), Spent> {
        loop {
            let victim = {
                let mut state = self.account.state.lock();
                if state.budget.room(&state.used, self.kind) >= bytes {
                    state.take(self.id, bytes);
                    return Ok(());
                }
                state
                    .victim(self.id, bytes, self.account.now())
                    .ok_or(Spent)?
            };
            // The memory of the cut holder may be freed a moment later, by its own thread: then this one waits, or cuts
            // another.
            self.account.cut.fetch_add(1, Ordering::Relaxed);
            if let Some(victim) = victim.upgrade() {
                victim.cut();
            }
        }
    }

    /// Draws without a check: for bytes that have arrived already and are bounded otherwise.
    pub fn take(&self, bytes: u64) {
        self.account.state.lock().take(self.id, bytes);
    }

    /// Like `draw`, without cutting any holder.
    pub fn draw_free(&self, bytes: u64) -> Result<(), Spent> {
        let mut state = self.account.state.lock();
        state.draw_free(self.id, self.kind, bytes)
    }

    /// Draws, waiting for at most `patience` for others, or another task of this holder, to return memory. No holder is
    /// cut as long as they do. More than one holder may have is refused at once.
    pub async fn drawn(&self, bytes: u64, patience: Duration) -> Result<(), Spent> {
        if self.draw_free(bytes).is_ok() {
            return Ok(());
        }
        if bytes > self.account.most(self.kind) {
            self.account.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Spent);
        }
        let waited = async {
            let place = Place::new(self, bytes);
            loop {
                let room = poll_fn(|cx| place.poll(cx));
                if tokio::time::timeout(AGAIN, room).await.is_ok() || self.draw(bytes).is_ok() {
                    break;
                }
            }
        };
        let drawn = Box::pin(tokio::time::timeout(patience, waited)).await;
        drawn.map_err(|_| {
            self.account.refused.fetch_add(1, Ordering::Relaxed);
            Spent
        })
    }

    /// Returns `bytes` that this holder has drawn.
    pub fn give(&self, bytes: u64) {
        if bytes > 0 {
            self.account.state.lock().give(self.id, bytes);
        }
    }

    /// Returns all but `bytes`.
    pub fn keep(&self, bytes: u64) {
        let mut state = self.account.state.lock();
        if let Some(holder) = state.holders.get(self.id) {
            let over = holder.bytes.saturating_sub(bytes);
            state.give(self.id, over);
        }
    }

    /// Holds `bytes` from now on: returns the rest, or takes the difference, like `take`.
    pub fn settle(&self, bytes: u64) {
        let mut state = self.account.state.lock();
        let held = state.holders.get(self.id).map_or(0, |holder| holder.bytes);
        if held < bytes {
            state.take(self.id, bytes - held);
        } else {
            state.give(self.id, held - bytes);
        }
    }

    /// The bytes that this kind may draw now without cutting any holder.
    pub fn room(&self) -> u64 {
        let state = self.account.state.lock();
        state.budget.room(&state.used, self.kind)
    }

    /// Notes progress: some of the held bytes were passed on.
    pub fn moved(&self) {
        self.moved.store(self.account.now(), Ordering::Relaxed);
    }

    /// The size that a buffer may have now, of the `most` that it wants.
    pub fn allowance(&self, least: u64, most: u64) -> u64 {
        let state = self.account.state.lock();
        state.budget.allowance(&state.used, self.kind, least, most)
    }
}

/// A place among those that wait for memory. It stays the same until it is dropped.
pub(crate) struct Place<'h> {
    hold: &'h Hold,
    bytes: u64,
    number: u64,
}

impl<'h> Place<'h> {
    pub(crate) fn new(hold: &'h Hold, bytes: u64) -> Self {
        let number = hold.account.state.lock().waiting.place();
        Self {
            hold,
            bytes,
            number,
        }
    }

    /// Like `draw_free`, ready when there is room.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (hold, mut state) = (self.hold, self.hold.account.state.lock());
        if state.budget.room(&state.used, hold.kind) >= self.bytes {
            state.take(hold.id, self.bytes);
            return Poll::Ready(());
        }
        let waker = cx.waker();
        state
            .waiting
            .wait(hold.kind, self.number, self.bytes, waker);
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.hold.account.state.lock();
        state.waiting.leave(self.hold.kind, self.number);
        // The room that it was woken for and did not take, or did not need, is the next one's.
        state.wake_waiting(1);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.account.state.lock();
        let all = state.holders.get(self.id).map_or(0, |holder| holder.bytes);
        state.give(self.id, all);
        state.holders.try_remove(self.id);
    }
}
