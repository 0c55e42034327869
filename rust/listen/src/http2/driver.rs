//! The task of a connection: makes the library read and write, begins requests, and ends the connection in stages.

use std::{
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use edgerouter_account::{Hold, Owner};
use edgerouter_core::{
    admit::Refusal,
    bounds::{clients::Client, memory::Purpose},
    http::{
        Fields,
        h2::{flood::Flood, priority::Priority},
    },
};
use edgerouter_telemetry::Refused;
use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use http::{HeaderValue, Method, Request, Version};
use tokio::{task::spawn_local, time::timeout};

use super::{
    content::Content,
    convert,
    meter::Meter,
    response::Exchange,
    terms::Terms,
    wire::{Wire, WireEnd},
};
use crate::{
    Transport,
    connection::{
        Backlog, ClientBody, Connection, ConnectionOwner, ConnectionState, Inflow, NextTurn,
        Stream, is_over,
    },
};

/// Bytes that wait to be read that each connection may hold beside the account.
const FREE: u64 = 4 << 10;
/// Requests that a connection begins in a turn, if they end at once. A request that waits for something is as much work
/// as several of them.
const A_TURN: usize = 32;
const OF_ONE_THAT_WAITS: usize = 8;
/// Time for a client to take the last frames.
const LAST_FRAMES: Duration = Duration::from_secs(2);
/// Time for a client without requests to learn that its connection drains.
const DRAIN_QUIET: Duration = Duration::from_secs(2);

/// The way a connection is closed after HTTP/2.
pub(crate) enum Closing<T> {
    /// At once.
    CutOff,
    /// It has nothing left to read.
    Done(T),
    /// Unread bytes remain: a close at once could destroy the last frames on their way.
    Linger(T),
}

/// Serves requests until the connection ends. `early`: bytes of the client that were read before.
pub(crate) async fn serve<T: Transport, O: ConnectionOwner>(
    owner: &Rc<O>,
    transport: T,
    early: BytesMut,
    connection: &Rc<Connection>,
) -> Closing<T> {
    let multiplexed = connection.multiplex();
    multiplexed.note_incomplete(true, connection.head_since());
    connection.set_active(true);
    // Clients that are turned away and come again at once wait for one another, and nobody waits for them.
    Backlog::turn(owner).await;
    let terms = owner.with_plan(|plan, _| Terms::of(&plan.limits));
    let meter = Rc::new(Meter::new(Rc::clone(connection), terms.frames));
    let wire = Wire::new(transport, early, Rc::clone(&meter));
    let driver = Driver {
        owner: Rc::clone(owner),
        connection: Rc::clone(connection),
        meter: Rc::clone(&meter),
        terms,
        hold: None,
        drains_since: None,
        next_turn: None,
        is_in_first_turn: true,
        has_resets: false,
    };
    let ended = driver.run(&wire).await;
    connection.set_active(false);
    if ended == Ended::CutOff {
        Backlog::turn_to_end(owner, connection).await;
    }
    end_streams(owner, &meter).await;
    let Some(transport) = wire.into_transport() else {
        return Closing::CutOff;
    };
    connection.drop_unsent(&transport);
    match ended {
        Ended::CutOff => Closing::CutOff,
        Ended::Done => Closing::Done(transport),
        Ended::Refused => Closing::Linger(transport),
    }
}

/// Ends what is under way on a connection that has ended, some of it in each turn.
async fn end_streams<O: ConnectionOwner>(owner: &Rc<O>, meter: &Meter) {
    while meter.close_some() {
        Backlog::turn(owner).await;
    }
}

/// The end of HTTP/2 on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Its client does not take the last frames, or is gone.
    CutOff,
    Done,
    /// The client broke the protocol.
    Refused,
}

/// The end that the driver has decided on, or the library.
enum End {
    /// The last frame is GOAWAY with a reason.
    GoAway(Reason),
    Done,
    Error(h2::Error),
    /// Nothing can be sent any more.
    Broken,
}

