//! Bounds on everything that a client, an origin or a hook could make grow, in groups (`docs/limits.md`).
//!
//! The names and defaults are those of `edgerouter.Limits`; one test compares both with the documentation.

use std::time::Duration;

use crate::bounds::clients::PerClient;

/// Every bound of an edge, by the part that keeps it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Connections and requests of clients.
    pub http: HttpLimits,
    /// Streams and frames of HTTP/2.
    pub http2: Http2Limits,
    /// Requests to origins and their responses.
    pub origins: OriginLimits,
    /// The memory cache and its fetches.
    pub cache: CacheLimits,
    /// Calls into Python.
    pub functions: FunctionLimits,
    /// Data that functions are bound to.
    pub data: DataLimits,
    /// Files that routes serve.
    pub files: FileLimits,
    /// Compression of responses.
    pub compression: CompressionLimits,
    /// Variants of images.
    pub images: ImageLimits,
    /// Sizes and numbers of tokens.
    pub identity: IdentityLimits,
    /// Prefetches, and the model of next pages.
    pub prefetch: PrefetchLimits,
    /// Purges and their marks.
    pub purge: PurgeLimits,
    /// Lines of logs; more are dropped and counted.
    pub log: LogLimits,
    /// Handshakes and sessions of TLS with clients.
    pub tls: TlsLimits,
}

