//! The beginning of a response whose content an iterator gives: the head waits for the first piece, so that an iterator
//! that fails before it is answered as a function that fails is.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::CallOutput;

/// The things that an iterator does before its first piece, while the head of its response waits.
#[derive(Debug, Default)]
pub struct Beginning {
    text: AtomicBool,
    instead: Mutex<Option<Box<CallOutput>>>,
}

impl Beginning {
    /// The first piece is text.
    pub fn begins_with_text(&self) {
        self.text.store(true, Ordering::Relaxed);
    }

    /// True if the first piece is text.
    pub fn is_text(&self) -> bool {
        self.text.load(Ordering::Relaxed)
    }

    /// There will be no piece: this is the outcome of the call.
    pub fn refuse(&self, outcome: CallOutput) {
        *self.instead.lock() = Some(Box::new(outcome));
    }

    /// The outcome of a call whose iterator gave nothing, once.
    pub fn refused(&self) -> Option<CallOutput> {
        self.instead.lock().take().map(|outcome| *outcome)
    }
}
