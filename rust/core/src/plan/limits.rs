//! Bounds on everything that a client, an origin or a hook could make grow, in groups (`docs/limits.md`).
//!
//! The names and defaults are those of `edgerouter.Limits`; one test compares both with the documentation.

use std::time::Duration;

use crate::bounds::clients::PerClient;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    pub http: HttpLimits,
    pub origins: OriginLimits,
    pub cache: CacheLimits,
    pub functions: FunctionLimits,
    pub identity: IdentityLimits,
    pub prefetch: PrefetchLimits,
    pub purge: PurgeLimits,
    pub log: LogLimits,
}

/// Connections and requests of clients.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpLimits {
    pub head_bytes: usize,
    pub head_fields: usize,
    pub url_bytes: usize,
    pub body_bytes: u64,
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    /// Time for a request whose client has sent the end of its bytes, while nothing of the answer is sent.
    pub half_close_timeout: Duration,
    /// Silence of a tunnel.
    pub tunnel_idle_timeout: Duration,
    pub connections: usize,
    /// Connections of one peer.
    pub client_connections: PerClient,
    /// Requests of one client that are under way and not answered from memory.
    pub client_requests: PerClient,
    /// The account of memory that clients can make grow.
    pub request_memory_bytes: u64,
    pub drain_timeout: Duration,
}

/// Requests to origins and their responses.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginLimits {
    pub head_bytes: usize,
    pub head_fields: usize,
    /// Of a request's body, kept to be sent again.
    pub replay_bytes: usize,
    /// Silence of an event stream.
    pub event_idle_timeout: Duration,
}

/// The memory cache and the fetches that fill it.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheLimits {
    /// `None`: a quarter of the machine's memory, at most 4 GiB.
    pub memory_bytes: Option<u64>,
    /// `None`: a tenth of the memory cache.
    pub largest_object_bytes: Option<u64>,
    /// Objects of more than one slice are stored in slices.
    pub slice_bytes: u64,
    /// Distance of the fetch of a large object from its fastest reader.
    pub read_ahead_bytes: u64,
    /// Bytes a minute that range requests of one address may have fetched beyond a multiple of what it takes.
    pub fill_bytes: u64,
    pub coalesce_timeout: Duration,
}

/// Calls into Python.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionLimits {
    pub queue: usize,
    /// Threads that run plain callables; `None`: one for each core and 4 more, at most 32.
    pub threads: Option<usize>,
    pub timeout: Duration,
    pub body_bytes: usize,
    /// Work of `wait_until`, which goes on after the response.
    pub background_tasks: usize,
    pub background_timeout: Duration,
    /// Caches that functions open by name.
    pub named_caches: usize,
}

/// Tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityLimits {
    pub token_bytes: usize,
    pub remembered_tokens: usize,
}

/// Prefetches, and the model of next pages.
#[derive(Debug, Clone, PartialEq)]
pub struct PrefetchLimits {
    pub concurrency: usize,
    pub timeout: Duration,
    pub pages: usize,
    pub visitors: usize,
}

/// Purges and their marks.
#[derive(Debug, Clone, PartialEq)]
pub struct PurgeLimits {
    /// Things that one purge may name.
    pub scopes: usize,
    /// Things named by purges that are not completed yet.
    pub in_progress: usize,
    /// Completed purges that are remembered with their counts, and by their references.
    pub remembered: usize,
    pub marks: usize,
    pub patterns: usize,
    /// `None`: a 64th of the disk cache, from 1 MiB to 64 MiB.
    pub log_bytes: Option<u64>,
}

/// Lines of logs.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLimits {
    /// Bytes of lines that wait for the reader of a log.
    pub queue_bytes: usize,
    /// Lines of the edge's own log.
    pub lines_per_second: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        let per_client = |most| PerClient { most, set: false };
        Self {
            head_bytes: 64 << 10,
            head_fields: 100,
            url_bytes: 16 << 10,
            body_bytes: 100 << 20,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            half_close_timeout: Duration::from_secs(10),
            tunnel_idle_timeout: Duration::from_secs(3_600),
            connections: 50_000,
            client_connections: per_client(1_000),
            client_requests: per_client(256),
            request_memory_bytes: 64 << 20,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for OriginLimits {
    fn default() -> Self {
        Self {
            head_bytes: 256 << 10,
            head_fields: 1_000,
            replay_bytes: 64 << 10,
            event_idle_timeout: Duration::from_secs(3_600),
        }
    }
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            largest_object_bytes: None,
            slice_bytes: 1 << 20,
            read_ahead_bytes: 8 << 20,
            fill_bytes: 8 << 20,
            coalesce_timeout: Duration::from_secs(10),
        }
    }
}

impl Default for FunctionLimits {
    fn default() -> Self {
        Self {
            queue: 1_000,
            threads: None,
            timeout: Duration::from_secs(10),
            body_bytes: 1 << 20,
            background_tasks: 1_000,
            background_timeout: Duration::from_secs(30),
            named_caches: 32,
        }
    }
}

impl Default for IdentityLimits {
    fn default() -> Self {
        Self {
            token_bytes: 8 << 10,
            remembered_tokens: 100_000,
        }
    }
}

impl Default for PrefetchLimits {
    fn default() -> Self {
        Self {
            concurrency: 4,
            timeout: Duration::from_secs(60),
            pages: 10_000,
            visitors: 50_000,
        }
    }
}

impl Default for PurgeLimits {
    fn default() -> Self {
        Self {
            scopes: 10_000,
            in_progress: 3_000,
            remembered: 1_000,
            marks: 65_536,
            patterns: 1_000,
            log_bytes: None,
        }
    }
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            queue_bytes: 1 << 20,
            lines_per_second: 1_000,
        }
    }
}