/// Declares groups of limits, each field with its default.
macro_rules! limits {
    ($($(#[$doc:meta])+ $group:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)+ })+) => {$(
        $(#[$doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $group {
            $($(#[$field_doc])* pub $field: $type,)+
        }

        impl Default for $group {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }
    )+};
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn per_client(most: usize) -> PerClient {
    PerClient { most, set: false }
}

limits! {
    /// Connections and requests of clients.
    HttpLimits {
        /// Of a request; past it 431.
        head_bytes: usize = 64 << 10,
        /// Of a request; past it 431.
        head_fields: usize = 100,
        /// Of a request; past it 414.
        url_bytes: usize = 16 << 10,
        /// Of a request; past it 413.
        body_bytes: u64 = 100 << 20,
        /// Time for a whole head to arrive.
        head_timeout: Duration = seconds(10),
        /// Time in which a body must make progress.
        body_timeout: Duration = seconds(30),
        /// Time between two requests of a connection.
        idle_timeout: Duration = seconds(75),
        /// Time for a request whose client has sent the end of its bytes, while nothing of the answer is sent.
        half_close_timeout: Duration = seconds(10),
        /// Silence of a tunnel.
        tunnel_idle_timeout: Duration = seconds(3_600),
        /// Of all clients at a time.
        connections: usize = 50_000,
        /// Connections of one peer.
        client_connections: PerClient = per_client(1_000),
        /// Requests of one client that are under way and not answered from memory.
        client_requests: PerClient = per_client(128),
        /// Requests of one connection, after which it is closed.
        connection_requests: u64 = 100_000,
        /// Bytes a second that a client must send or take while it is waited for; 0: no bound.
        min_rate: u64 = 240,
        /// Keys of rate limits whose counts are kept, 16 bytes each.
        rate_keys: usize = 128 << 10,
        /// Requests that wait for their turn under a rate limit.
        delayed_requests: usize = 1_000,
        /// Pipes of one worker through which the kernel moves content from an origin to a client; 0: it is copied.
        pipes: usize = 16,
        /// The account of memory that clients can make grow.
        request_memory_bytes: u64 = 64 << 20,
        /// Time for requests under way when the edge stops.
        drain_timeout: Duration = seconds(30),
    }

    /// Streams and frames of one connection of HTTP/2.
    Http2Limits {
        /// Requests at a time.
        streams: u32 = 128,
        /// Content of one request that a client may send ahead of its reader.
        stream_window_bytes: u32 = 64 << 10,
        /// Content of all requests of a connection together that a client may send ahead of their readers.
        connection_window_bytes: u32 = 1 << 20,
        /// Streams a minute that the client resets, or that are reset for its errors.
        resets: u32 = 100,
        /// Frames a minute that carry neither fields nor content; twenty times as many with a few bytes of content.
        control_frames: u32 = 1_000,
    }

    /// Requests to origins and their responses.
    OriginLimits {
        /// Of a response; past it 502.
        head_bytes: usize = 256 << 10,
        /// Of a response; past it 502.
        head_fields: usize = 1_000,
        /// Of a request's body, kept to be sent again.
        replay_bytes: usize = 64 << 10,
        /// Silence of an event stream.
        event_idle_timeout: Duration = seconds(3_600),
    }

    /// The memory cache and the fetches that fill it.
    CacheLimits {
        /// `None`: a quarter of the memory of the machine or container, at most 4 GiB.
        memory_bytes: Option<u64> = None,
        /// `None`: a tenth of the memory cache.
        largest_object_bytes: Option<u64> = None,
        /// Objects of more than one slice are stored in slices.
        slice_bytes: u64 = 1 << 20,
        /// Distance of the fetch of a large object from its fastest reader.
        read_ahead_bytes: u64 = 8 << 20,
        /// Bytes a minute that range requests of one address may have fetched beyond a multiple of what it takes.
        fill_bytes: u64 = 8 << 20,
        /// Time that followers wait for the head of a shared fetch before each fetches on its own.
        coalesce_timeout: Duration = seconds(10),
    }

    /// Calls into Python.
    FunctionLimits {
        /// Calls that wait for a thread or the event loop, and tasks of the event loop.
        queue: usize = 1_000,
        /// Threads that run plain callables; `None`: one for each core and 4 more, at most 32.
        threads: Option<usize> = None,
        /// Time for one call, its time in the queue included, if the callable has none of its own.
        timeout: Duration = seconds(10),
        /// Largest request body that a function is given; past it 413.
        body_bytes: usize = 1 << 20,
        /// Work of `wait_until`, which goes on after the response.
        background_tasks: usize = 1_000,
        /// Time for one such task.
        background_timeout: Duration = seconds(30),
        /// Caches that functions open by name.
        named_caches: usize = 32,
        /// Responses that functions stream at a time; past it 503.
        streams: usize = 1_000,
        /// Largest response that `ctx.fetch` takes in.
        fetch_bytes: usize = 10 << 20,
    }

    /// Files that routes serve.
    FileLimits {
        /// Threads that open and read files.
        threads: usize = 8,
        /// Requests that wait for one of them; past it 503.
        queue: usize = 1_024,
        /// Files that are open while they are sent; past it 503.
        open_files: usize = 1_024,
        /// Files that a worker keeps open for a second, for the requests right after.
        kept_files: usize = 64,
        /// Time for a file to be opened, and for a piece of it to be read.
        timeout: Duration = seconds(10),
        /// Names in the list of a folder.
        listed_names: usize = 1_000,
    }

    /// Data that functions are bound to; each bound is for one binding.
    DataLimits {
        /// Of one value, stored or bound to a statement.
        value_bytes: usize = 1 << 20,
        /// Of all entries of a store in memory.
        store_bytes: usize = 64 << 20,
        /// Entries of a store in memory.
        store_entries: usize = 100_000,
        /// Of the rows that one call of a database gives.
        result_bytes: usize = 16 << 20,
        /// Of a read cache.
        cache_bytes: usize = 16 << 20,
        /// Threads that read a file, each with a connection; connections to a database server.
        connections: usize = 4,
        /// Operations under way; past it an error.
        operations: usize = 1_000,
        /// Time for one operation.
        timeout: Duration = seconds(5),
    }

    /// Compression of responses.
    CompressionLimits {
        /// Threads that compress; `None`: one for each core.
        threads: Option<usize> = None,
        /// Responses that are being compressed; further ones are sent as they are.
        responses: usize = 256,
        /// Coded variants of stored responses that are being made; 0: none are made.
        variants: usize = 8,
        /// Time for a step of 64 KiB, the wait for a thread included.
        timeout: Duration = seconds(30),
    }

    /// Variants of images.
    ImageLimits {
        /// Threads that make variants; `None`: one for two cores. Half as many more, at least one, make AVIF.
        threads: Option<usize> = None,
        /// Variants that wait for a thread, AVIF apart; past it 503.
        queue: usize = 64,
        /// Of the image as its origin sends it; past it 422.
        source_bytes: usize = 20 << 20,
        /// Of an image that is decoded; past it 422.
        pixels: u64 = 32_000_000,
        /// Of a variant in AVIF; past it WebP where the format is negotiated, otherwise 422.
        avif_pixels: u64 = 2_000_000,
        /// Time for one variant, the wait for a thread included; past it 503.
        timeout: Duration = seconds(30),
    }

    /// Tokens.
    IdentityLimits {
        /// Of one token; a longer one is refused.
        token_bytes: usize = 8 << 10,
        /// Verified tokens that need no second check of their signature; 0: none.
        remembered_tokens: usize = 100_000,
    }

    /// Prefetches, and the model of next pages.
    PrefetchLimits {
        /// Prefetches at a time.
        concurrency: usize = 4,
        /// Time for one prefetch.
        timeout: Duration = seconds(60),
        /// Pages that the model of next pages remembers.
        pages: usize = 10_000,
        /// Visitors that the model of next pages remembers.
        visitors: usize = 50_000,
    }

    /// Purges and their marks.
    PurgeLimits {
        /// Things that one purge may name.
        scopes: usize = 10_000,
        /// Things named by purges that are not completed yet.
        in_progress: usize = 3_000,
        /// Completed purges that are remembered with their counts, and by their references.
        remembered: usize = 1_000,
        /// URLs, hosts and tags compared at look-up; past it all from before the oldest counts as purged.
        marks: usize = 65_536,
        /// Path patterns compared at look-up; past it as with `marks`.
        patterns: usize = 1_000,
        /// `None`: a 64th of the disk cache, from 1 MiB to 64 MiB.
        log_bytes: Option<u64> = None,
    }

    /// Handshakes and sessions of TLS with clients.
    TlsLimits {
        /// Time from the connection to the end of the handshake.
        handshake_timeout: Duration = seconds(10),
        /// Handshakes whose first bytes have come and that have not ended; further ones wait.
        handshakes: usize = 4_096,
        /// Sessions of one TLS policy that are kept for clients of TLS 1.2 without tickets.
        sessions: usize = 4_096,
        /// Time for one exchange with an issuer of certificates.
        issuer_timeout: Duration = seconds(30),
        /// Time for one order of a certificate.
        order_timeout: Duration = seconds(300),
        /// Orders of certificates that may begin within a minute.
        orders_per_minute: u32 = 10,
        /// Names that a callable has allowed certificates for.
        allowed_names: usize = 1_000,
    }

    /// Lines of logs.
    LogLimits {
        /// Bytes of lines that wait for the reader of a log.
        queue_bytes: usize = 1 << 20,
        /// Lines of the edge's own log.
        lines_per_second: u32 = 1_000,
    }
}
