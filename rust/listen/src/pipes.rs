//! Pipes through which the kernel moves content from one socket to another (splice(2)). Its pages are handed on:
//! nothing copies them into the edge and out again.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::OwnedFd,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::Interest;

use crate::socket::{BareSocket, poll_tried, poll_tried_at};

/// Bytes that a pipe has room for, if the system lets it.
const ROOM: usize = 512 << 10;

/// The pipes of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    idle: RefCell<Vec<Ends>>,
    /// Pipes that hold content.
    lent: Cell<usize>,
}

/// Both ends of a pipe.
#[derive(Debug)]
struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

/// A pipe in use. Empty, it goes back to its worker; with content that nobody wants any more, it is closed.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: Option<Ends>,
    pipes: Rc<Pipes>,
    waiting: usize,
}

impl Pipes {
    /// An empty pipe, unless `most` are in use. Half of them are for clients that take all at once: content for slow
    /// ones would sit in all.
    pub(crate) fn lend(self: &Rc<Self>, most: usize, is_slow: bool) -> Option<Pipe> {
        let most = if is_slow { most / 2 } else { most };
        if self.lent.get() >= most {
            return None;
        }
        let idle = self.idle.borrow_mut().pop();
        let ends = idle.or_else(|| Ends::new().ok())?;
        self.lent.set(self.lent.get() + 1);
        Some(Pipe {
            ends: Some(ends),
            pipes: Rc::clone(self),
            waiting: 0,
        })
    }
}

impl Pipe {
    /// True if nothing waits in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Moves bytes out of a socket as soon as there are some, up to `most` and to the room of the pipe.
    pub(crate) fn poll_fill(
        &mut self,
        socket: &dyn BareSocket,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let ends = &self.ends;
        let polled = poll_tried(socket, cx, Interest::READABLE, &mut || {
            let ends = ends.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
            ends.fill(socket, most)
        });
        if let Poll::Ready(Ok(count)) = &polled {
            self.waiting += count;
        }
        polled
    }

    /// Moves what waits into a socket, as much as there is room for. `at_once`: see `poll_tried_at`.
    pub(crate) fn poll_empty(
        &mut self,
        socket: &dyn BareSocket,
        cx: &mut Context<'_>,
        at_once: bool,
    ) -> Poll<io::Result<usize>> {
        let (ends, waiting) = (&self.ends, self.waiting);
        let polled = poll_tried_at(socket, cx, Interest::WRITABLE, at_once, &mut || {
            let ends = ends.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
            match ends.empty(socket, waiting)? {
                0 => Err(io::ErrorKind::WriteZero.into()),
                count => Ok(count),
            }
        });
        if let Poll::Ready(Ok(count)) = &polled {
            self.waiting = self.waiting.saturating_sub(*count);
        }
        polled
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let pipes = &self.pipes;
        pipes.lent.set(pipes.lent.get().saturating_sub(1));
        if self.waiting == 0 {
            pipes.idle.borrow_mut().extend(self.ends.take());
        }
    }
}

#[cfg(target_os = "linux")]
impl Ends {
    fn new() -> io::Result<Self> {
        use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user who has many large pipes already gets a smaller one.
        let _ = fcntl_setpipe_size(&into, ROOM);
        Ok(Self { out, into })
    }

    fn fill(&self, socket: &dyn BareSocket, most: usize) -> io::Result<usize> {
        splice(socket, &self.into, most.min(ROOM))
    }

    fn empty(&self, socket: &dyn BareSocket, waiting: usize) -> io::Result<usize> {
        splice(&self.out, socket, waiting)
    }
}

#[cfg(target_os = "linux")]
fn splice(
    from: impl std::os::fd::AsFd,
    into: impl std::os::fd::AsFd,
    most: usize,
) -> io::Result<usize> {
    use rustix::pipe::SpliceFlags;
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(rustix::pipe::splice(from, None, into, None, most, flags)?)
}

#[cfg(not(target_os = "linux"))]
impl Ends {
    fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn fill(&self, _socket: &dyn BareSocket, _most: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn empty(&self, _socket: &dyn BareSocket, _waiting: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slow_clients_have_half_of_the_pipes() {
        let pipes = Rc::<Pipes>::default();
        let slow: Vec<_> = std::iter::from_fn(|| pipes.lend(4, true)).take(9).collect();
        assert_eq!(slow.len(), 2);
        let fast: Vec<_> = std::iter::from_fn(|| pipes.lend(4, false))
            .take(9)
            .collect();
        assert_eq!(fast.len(), 2);
        drop(slow);
        assert!(pipes.lend(4, true).is_none(), "the fast have two");
        assert!(pipes.lend(4, false).is_some());
        drop(fast);
        assert_eq!((pipes.lent.get(), pipes.idle.borrow().len()), (0, 4));
        assert!(pipes.lend(0, false).is_none());
    }

    #[test]
    fn a_pipe_with_content_is_not_used_again() {
        let pipes = Rc::<Pipes>::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        let mut pipe = pipes.lend(1, false).unwrap();
        let count = runtime.unwrap().block_on(async {
            let (near, far) = tokio::net::UnixStream::pair().unwrap();
            assert_eq!(far.try_write(b"content").unwrap(), 7);
            std::future::poll_fn(|cx| pipe.poll_fill(&near, cx, 4)).await
        });
        assert_eq!(count.unwrap(), 4);
        assert!(!pipe.is_empty());
        drop(pipe);
        assert_eq!((pipes.lent.get(), pipes.idle.borrow().len()), (0, 0));
    }
}