struct Driver<O> {
    owner: Rc<O>,
    connection: Rc<Connection>,
    meter: Rc<Meter>,
    terms: Terms,
    /// The account's part in the bytes that wait to be read, and their number.
    hold: Option<(Hold, u64)>,
    /// Ticks (ms) at which the connection began to drain.
    drains_since: Option<u64>,
    /// Its turn is over, and it has more to do.
    next_turn: Option<Rc<NextTurn>>,
    /// It has waited for its turn before it began.
    is_in_first_turn: bool,
    /// Requests were reset before they began. The frames that say so may be too many once they are counted.
    has_resets: bool,
}

type Http2<T> = server::Connection<WireEnd<T>, Bytes>;

impl<O: ConnectionOwner> Driver<O> {
    async fn run<T: Transport>(self, wire: &Rc<Wire<T>>) -> Ended {
        let ended = self.run_to_end(wire).await;
        if ended == Ended::CutOff {
            return ended;
        }
        let rest = std::future::poll_fn(|cx| wire.poll_send(cx));
        match timeout(LAST_FRAMES, rest).await {
            Ok(Ok(())) => ended,
            _ => Ended::CutOff,
        }
    }

    async fn run_to_end<T: Transport>(mut self, wire: &Rc<Wire<T>>) -> Ended {
        let builder = self.terms.builder();
        let mut http = {
            let mut begun = pin!(builder.handshake::<_, Bytes>(WireEnd(Rc::clone(wire))));
            let begun = std::future::poll_fn(|cx| {
                self.connection.listen(cx.waker());
                match self.connection.state() {
                    ConnectionState::HeadTooSlow => {
                        let too_slow = Refused::Request(Refusal::HeadTooSlow);
                        self.owner.metrics().refused(too_slow);
                        Poll::Ready(None)
                    }
                    ConnectionState::End => Poll::Ready(None),
                    // A client that has not begun is not waited for.
                    _ if self.connection.is_drained() => Poll::Ready(None),
                    _ => {
                        wire.begin_turn();
                        let polled = begun.as_mut().poll(cx).map(Some);
                        // An error is seen when the library reads.
                        let _ = wire.poll_send(cx);
                        polled
                    }
                }
            });
            match begun.await {
                Some(Ok(http)) => http,
                Some(Err(error)) => return self.failed(&error),
                None => return Ended::CutOff,
            }
        };
        self.owner.metrics().http2_connection();
        let end = std::future::poll_fn(|cx| {
            let polled = self.poll(&mut http, wire, cx);
            if polled.is_ready() {
                // Before any of its streams is polled, which the library may have woken.
                self.meter.close();
            }
            polled
        });
        let end = end.await;
        // Behind a GOAWAY their resets would say nothing more.
        if !matches!(end, End::GoAway(_)) {
            end_streams(&self.owner, &self.meter).await;
        }
        match end {
            End::Done => Ended::Done,
            End::Broken => Ended::CutOff,
            End::Error(error) => self.failed(&error),
            End::GoAway(reason) => {
                http.abrupt_shutdown(reason);
                let last = std::future::poll_fn(|cx| {
                    wire.begin_turn();
                    let closed = http.poll_closed(cx);
                    if closed.is_pending() && matches!(wire.poll_send(cx), Poll::Ready(Err(_))) {
                        return Poll::Ready(Ok(()));
                    }
                    closed
                });
                match timeout(LAST_FRAMES, last).await {
                    Ok(_) if reason == Reason::NO_ERROR => Ended::Done,
                    Ok(_) => Ended::Refused,
                    Err(_) => Ended::CutOff,
                }
            }
        }
    }

