//! The frames of a connection as they are counted: who sends too many, what waits to be read or to be written.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use edgerouter_core::{
    http::h2::{
        flood::{Flood, FrameCounter, FrameLimits},
        frames::{END_HEADERS, FrameHead, FrameReader, kind},
    },
    plan::limits::HttpLimits,
};

use super::turns::{Turn, Turns};
use crate::connection::{Connection, Stream, is_over};

/// Streams that end in a turn of the worker when their connection has ended.
const A_TURN: usize = 32;

/// One connection, by its frames.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) connection: Rc<Connection>,
    received: RefCell<FrameReader>,
    sent: RefCell<FrameReader>,
    counter: RefCell<FrameCounter>,
    flood: Cell<Option<Flood>>,
    /// Frames that have come in this turn.
    frames: Cell<u32>,
    /// Bytes of field sections that have begun to come in this turn.
    sections: Cell<u32>,
    /// Bytes of a field section that has not ended.
    section: Cell<u64>,
    /// Streams whose last frame has not left.
    open: RefCell<HashMap<u32, Rc<OpenStream>>>,
    /// The connection has ended: its streams end some at a time.
    is_over: Cell<bool>,
    /// Content of streams that the library has not given out yet, with the last one that it has.
    ahead: RefCell<HashMap<u32, u64>>,
    last: Cell<u32>,
    /// Streams with malformed trailers, of those that the library has not given out yet.
    malformed: RefCell<Vec<u32>>,
    /// A response has left, or a good part of one.
    has_served: Cell<bool>,
    pub(super) turns: Turns,
    /// Content has left since the last check.
    has_moved: Cell<bool>,
    /// Ticks (ms) since which the library has content and none has left.
    stuck_since: Cell<Option<u64>>,
}

/// A stream whose last frame has not left.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) id: u32,
    pub(super) stream: Rc<Stream>,
    pub(super) turn: Turn,
    /// Content that nobody has taken from the library yet.
    unread: Cell<u64>,
    /// Ticks (ms) since which nothing has come of the content that is waited for, or nothing could be sent.
    reads_since: Cell<Option<u64>>,
    writes_since: Cell<Option<u64>>,
    fault: Cell<Option<StreamFault>>,
    has_left: Cell<bool>,
    is_malformed: Cell<bool>,
}

/// A client that keeps a request from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamFault {
    /// The rest of the content does not come.
    SendsNothing,
    /// It leaves no room for the response.
    TakesNothing,
}

impl Meter {
    pub(super) fn new(connection: Rc<Connection>, limits: FrameLimits) -> Self {
        Self {
            connection,
            received: RefCell::new(FrameReader::of_client()),
            sent: RefCell::new(FrameReader::of_server()),
            counter: RefCell::new(FrameCounter::new(limits)),
            flood: Cell::new(None),
            frames: Cell::new(0),
            sections: Cell::new(0),
            section: Cell::new(0),
            open: RefCell::default(),
            is_over: Cell::new(false),
            ahead: RefCell::default(),
            last: Cell::new(0),
            malformed: RefCell::default(),
            has_served: Cell::new(false),
            turns: Turns::default(),
            has_moved: Cell::new(false),
            stuck_since: Cell::new(None),
        }
    }

    /// Frames of which the client has sent too many.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// The code of an error of the client that the library knows as a protocol error.
    pub(super) fn fault(&self) -> Option<u8> {
        self.received.borrow().fault()
    }

    /// The connection has its turn.
    pub(super) fn begin_turn(&self) {
        self.frames.set(0);
        self.sections.set(0);
    }

    /// True if its client has taken something of a response, and left room for all of them at the last check.
    pub(super) fn is_served(&self) -> bool {
        self.has_served.get() && !self.connection.multiplex().awaits_room()
    }

    /// Frames that have come in this turn.
    pub(super) fn frames(&self) -> u32 {
        self.frames.get()
    }

    /// Bytes of field sections in the frames of this turn.
    pub(super) fn sections(&self) -> u32 {
        self.sections.get()
    }

    fn note(&self, counted: Result<(), Flood>) {
        if let Err(flood) = counted
            && self.flood.get().is_none()
        {
            self.flood.set(Some(flood));
            self.connection.wake();
        }
    }

