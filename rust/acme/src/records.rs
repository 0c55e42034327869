//! Calls of the owner's functions: one sets and removes records of DNS (RFC 8555 §8.4), another allows names. They run
//! elsewhere, on a thread that takes its calls here; orders and handshakes wait for the answer within their own time.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Calls that may wait for the thread. An order makes two.
const MOST_CALLS: usize = 1_000;

/// The purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// A record has to be there.
    Set,
    /// It may be removed.
    Remove,
    /// May a certificate be obtained for a name?
    Allow,
}

impl CallKind {
    /// Its word on the Python side.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Remove => "remove",
            Self::Allow => "allow",
        }
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordCall {
    /// The number to answer with.
    pub id: u64,
    /// The callable, as the plan names it.
    pub callable: Box<str>,
    /// The name of the record, such as `_acme-challenge.example.com`, or the name that is to be allowed.
    pub record: String,
    /// The text of the record; empty for others.
    pub value: String,
    /// Its purpose.
    pub kind: CallKind,
}

/// Calls and their answers.
#[derive(Debug, Default)]
pub struct RecordCalls {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    queue: VecDeque<RecordCall>,
    waiting: HashMap<u64, oneshot::Sender<Result<bool, String>>>,
}

impl RecordCalls {
    /// The next call; waits for one, at most this long.
    pub fn take(&self, patience: Duration) -> Option<RecordCall> {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            self.arrived.wait_for(&mut state, patience);
        }
        state.queue.pop_front()
    }

    /// The end of a call: the reason if it failed. One that nobody waits for any more is dropped.
    pub fn answer(&self, id: u64, result: Result<bool, String>) {
        let waiting = self.state.lock().waiting.remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(result);
        }
    }

    /// Sets a record and waits until the callable has returned.
    pub(crate) async fn set(
        &self,
        callable: &str,
        record: &str,
        value: &str,
    ) -> Result<(), String> {
        self.call(callable, record, value, CallKind::Set)
            .await
            .map(drop)
    }

    /// True if the callable allows a name.
    pub(crate) async fn allows(&self, callable: &str, name: &str) -> Result<bool, String> {
        self.call(callable, name, "", CallKind::Allow).await
    }

    async fn call(
        &self,
        callable: &str,
        record: &str,
        value: &str,
        kind: CallKind,
    ) -> Result<bool, String> {
        let answer = {
            let mut state = self.state.lock();
            let Some(id) = state.push(callable, record, value, kind) else {
                return Err("too many calls wait for the callable".to_owned());
            };
            let (sent, answer) = oneshot::channel();
            // Calls whose orders were given up wait for nothing.
            state.waiting.retain(|_, waiting| !waiting.is_closed());
            state.waiting.insert(id, sent);
            answer
        };
        self.arrived.notify_one();
        let ended = answer.await;
        ended.unwrap_or_else(|_| Err("the callable was not called".to_owned()))
    }

    /// Has a record removed, some time.
    pub(crate) fn clear(&self, callable: &str, record: &str, value: &str) {
        if self
            .state
            .lock()
            .push(callable, record, value, CallKind::Remove)
            .is_some()
        {
            self.arrived.notify_one();
        }
    }
}

impl State {
    fn push(&mut self, callable: &str, record: &str, value: &str, kind: CallKind) -> Option<u64> {
        if self.queue.len() >= MOST_CALLS {
            return None;
        }
        self.last += 1;
        self.queue.push_back(RecordCall {
            id: self.last,
            callable: callable.into(),
            record: record.to_owned(),
            value: value.to_owned(),
            kind,
        });
        Some(self.last)
    }
}
