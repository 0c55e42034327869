//! The settings of an engine beside its plan, and the reasons why it did not start.

use std::{net::SocketAddr, path::PathBuf};

use edgerouter_core::plan::Problem;

use crate::{
    counting::CountsError,
    listen::{tcp::BindError, unix::UnixBindError},
    store::disk::FolderError,
    telemetry::access::AccessLog,
};

/// Addresses and workers of the engine. Everything else is in the plan.
#[derive(Clone)]
pub struct Settings {
    /// Addresses for clients besides the plan's listeners, in plain text; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Address of the admin listener; `None`: there is none.
    pub admin: Option<SocketAddr>,
    /// Path of the unix socket of the admin listener, for the user of the process; `None`: there is none.
    pub admin_socket: Option<PathBuf>,
    /// Token of the admin listener; needed unless its address is a loopback one.
    pub admin_token: Option<String>,
    /// Another token, whose holder may read and change nothing.
    pub admin_reader_token: Option<String>,
    /// Access keys and secrets of the CloudFront-compatible calls.
    pub admin_keys: Vec<(String, String)>,
    /// `None`: one for each core.
    pub workers: Option<usize>,
    /// Files and sockets that the process may have open (`RLIMIT_NOFILE`).
    pub descriptors: Option<u64>,
    /// The destination of the line for each request.
    pub access_log: Option<AccessLog>,
    /// The file that keeps the counts of experiments.
    pub experiments_file: Option<PathBuf>,
    /// The file with the report on costs that the dashboard shows.
    pub cost_report: Option<PathBuf>,
    /// Tests may move the wall clock.
    pub test_clock: bool,
    /// Looks after the memory of the process. Called twice a second, by the thread of the background.
    pub tend_memory: fn(),
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .field("admin_socket", &self.admin_socket)
            .field("admin_token", &self.admin_token.as_ref().map(|_| "…"))
            .field(
                "admin_reader_token",
                &self.admin_reader_token.as_ref().map(|_| "…"),
            )
            .field("admin_keys", &self.admin_keys.len())
            .field("workers", &self.workers)
            .field("descriptors", &self.descriptors)
            .field("test_clock", &self.test_clock)
            .finish()
    }
}

/// Why the engine did not start; one line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is none in `listen`, nor in the plan.
    #[error("no address to listen on; give at least one, such as --listen 127.0.0.1:8080")]
    NoAddress,
    /// An address could not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A unix socket could not be listened on.
    #[error(transparent)]
    Unix(#[from] UnixBindError),
    /// The admin listener would be open to other machines.
    #[error(
        "the admin listener on {0} can be reached from other machines and needs a token; set one, or use a loopback address such as --admin 127.0.0.1:9090"
    )]
    AdminNeedsToken(SocketAddr),
    /// Certificates or keys of the plan's listeners cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Tls(Vec<Problem>),
    /// Files of the plan's `geo` cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Geo(Vec<Problem>),
    /// The folder of the disk cache cannot be used.
    #[error(transparent)]
    Disk(#[from] FolderError),
    /// The file for the counts of experiments cannot be used.
    #[error(transparent)]
    Counts(#[from] CountsError),
    /// The system refused a thread.
    #[error("a thread could not be started: {0}; raise the limit on threads or lower --workers")]
    Thread(std::io::Error),
    /// The system refused an event loop.
    #[error("an event loop could not be made: {0}; raise the limit on open files (ulimit -n)")]
    Runtime(std::io::Error),
}