    /// Reads bytes of the client.
    pub(super) fn receive(&self, bytes: &[u8]) {
        let now = self.connection.now();
        let mut reader = self.received.borrow_mut();
        let mut is_another = false;
        reader.read(bytes, |head| {
            // More of the same section is no progress.
            is_another |= head.kind != kind::CONTINUATION;
            self.frames.set(self.frames.get().saturating_add(1));
            self.note(self.counter.borrow_mut().received(&head, now));
            self.received(&head);
        });
        for stream in reader.take_malformed() {
            self.note_malformed(stream);
        }
        let is_incomplete = reader.is_incomplete();
        let multiplexed = self.connection.multiplex();
        if is_another {
            multiplexed.note_incomplete(false, now);
        }
        multiplexed.note_incomplete(is_incomplete, now);
    }

    fn received(&self, head: &FrameHead) {
        if matches!(head.kind, kind::HEADERS | kind::CONTINUATION) {
            let sections = self.sections.get().saturating_add(head.length);
            self.sections.set(sections);
        }
        match head.kind {
            kind::HEADERS | kind::CONTINUATION if head.flags & END_HEADERS != 0 => {
                self.section.set(0);
            }
            kind::HEADERS => self.section.set(head.length.into()),
            kind::CONTINUATION => {
                let section = self.section.get() + u64::from(head.length);
                self.section.set(section);
            }
            kind::DATA => {
                if let Some(open) = self.open.borrow().get(&head.stream) {
                    open.unread.set(open.unread.get() + u64::from(head.length));
                } else if head.stream > self.last.get() {
                    let mut ahead = self.ahead.borrow_mut();
                    *ahead.entry(head.stream).or_default() += u64::from(head.length);
                }
            }
            kind::RST_STREAM => self.leave(head.stream),
            _ => {}
        }
    }

    fn note_malformed(&self, stream: u32) {
        if let Some(open) = self.open.borrow().get(&stream) {
            open.is_malformed.set(true);
            open.stream.wake();
        } else if stream > self.last.get() {
            self.malformed.borrow_mut().push(stream);
        }
    }

    /// Reads bytes that the transport has taken.
    pub(super) fn send(&self, bytes: &[u8]) {
        let now = self.connection.now();
        self.sent.borrow_mut().read(bytes, |head| {
            self.note(self.counter.borrow_mut().sent(&head, now));
            if head.kind == kind::DATA {
                self.has_moved.set(true);
                if !FrameCounter::is_small(head.length as usize) {
                    self.has_served.set(true);
                }
                let open = self.open.borrow().get(&head.stream).map(Rc::clone);
                if let Some(open) = open {
                    let length = head.length as usize;
                    open.stream.queue.written(length);
                    self.turns.taken(&open, length);
                }
            }
            if head.ends_stream() {
                self.has_served.set(true);
            }
            if head.ends_stream() || head.kind == kind::RST_STREAM {
                self.leave(head.stream);
            }
        });
    }

    /// Counts content that is sent in small frames because there is room for no more.
    pub(super) fn send_little(&self) {
        let now = self.connection.now();
        self.note(self.counter.borrow_mut().sent_little(now));
    }

    /// A stream begins.
    pub(super) fn open(&self, id: u32, stream: Rc<Stream>) -> Rc<OpenStream> {
        let open = Rc::new(OpenStream {
            id,
            stream,
            turn: Turn::default(),
            unread: Cell::new(self.ahead.borrow_mut().remove(&id).unwrap_or(0)),
            reads_since: Cell::new(None),
            writes_since: Cell::new(None),
            fault: Cell::new(None),
            has_left: Cell::new(false),
            is_malformed: Cell::new(self.malformed.borrow().contains(&id)),
        });
        self.last.set(id.max(self.last.get()));
        self.open.borrow_mut().insert(id, Rc::clone(&open));
        self.connection.multiplex().note_open(true);
        open
    }