    fn failed(&self, error: &h2::Error) -> Ended {
        let peer = self.connection.peer;
        tracing::debug!(%error, %peer, "a connection of HTTP/2 ended in an error");
        if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
            self.owner
                .metrics()
                .refused(Refused::Flood(Flood::Overhead));
        }
        if error.is_io() {
            Ended::CutOff
        } else {
            Ended::Refused
        }
    }

    fn poll<T: Transport>(
        &mut self,
        http: &mut Http2<T>,
        wire: &Wire<T>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        self.connection.listen(cx.waker());
        if let Some(turn) = &self.next_turn {
            if !turn.has_come() && self.connection.state() != ConnectionState::End {
                return Poll::Pending;
            }
            self.next_turn = None;
        } else if !self.is_in_first_turn && self.comes_last() {
            self.next_turn = Some(Backlog::wait(&self.owner, cx));
            return Poll::Pending;
        }
        self.is_in_first_turn = false;
        wire.begin_turn();
        let mut left = A_TURN;
        loop {
            match self.connection.state() {
                ConnectionState::End => return Poll::Ready(End::GoAway(Reason::NO_ERROR)),
                ConnectionState::HeadTooSlow | ConnectionState::BodyTooSlow => {
                    self.owner
                        .metrics()
                        .refused(Refused::Request(Refusal::HeadTooSlow));
                    return Poll::Ready(End::GoAway(Reason::ENHANCE_YOUR_CALM));
                }
                ConnectionState::Live | ConnectionState::Drain => {}
            }
            if let Some(flood) = self.meter.flood() {
                let peer = self.connection.peer;
                tracing::debug!(flood = flood.as_str(), %peer, "too many frames of a kind");
                self.owner.metrics().refused(Refused::Flood(flood));
                return Poll::Ready(End::GoAway(Reason::ENHANCE_YOUR_CALM));
            }
            if self.connection.is_drained() && self.drains_since.is_none() {
                self.drains_since = Some(self.connection.now());
                http.graceful_shutdown();
            }
            if self.connection.multiplex().take_check() && self.check() {
                return Poll::Ready(End::GoAway(Reason::NO_ERROR));
            }
            match http.poll_accept(cx) {
                Poll::Ready(None) => return Poll::Ready(End::Done),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(End::Error(error)),
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let work = self.begin(request, respond, cx);
                    left = left.saturating_sub(work);
                    if left == 0 {
                        return self.end_turn(wire, cx);
                    }
                }
                Poll::Pending => {
                    self.meter.settle();
                    if self.account_for_unread().is_err() {
                        self.owner.metrics().refused(Refused::NoMemory);
                        return Poll::Ready(End::GoAway(Reason::ENHANCE_YOUR_CALM));
                    }
                    if matches!(wire.poll_send(cx), Poll::Ready(Err(_))) {
                        return Poll::Ready(End::Broken);
                    }
                    if wire.has_ended() {
                        return Poll::Ready(End::Broken);
                    }
                    if self.meter.flood().is_none() {
                        if wire.has_read_enough() {
                            return self.end_turn(wire, cx);
                        }
                        if wire.has_sent_enough() {
                            self.next_turn = Some(Backlog::wait_to_go_on(&self.owner, cx));
                        }
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// True if others go first whenever there is something to do: its client has yet to take a response.
    fn comes_last(&self) -> bool {
        !self.meter.is_served() && self.connection.state() != ConnectionState::End
    }

    /// Leaves the worker to the other connections, with more to do.
    fn end_turn<T: Transport>(&mut self, wire: &Wire<T>, cx: &mut Context<'_>) -> Poll<End> {
        let sends_first = self.has_resets || self.owner.connections().backlog.is_waited_in();
        self.has_resets = false;
        self.next_turn = Some(Backlog::wait(&self.owner, cx));
        // It may be long until then: the responses that are made do not wait for it.
        if sends_first && matches!(wire.poll_send(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(End::Broken);
        }
        Poll::Pending
    }

    /// Looks at the requests, once a second. True if the connection is over: it drains, and has none, or its
    /// client takes nothing.
    fn check(&self) -> bool {
        let meter = &self.meter;
        let (slow, is_stuck) = self.owner.with_plan(|plan, _| {
            let limits = &plan.limits.http;
            (meter.check(limits), meter.is_stuck(limits.body_timeout))
        });
        for _ in 0..slow + usize::from(is_stuck) {
            self.owner.metrics().refused(Refused::SlowReader);
        }
        let is_quiet = self.connection.is_idle() && self.meter.has_left();
        let now = self.connection.now();
        let is_drained = self
            .drains_since
            .is_some_and(|since| is_over(since, now, DRAIN_QUIET));
        is_stuck || (is_quiet && is_drained)
    }

    /// Draws the memory of content and of field sections that wait to be read.
    fn account_for_unread(&mut self) -> Result<(), edgerouter_account::Spent> {
        let bytes = self.meter.unread(self.terms.stream_window.into());
        if bytes <= FREE {
            self.hold = None;
            return Ok(());
        }
        let (hold, drawn) = self.hold.get_or_insert_with(|| {
            let owner = Owner {
                client: Some(Client::of(self.connection.peer.ip())),
                origin: None,
            };
            let account = &self.owner.connections().account;
            (account.open_uncut(Purpose::Heads, owner), 0)
        });
        if bytes > *drawn {
            hold.draw(bytes - *drawn)?;
        } else if bytes < *drawn {
            hold.give(*drawn - bytes);
        }
        *drawn = bytes;
        Ok(())
    }

    /// Begins a request. One that waits for nothing, as for a stored response, ends here, without a task. Its part of a
    /// turn.
    fn begin(
        &mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) -> usize {
        self.owner.metrics().http2_request();
        // One that was reset in the meantime costs its frames, and nothing behind them: no route, no origin.
        let asked = &mut Context::from_waker(Waker::noop());
        if respond.poll_reset(asked).is_ready() {
            self.connection.begin();
            self.connection.end();
            self.has_resets = true;
            return 1;
        }
        let (parts, body) = request.into_parts();
        let is_whole = body.is_end_stream();
        let limits = &self.terms.request;
        let is_secured = self.connection.tls().is_some();
        let head = convert::request(&parts, is_whole, is_secured, limits);
        let stream = Rc::new(Stream::new(Rc::clone(&self.connection)));
        stream.begin(Version::HTTP_2);
        let open = self.meter.open(respond.stream_id().as_u32(), stream);
        let (mut content, mut tunnel, mut expects_continue) = (None, None, false);
        let mut priority = Priority::default();
        let request = head.map(|mut head| {
            expects_continue = head.expects_continue;
            priority = Priority::of_request(&head.parts.headers);
            if head.is_tunnel() {
                websocket_key(&mut head.parts.headers);
                tunnel = Some(body);
                return (head.parts, ClientBody::default());
            }
            if is_whole {
                return (head.parts, ClientBody::default());
            }
            let inflow = Inflow::open(&self.connection, head.length);
            let most = limits.body_bytes;
            content = Some(Content::new(body, Rc::clone(&inflow), most));
            (head.parts, ClientBody::reading(inflow))
        });
        let exchange = Exchange {
            owner: Rc::clone(&self.owner),
            meter: Rc::clone(&self.meter),
            open,
            respond,
            content,
            expects_continue,
            is_head: parts.method == Method::HEAD,
            tunnel,
            priority,
        };
        let mut run = Box::pin(exchange.run(request));
        if run.as_mut().poll(cx).is_ready() {
            return 1;
        }
        spawn_local(run);
        OF_ONE_THAT_WAITS
    }
}

/// The key by which an origin of HTTP/1.1 knows an upgrade to WebSocket (RFC 6455 §4.1).
fn websocket_key(headers: &mut Fields) {
    let mut key = [0; 16];
    // Without random bytes the key is the same for each: it is no secret.
    let _ = aws_lc_rs::rand::fill(&mut key);
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.append("sec-websocket-key", key);
    }
}
