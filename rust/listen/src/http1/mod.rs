//! HTTP/1.1 on one connection: loops around the codec of `core::http::h1`, which knows the bytes. Requests are served
//! in turn; while one is under way its content is read as it is wanted, and nothing else but the end of the client's
//! bytes is looked for.
//!
//! `reading` takes bytes in, `sending` writes responses.

mod reading;
mod sending;

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

pub(crate) use self::sending::with_date;

use bytes::BytesMut;
use edgerouter_account::Hold;
use edgerouter_core::{
    admit::Refusal,
    http::{
        h1::{
            outgoing::Outgoing,
            request::{ClientHead, ContentReader, RequestLimits, RequestReader},
            write::RequestFacts,
        },
        h2::frames::PREFACE_LINE,
    },
};
use http::{Method, Version};

use self::reading::NextMessage;
use crate::{
    Transport,
    connection::{Backlog, ConnectionOwner, Inflow, NextTurn, Serving, Stream},
};

/// Bytes of content in a turn of a connection: about as much work as a handshake.
const A_TURN: usize = 128 << 10;

pub(crate) struct Http1<T, O> {
    transport: T,
    owner: Rc<O>,
    stream: Rc<Stream>,
    reader: RequestReader,
    limits: RequestLimits,
    /// The client may begin with the preface of HTTP/2 instead.
    knows_http2: bool,
    /// Bytes that have come and belong to no message yet: an incomplete head, or what is behind a request under way.
    input: BytesMut,
    /// The client has sent the end of its bytes.
    ended: bool,
    /// The client may send a request behind the one under way.
    may_follow: bool,
    /// The account's part in the incomplete head, and its bytes.
    hold: Option<(Hold, u64)>,
    /// Content of the request under way that has not come yet.
    content: Option<(ContentReader, Rc<Inflow>)>,
    /// Bytes of long content that were read or written in this turn of the connection.
    in_turn: usize,
    /// That turn is over.
    next_turn: Option<Rc<NextTurn>>,
    output: Outgoing,
}

/// The end of HTTP on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every request has its response.
    All,
    /// Something is missing: the connection is closed at once.
    CutOff,
    /// It goes on when there is something to read.
    Silent,
    /// The client speaks HTTP/2: its bytes are unread.
    Preface,
}

/// Input that HTTP has left unread at its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) bytes: BytesMut,
    /// The client has not sent all of the last message.
    pub(crate) in_content: bool,
    /// The client may have sent another message, as nothing but the last response says that the connection ends.
    pub(crate) may_follow: bool,
}

impl<T: Transport, O: ConnectionOwner> Http1<T, O> {
    pub(crate) fn new(
        transport: T,
        limits: RequestLimits,
        knows_http2: bool,
        owner: Rc<O>,
        stream: Rc<Stream>,
    ) -> Self {
        Self {
            transport,
            owner,
            stream,
            reader: RequestReader::new(limits),
            limits,
            knows_http2,
            input: BytesMut::new(),
            ended: false,
            may_follow: false,
            hold: None,
            content: None,
            in_turn: 0,
            next_turn: None,
            output: Outgoing::default(),
        }
    }

    /// Counts bytes of content behind which more comes. A client and an origin that are as fast as the kernel would go on
    /// in turn, and nobody else would be looked at.
    fn count_in_turn(&mut self, bytes: usize, cx: &Context<'_>) {
        self.in_turn += bytes;
        if self.in_turn >= A_TURN {
            self.in_turn = 0;
            self.next_turn = Some(Backlog::wait_to_go_on(&self.owner, cx));
        }
    }

    /// True if others go first.
    fn is_out_of_turn(&self) -> bool {
        let turn = self.next_turn.as_ref();
        turn.is_some_and(|turn| !turn.has_come())
    }

    /// The transport, and the input that nobody has read: for the time after HTTP.
    pub(crate) fn into_parts(self) -> (T, Unread) {
        if let Some((_, inflow)) = &self.content {
            inflow.break_off();
        }
        let unread = Unread {
            bytes: self.input,
            in_content: self.content.is_some(),
            may_follow: self.may_follow && !self.ended,
        };
        (self.transport, unread)
    }

