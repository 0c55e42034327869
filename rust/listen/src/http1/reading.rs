//! Bytes that come from a client: the next head, the content of the request under way, and whatever is behind it.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use edgerouter_account::Owner;
use edgerouter_core::{
    admit::Refusal,
    bounds::{clients::Client, memory::Purpose},
    http::h1::request::{ClientHead, ContentReader, RequestContent},
};
use edgerouter_telemetry::Refused;
use tokio::io::ReadBuf;

use super::{Ended, Http1};
use crate::{
    Transport,
    connection::{ClientBody, ConnectionOwner, ConnectionState, Inflow},
};

/// Bytes of an incomplete head that each connection may hold beside the account.
const FREE: u64 = 4 << 10;
/// Bytes taken in behind a request that is under way.
const MOST_BEHIND: usize = 16 << 10;
/// The next message of a client.
pub(super) enum NextMessage {
    Request(ClientHead),
    Refused(Refusal),
    End(Ended),
}

impl<T: Transport, O: ConnectionOwner> Http1<T, O> {
    /// Waits for a whole head.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<NextMessage>> {
        let owner = Rc::clone(&self.owner);
        if self.poll_rest(cx)?.is_pending() {
            return if self.stream.connection.is_drained() {
                Poll::Ready(Ok(NextMessage::End(Ended::All)))
            } else {
                Poll::Pending
            };
        }
        if !self.input.is_empty() {
            let read = self.reader.read(&self.input);
            if let Some(next) = self.next(read)? {
                return Poll::Ready(Ok(next));
            }
        }
        loop {
            let connection = &self.stream.connection;
            if connection.state() == ConnectionState::HeadTooSlow {
                return Poll::Ready(Ok(NextMessage::Refused(Refusal::HeadTooSlow)));
            }
            if self.ended {
                return Poll::Ready(Ok(NextMessage::End(Ended::All)));
            }
            let mut inbox = owner.connections().inbox.borrow_mut();
            let mut read = ReadBuf::new(&mut inbox);
            if Pin::new(&mut self.transport)
                .poll_read(cx, &mut read)?
                .is_pending()
            {
                let is_empty = self.input.is_empty();
                return if is_empty && connection.is_drained() {
                    Poll::Ready(Ok(NextMessage::End(Ended::All)))
                } else if is_empty && connection.take_rest() {
                    Poll::Ready(Ok(NextMessage::End(Ended::Silent)))
                } else {
                    Poll::Pending
                };
            }
            let fresh = read.filled();
            if fresh.is_empty() {
                self.ended = true;
                continue;
            }
            let read = if self.input.is_empty() {
                let read = self.reader.read(fresh);
                let length = match &read {
                    Ok(Some((length, _))) => *length,
                    _ => 0,
                };
                self.input
                    .extend_from_slice(fresh.get(length..).unwrap_or_default());
                read.map(|read| read.map(|(_, head)| (0, head)))
            } else {
                self.input.extend_from_slice(fresh);
                self.reader.read(&self.input)
            };
            drop(inbox);
            if let Some(next) = self.next(read)? {
                return Poll::Ready(Ok(next));
            }
        }
    }

    /// A message, unless its head is still incomplete.
    fn next(
        &mut self,
        read: Result<Option<(usize, ClientHead)>, Refusal>,
    ) -> io::Result<Option<NextMessage>> {
        Ok(match read {
            Ok(Some((length, head))) => {
                self.input.advance(length);
                self.hold = None;
                Some(NextMessage::Request(head))
            }
            Ok(None) => {
                self.stream.connection.head_begun();
                self.account_for_input()?;
                None
            }
            Err(refusal) => Some(NextMessage::Refused(refusal)),
        })
    }

    /// Draws the memory of a head that comes in slowly, beyond the bytes that each connection may hold.
    fn account_for_input(&mut self) -> io::Result<()> {
        let bytes = self.input.len() as u64;
        if bytes <= FREE {
            self.hold = None;
            return Ok(());
        }
        let (hold, drawn) = self.hold.get_or_insert_with(|| {
            let owner = Owner {
                client: Some(Client::of(self.stream.connection.peer.ip())),
                origin: None,
            };
            let account = &self.owner.connections().account;
            (account.open_uncut(Purpose::Heads, owner), 0)
        });
        if bytes > *drawn {
            hold.draw(bytes - *drawn).map_err(|spent| {
                self.owner.metrics().refused(Refused::NoMemory);
                io::Error::new(io::ErrorKind::OutOfMemory, spent)
            })?;
            *drawn = bytes;
        }
        Ok(())
    }

    /// Begins to read the content of a request. A message whose content is malformed in the bytes that have come
    /// already is refused as a whole.
    pub(super) fn open_content(&mut self, content: RequestContent) -> Result<ClientBody, Refusal> {
        let Some(reader) = ContentReader::of(content) else {
            return Ok(ClientBody::default());
        };
        let length = match content {
            RequestContent::Length(length) => Some(length),
            _ => None,
        };
        let inflow = Inflow::open(&self.stream.connection, length);
        self.content = Some((reader, Rc::clone(&inflow)));
        if !self.input.is_empty() {
            let fresh = self.input.split();
            if let Err(refusal) = self.take_content(fresh) {
                self.content = None;
                return Err(refusal);
            }
        }
        Ok(ClientBody::reading(inflow))
    }

    /// Gives the reader of the content what `fresh` has of it, and keeps the rest. Neither a piece nor input waits.
    pub(super) fn take_content(&mut self, mut fresh: BytesMut) -> Result<(), Refusal> {
        let Some((reader, inflow)) = &mut self.content else {
            return Ok(());
        };
        let piece = reader.read(&mut fresh, self.limits.body_bytes)?;
        let data = fresh.split_to(piece.consumed).freeze().slice(piece.data);
        if !data.is_empty() {
            inflow.put(data);
        }
        if piece.is_last {
            inflow.complete(reader.take_trailers());
            self.content = None;
        }
        self.input = fresh;
        Ok(())
    }

    /// Reads content while somebody waits for it. Ready when some has come, or its end.
    pub(super) fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((_, inflow)) = &self.content else {
            return Poll::Pending;
        };
        let connection = &self.stream.connection;
        if !inflow.is_awaited() {
            connection.read_blocked(false);
            return Poll::Pending;
        }
        if connection.state() == ConnectionState::BodyTooSlow {
            self.break_off(Some(Refusal::BodyTooSlow));
            return Poll::Ready(());
        }
        if self.is_out_of_turn() {
            return Poll::Pending;
        }
        let fresh = if self.input.is_empty() {
            let owner = Rc::clone(&self.owner);
            let mut inbox = owner.connections().inbox.borrow_mut();
            let mut read = ReadBuf::new(&mut inbox);
            match Pin::new(&mut self.transport).poll_read(cx, &mut read) {
                Poll::Pending => {
                    connection.read_blocked(true);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if !read.filled().is_empty() => BytesMut::from(read.filled()),
                Poll::Ready(_) => {
                    self.ended = true;
                    self.break_off(None);
                    return Poll::Ready(());
                }
            }
        } else {
            self.input.split()
        };
        connection.read_blocked(false);
        connection.sent(fresh.len());
        self.count_in_turn(fresh.len(), cx);
        if let Err(refusal) = self.take_content(fresh) {
            self.break_off(Some(refusal));
        }
        Poll::Ready(())
    }

    /// Ends the content of the request under way in an error.
    pub(super) fn break_off(&mut self, refusal: Option<Refusal>) {
        self.stream.connection.read_blocked(false);
        if let Some(refusal) = refusal {
            self.stream.refuse(refusal);
            self.ended = true;
        }
        if let Some((_, inflow)) = &self.content {
            inflow.break_off();
        }
        self.content = None;
    }

    /// Looks for the end of a client's bytes, or a reset, behind those that it has sent already: nothing else reads
    /// from it while a request is under way. A reset ends the connection and the work for it.
    pub(super) fn look_behind(&mut self, cx: &mut Context<'_>) {
        let owner = Rc::clone(&self.owner);
        while !self.ended && self.content.is_none() && self.input.len() < MOST_BEHIND {
            let Ok(mut inbox) = owner.connections().inbox.try_borrow_mut() else {
                return;
            };
            let room = (MOST_BEHIND - self.input.len()).min(inbox.len());
            let Some(space) = inbox.get_mut(..room) else {
                return;
            };
            let mut read = ReadBuf::new(space);
            match Pin::new(&mut self.transport).poll_read(cx, &mut read) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => {
                    return self.stream.connection.set_state(ConnectionState::End);
                }
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    self.ended = true;
                    self.stream.connection.half_close();
                }
                Poll::Ready(Ok(())) => self.input.extend_from_slice(read.filled()),
            }
        }
    }

    /// Drops the content of the request before, of which nobody read the rest, and which is a short one. Ready when a
    /// head can follow.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let owner = Rc::clone(&self.owner);
        while self.content.is_some() {
            let fresh = if self.input.is_empty() {
                let mut inbox = owner.connections().inbox.borrow_mut();
                let mut read = ReadBuf::new(&mut inbox);
                ready!(Pin::new(&mut self.transport).poll_read(cx, &mut read)?);
                BytesMut::from(read.filled())
            } else {
                self.input.split()
            };
            if fresh.is_empty() || self.take_content(fresh).is_err() {
                (self.ended, self.content) = (true, None);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Drops content that nobody reads, as far as it has come.
    pub(super) fn skip_content(&mut self) {
        let content = self.content.as_ref();
        if content.is_some_and(|(_, inflow)| inflow.is_dropped()) {
            let fresh = self.input.split();
            if self.take_content(fresh).is_err() {
                self.stream.connection.refused();
            }
        }
    }
}
