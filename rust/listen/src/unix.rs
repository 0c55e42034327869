//! Listeners on unix sockets: one socket, whose connections any worker accepts. Clients are processes of this machine.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener as BoundListener, UnixStream as ProbeStream},
    },
    path::{Path, PathBuf},
    rc::Rc,
    task::{Context, Poll},
};

use edgerouter_core::plan::ListenerId;
use edgerouter_telemetry::life::Life;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};

use crate::{
    Transport, accept,
    connection::{ConnectionOwner, Place},
    http::{self, Taken},
    inherited,
    socket::{self, BareSocket},
    tight::Listening,
};

impl Transport for UnixStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        socket::poll_readable(self, cx)
    }

    fn bare(&self) -> Option<&dyn BareSocket> {
        Some(self)
    }
}

/// The reason why a unix socket could not be listened on, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum UnixBindError {
    /// Another process listens there.
    #[error("unix:{} is already in use; stop the other program or give another path", .0.display())]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("unix:{} is there and is no socket; remove it or give another path", .0.display())]
    NoSocket(PathBuf),
    /// Another user may connect.
    #[error("unix:{} must belong to the user of the edge and have mode 0600", .0.display())]
    NotPrivate(PathBuf),
    /// Any other error.
    #[error("unix:{} could not be listened on: {source}; its folder must be there and writable", path.display())]
    Other {
        /// The path of the socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The file of a bound socket, which is removed when this is dropped, unless another process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path) == Some(self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|found| found.ino())
}

/// One listening socket, in as many handles as there are workers. The file of one that nobody listens on any more is
/// replaced.
pub fn bind(
    path: &Path,
    count: usize,
) -> Result<(Vec<BoundListener>, Option<SocketFile>), UnixBindError> {
    let fail = |source| UnixBindError::Other {
        path: path.into(),
        source,
    };
    if let Some(bound) = inherited::unix(path) {
        bound.set_nonblocking(true).map_err(fail)?;
        // The file is the service manager's.
        return Ok((handles(bound, count).map_err(fail)?, None));
    }
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(UnixBindError::NoSocket(path.into()));
        }
        match ProbeStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(fail)?;
            }
            Ok(_) => return Err(UnixBindError::InUse(path.into())),
            Err(error) => return Err(fail(error)),
        }
    }
    let bound = BoundListener::bind(path).map_err(fail)?;
    let file = SocketFile {
        path: path.into(),
        inode: inode(path).unwrap_or_default(),
    };
    bound.set_nonblocking(true).map_err(fail)?;
    Ok((handles(bound, count).map_err(fail)?, Some(file)))
}

/// A listening socket to which only the user of this process can connect, and root. Each accepted connection must be
/// compared with its owner all the same: between its creation and the change of its mode others may get in.
pub fn bind_private(
    path: &Path,
) -> Result<((BoundListener, u32), Option<SocketFile>), UnixBindError> {
    let fail = |source| UnixBindError::Other {
        path: path.into(),
        source,
    };
    let not_private = || UnixBindError::NotPrivate(path.into());
    let (mut bound, file) = bind(path, 1)?;
    if file.is_some() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(fail)?;
    }
    let found = fs::symlink_metadata(path).map_err(fail)?;
    let user = fs::metadata("/proc/self").map_err(fail)?.uid();
    if !found.file_type().is_socket() || found.mode() & 0o777 != 0o600 || found.uid() != user {
        return Err(not_private());
    }
    Ok(((bound.pop().ok_or_else(not_private)?, user), file))
}

fn handles(bound: BoundListener, count: usize) -> io::Result<Vec<BoundListener>> {
    inherited::handles(bound, count, BoundListener::try_clone)
}

/// Accepts until the engine drains, and then those that the kernel has accepted by then. `id`: of a listener of the
/// plan.
pub async fn accept<O: ConnectionOwner>(
    owner: Rc<O>,
    listener: UnixListener,
    id: ListenerId,
    life: watch::Receiver<Life>,
) {
    accept::accept(owner, listener, life, |owner, stream, draining| {
        taken(owner, stream, id, draining)
    })
    .await;
}

/// Serves a connection, whose peer counts as this machine.
fn taken<O: ConnectionOwner>(
    owner: &Rc<O>,
    stream: UnixStream,
    id: ListenerId,
    draining: bool,
) -> Taken {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let connections = owner.connections();
    let place = Place::of(&connections.all, connections.index);
    http::take(owner, stream, peer, Some(id), place, draining)
}

impl Listening for UnixListener {
    type Accepted = UnixStream;

    fn poll_accepted(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        self.poll_accept(cx).map_ok(|(stream, _)| stream)
    }
}