    /// Serves requests until HTTP on the connection ends.
    pub(crate) async fn run(&mut self) -> Ended {
        loop {
            let next = std::future::poll_fn(|cx| self.poll_next(cx)).await;
            let served = match next {
                Ok(NextMessage::Request(head)) => self.serve(head).await,
                Ok(NextMessage::Refused(Refusal::Version)) if self.is_preface() => {
                    return Ended::Preface;
                }
                Ok(NextMessage::Refused(refusal)) => self.refuse(refusal).await,
                Ok(NextMessage::End(ended)) => {
                    self.may_follow = false;
                    return ended;
                }
                Err(error) => Err(error),
            };
            match served {
                Ok(None) => {}
                Ok(Some(ended)) => return self.or_refused(ended),
                Err(error) => {
                    let peer = self.stream.connection.peer;
                    tracing::debug!(%error, %peer, "connection ended in an error");
                    return self.or_refused(Ended::CutOff);
                }
            }
        }
    }

    /// True if the connection begins with the preface of HTTP/2, and may: behind a request the bytes could be those of
    /// another client of the same proxy.
    fn is_preface(&self) -> bool {
        self.knows_http2 && self.stream.interims.is_unused() && self.input.starts_with(PREFACE_LINE)
    }

    /// A refusal has still to reach its client (RFC 9112 §9.6): such a connection is not closed at once.
    fn or_refused(&self, ended: Ended) -> Ended {
        if self.stream.connection.was_refused() {
            Ended::All
        } else {
            ended
        }
    }

    /// Serves one request to the end of its response. `Some`: HTTP ends with it.
    async fn serve(&mut self, head: ClientHead) -> io::Result<Option<Ended>> {
        let facts = RequestFacts {
            version: head.parts.version,
            is_head: head.parts.method == Method::HEAD,
            is_persistent: head.is_persistent,
        };
        let body = match self.open_content(head.content) {
            Ok(body) => body,
            Err(refusal) => return self.refuse(refusal).await,
        };
        let mut expects = head.expects_continue;
        self.may_follow = head.is_persistent;
        let request = Ok((head.parts, body));
        self.stream.begin(facts.version);
        let mut serving = Serving::new(&self.owner, Rc::clone(&self.stream), request);
        let response = std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(response) = Pin::new(&mut serving).poll(cx) {
                    return Poll::Ready(io::Result::Ok(response));
                }
                let awaited = self.content.as_ref().is_some_and(|(_, to)| to.is_awaited());
                if expects && awaited {
                    expects = false;
                    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
                    self.output.text.extend_from_slice(go_on);
                }
                self.stream.interims.write(&mut self.output.text);
                let _ = self.poll_write(cx)?;
                if self.poll_content(cx).is_pending() {
                    self.look_behind(cx);
                    return Poll::Pending;
                }
            }
        });
        let response = response.await?;
        // Without a 100 the client may send the content or not: no other request can be found behind it. Behind an
        // error nobody reads the rest, even where somebody still could.
        let status = response.status();
        let is_error = status.is_client_error() || status.is_server_error();
        let content = self.content.as_ref();
        let is_unread = content.is_some_and(|(_, inflow)| {
            expects || ((is_error || inflow.is_dropped()) && !inflow.is_short())
        });
        let facts = RequestFacts {
            is_persistent: facts.is_persistent && !is_unread,
            ..facts
        };
        self.send(response, facts).await
    }

    /// Responds to a message that is refused; nothing that follows it is trusted.
    async fn refuse(&mut self, refusal: Refusal) -> io::Result<Option<Ended>> {
        self.input.clear();
        self.hold = None;
        self.stream.begin(Version::HTTP_11);
        self.stream.connection.refused();
        let response = Serving::new(&self.owner, Rc::clone(&self.stream), Err(refusal)).await;
        let facts = RequestFacts {
            version: Version::HTTP_11,
            is_head: false,
            is_persistent: false,
        };
        self.send(response, facts).await
    }
}