    /// The last frame of a stream has left, or it was reset.
    pub(super) fn leave(&self, id: u32) {
        let left = self.open.borrow_mut().remove(&id);
        if let Some(open) = left {
            self.connection.multiplex().note_open(!self.has_left());
            open.has_left.set(true);
            self.turns.left(&open);
            open.stream.wake();
        }
    }

    /// The library has no more streams to give out for now.
    pub(super) fn settle(&self) {
        // The streams that are left were reset or refused.
        self.ahead.borrow_mut().clear();
        self.malformed.borrow_mut().clear();
    }

    /// No frame comes or leaves any more. What is under way ends by `close_some`.
    pub(super) fn close(&self) {
        self.is_over.set(true);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Ends as many streams as one turn of the worker may: each may have a request to an origin, and a task. True if
    /// there are more.
    pub(super) fn close_some(&self) -> bool {
        let open = self.open.borrow();
        let some: Vec<u32> = open.keys().copied().take(A_TURN).collect();
        drop(open);
        for id in some {
            self.leave(id);
        }
        !self.has_left()
    }

    /// True if more streams are open than end in one turn.
    pub(super) fn has_many(&self) -> bool {
        self.open.borrow().len() > A_TURN
    }

    /// True if every response has left.
    pub(super) fn has_left(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// Bytes of the client that wait to be read, each stream's within its `window`.
    pub(super) fn unread(&self, window: u64) -> u64 {
        let open = self.open.borrow();
        let content = open.values().map(|open| open.unread.get().min(window));
        content.sum::<u64>() + self.section.get()
    }

    /// True if the library has had content for longer than `limit` and none has left, to be called once a second: a
    /// client can take room back (RFC 9113 §6.9.2).
    pub(super) fn is_stuck(&self, limit: Duration) -> bool {
        let now = self.connection.now();
        let is_still = self.turns.are_ahead() && !self.has_moved.take();
        let since = is_still.then(|| self.stuck_since.get().unwrap_or(now));
        self.stuck_since.set(since);
        since.is_some_and(|since| is_over(since, now, limit))
    }

    /// Looks for streams that their client keeps from their end, once a second. The number of those whose responses it
    /// does not take.
    pub(super) fn check(&self, limits: &HttpLimits) -> usize {
        let (mut reads, mut writes, mut slow) = (0, 0, 0);
        let now = self.connection.now();
        let over = |since: &Cell<Option<u64>>, count: &mut usize| {
            *count += usize::from(since.get().is_some());
            since
                .get()
                .is_some_and(|since| is_over(since, now, limits.body_timeout))
        };
        for open in self.open.borrow().values() {
            let fault = if over(&open.writes_since, &mut writes) {
                slow += 1;
                StreamFault::TakesNothing
            } else if over(&open.reads_since, &mut reads) {
                StreamFault::SendsNothing
            } else {
                continue;
            };
            open.fault.set(Some(fault));
            open.stream.wake();
        }
        self.connection.multiplex().note_waiting(reads, writes);
        slow
    }
}

impl OpenStream {
    /// Content was taken from the library.
    pub(super) fn read(&self, bytes: usize) {
        let left = self.unread.get().saturating_sub(bytes as u64);
        self.unread.set(left);
        self.stream.connection.sent(bytes);
        self.reads_since.set(None);
    }

    /// Notes that content is waited for, or no longer.
    pub(super) fn awaits_content(&self, awaits: bool) {
        let now = self.stream.connection.now();
        self.reads_since
            .set(awaits.then(|| self.reads_since.get().unwrap_or(now)));
    }

    /// Notes that room for the response is waited for, or no longer.
    pub(super) fn awaits_room(&self, awaits: bool) {
        let now = self.stream.connection.now();
        self.writes_since
            .set(awaits.then(|| self.writes_since.get().unwrap_or(now)));
    }

    /// The client's fault, once.
    pub(super) fn take_fault(&self) -> Option<StreamFault> {
        let fault = self.fault.take();
        if fault.is_some() {
            self.reads_since.set(None);
            self.writes_since.set(None);
        }
        fault
    }

    /// True if its trailers are malformed in a way that the library does not see.
    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed.get()
    }

    /// True if its last frame has left, or it was reset.
    pub(super) fn has_left(&self) -> bool {
        self.has_left.get()
    }
}
