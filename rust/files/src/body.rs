//! The content of a file on its way to a client, a piece at a time.
//!
//! No piece is read ahead of the socket: the system's own buffer is written from while the next piece is read, and a
//! client that does not read holds no memory here. Content that the kernel has in memory goes from there into a socket
//! without a copy, where the connection leaves it as it is (`sendfile`); its end goes only if the file is still the
//! same then.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    ops::Range,
    os::fd::BorrowedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_account::Hold;
use http_body::{Body, Frame, SizeHint};

use super::{FileTrouble, Files, OpenFile};

/// Sizes of a piece, by the memory that is free.
const LEAST_PIECE: u64 = 16 << 10;
const MOST_PIECE: u64 = 256 << 10;

/// Bytes that a worker copies itself, at most.
const MOST_AT_HAND: u64 = 64 << 10;
/// A part of a file from this length on is sent without a copy, this many bytes at a time at most.
const LEAST_SENT: u64 = 16 << 10;
const MOST_SENT: u64 = 512 << 10;
/// Time for which the kernel is believed to have in memory what it had. The question costs 4 µs for 512 KiB of tmpfs, and
/// a socket takes them in several calls.
const BELIEVED: Duration = Duration::from_millis(100);

/// A part of a body.
#[derive(Debug, Clone)]
pub enum FilePart {
    /// Bytes that are here.
    Bytes(Bytes),
    /// Bytes of the file.
    Range {
        /// Position of the first one.
        offset: u64,
        /// Their number.
        length: u64,
    },
}

/// A read that is under way, and the bytes of memory that were drawn for it.
type Reading = Pin<Box<dyn Future<Output = (u64, Result<Bytes, FileTrouble>)>>>;

/// The parts of a file. Memory for a piece is drawn before it is read, and given back when the piece goes on to the
/// queue of the connection, which counts it from there.
pub struct FileBody {
    files: Arc<Files>,
    file: Arc<OpenFile>,
    parts: VecDeque<FilePart>,
    left: u64,
    hold: Arc<Hold>,
    reading: Option<Reading>,
    in_memory: Option<InMemory>,
}

/// Bytes of the file that the kernel had in memory, at `since`.
#[derive(Debug, Clone)]
struct InMemory {
    bytes: Range<u64>,
    since: Instant,
}

impl std::fmt::Debug for FileBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileBody")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl FileBody {
    /// `hold`: the request's part of the account.
    pub fn new(
        files: &Arc<Files>,
        file: Arc<OpenFile>,
        parts: impl IntoIterator<Item = FilePart>,
        hold: Hold,
    ) -> Self {
        let parts: VecDeque<FilePart> = parts.into_iter().collect();
        let length = |part: &FilePart| match part {
            FilePart::Bytes(bytes) => bytes.len() as u64,
            FilePart::Range { length, .. } => *length,
        };
        Self {
            files: Arc::clone(files),
            file,
            left: parts.iter().map(length).sum(),
            parts,
            hold: Arc::new(hold),
            reading: None,
            in_memory: None,
        }
    }

    /// Sends content that the kernel has in memory: `send` gets the file, a position and a number of bytes, and sends
    /// as many of them as the socket takes. `None`: the next content comes as a frame.
    pub fn send(
        &mut self,
        send: impl FnOnce(BorrowedFd<'_>, u64, usize) -> Poll<io::Result<usize>>,
    ) -> Option<Poll<io::Result<usize>>> {
        if self.reading.is_some() {
            return None;
        }
        let Some(FilePart::Range { offset, length }) = self.parts.front_mut() else {
            return None;
        };
        if *length < LEAST_SENT {
            return None;
        }
        let known = (self.in_memory.as_ref())
            .filter(|known| known.bytes.contains(&*offset) && known.since.elapsed() < BELIEVED);
        let most = known.map_or(MOST_SENT, |known| known.bytes.end - *offset);
        let piece = (*length).min(most);
        let file = match known {
            Some(_) => self.file.sendable()?,
            None => self.file.in_memory(*offset, piece)?,
        };
        if known.is_none() {
            self.in_memory = Some(InMemory {
                bytes: *offset..*offset + piece,
                since: Instant::now(),
            });
        }
        // The end goes only if the file still is the one that was opened: the client takes what it got for whole then.
        if piece == *length
            && let Err(trouble) = self.file.unchanged()
        {
            return Some(self.failed(trouble));
        }
        let polled = send(file, *offset, usize::try_from(piece).unwrap_or(usize::MAX));
        let Poll::Ready(Ok(sent)) = polled else {
            return Some(polled);
        };
        let sent = (sent as u64).min(piece);
        if sent == 0 {
            return Some(self.failed(FileTrouble::Changed));
        }
        *offset += sent;
        *length -= sent;
        if *length == 0 {
            self.parts.pop_front();
        }
        self.left = self.left.saturating_sub(sent);
        self.files.figures.sent(sent);
        Some(Poll::Ready(Ok(usize::try_from(sent).unwrap_or(usize::MAX))))
    }

    /// Counts that no more can be sent.
    fn failed(&self, trouble: FileTrouble) -> Poll<io::Result<usize>> {
        self.files.figures.failed(trouble);
        Poll::Ready(Err(trouble.into()))
    }

    /// The next piece, if the kernel has it in memory and no memory is short.
    fn read_at_hand(&mut self) -> Result<Option<Bytes>, FileTrouble> {
        let Some(FilePart::Range { offset, length }) = self.parts.front_mut() else {
            return Ok(None);
        };
        let piece = self.hold.allowance(LEAST_PIECE, MOST_AT_HAND).min(*length);
        let size = usize::try_from(piece).unwrap_or(usize::MAX);
        let Some(bytes) = self.file.read_at_hand(*offset, size)? else {
            return Ok(None);
        };
        *offset += piece;
        *length -= piece;
        if *length == 0 {
            self.parts.pop_front();
        }
        self.files.figures.read(bytes.len());
        Ok(Some(bytes))
    }

    /// Begins to read the next piece, if one is left to read.
    fn begin(&mut self) {
        let Some(FilePart::Range { offset, length }) = self.parts.front_mut() else {
            return;
        };
        let piece = self.hold.allowance(LEAST_PIECE, MOST_PIECE).min(*length);
        let at = *offset;
        *offset += piece;
        *length -= piece;
        if *length == 0 {
            self.parts.pop_front();
        }
        let (files, file) = (Arc::clone(&self.files), Arc::clone(&self.file));
        let hold = Arc::clone(&self.hold);
        self.reading = Some(Box::pin(async move {
            if hold.drawn(piece, files.timeout()).await.is_err() {
                files.figures.failed(FileTrouble::Memory);
                return (0, Err(FileTrouble::Memory));
            }
            let length = usize::try_from(piece).unwrap_or(usize::MAX);
            (piece, files.read(&file, at, length).await)
        }));
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.reading.is_none() {
            match this.parts.pop_front() {
                None => return Poll::Ready(None),
                Some(FilePart::Bytes(bytes)) => {
                    this.left = this.left.saturating_sub(bytes.len() as u64);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(range) => {
                    this.parts.push_front(range);
                    match this.read_at_hand() {
                        Ok(Some(bytes)) => {
                            this.left = this.left.saturating_sub(bytes.len() as u64);
                            return Poll::Ready(Some(Ok(Frame::data(bytes))));
                        }
                        Ok(None) => this.begin(),
                        Err(trouble) => {
                            this.files.figures.failed(trouble);
                            this.parts.clear();
                            return Poll::Ready(Some(Err(trouble.into())));
                        }
                    }
                }
            }
        }
        let Some(reading) = &mut this.reading else {
            return Poll::Ready(None);
        };
        let Poll::Ready((drawn, read)) = reading.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        this.reading = None;
        this.hold.give(drawn);
        match read {
            Ok(bytes) => {
                this.hold.moved();
                this.left = this.left.saturating_sub(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(trouble) => {
                this.parts.clear();
                Poll::Ready(Some(Err(trouble.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
