"""Bounds on everything that a client, an origin or a function could make grow, in groups (``docs/limits.md``)."""

from __future__ import annotations

import msgspec

from edgerouter.cache import Duration
from edgerouter.checks import Check, Size, Value

__all__ = [
    "CacheLimits",
    "CompressionLimits",
    "DataLimits",
    "FileLimits",
    "FunctionLimits",
    "Http2Limits",
    "HttpLimits",
    "IdentityLimits",
    "Limits",
    "LogLimits",
    "OriginLimits",
    "PrefetchLimits",
    "PurgeLimits",
    "TlsLimits",
]


class HttpLimits(Value, frozen=True, kw_only=True):
    """Connections and requests of clients.

    ``head_bytes``, ``head_fields``, ``url_bytes``  of a request; past them 431, and 414 for the URL
    ``body_bytes``  of a request; past it 413
    ``head_timeout``, ``body_timeout``  seconds for a head to arrive, and for a body to make progress
    ``idle_timeout``  seconds between two requests of a connection
    ``half_close_timeout``  seconds for a request whose client has closed its own direction
    ``tunnel_idle_timeout``  seconds that a tunnel (WebSocket, …) may be silent
    ``connections``  of all clients at a time
    ``client_connections``  of one peer; an IPv6 network of 64 bits is one, trusted proxies are not counted. ``None``:
        1,000, and no bound on loopback
    ``client_requests``  of one client, under way and not answered from memory. ``None``: 128, and no bound on loopback
    ``connection_requests``  of one connection, which is closed after them
    ``min_rate``  bytes a second, over ``body_timeout``, that a client must send of a body or take of a response while
        the edge waits for it; 0: no bound
    ``rate_keys``  clients, fields or claims whose counts under rate limits are kept, 16 bytes each; read at the start
    ``delayed_requests``  that wait for their turn under a rate limit, or for keys of an issuer;
        more are refused
    ``pipes``  of one worker, by which the kernel moves content from an origin's socket into a client's without a copy;
        past them, and for 0, it is copied
    ``request_memory_bytes``  beside the cache, for all that clients can make grow: responses on their way, bodies and
        heads that are held
    ``drain_timeout``  seconds for requests under way when the edge stops
    """

    head_bytes: Size = 65_536
    head_fields: int = 100
    url_bytes: Size = 16_384
    body_bytes: Size = 104_857_600
    head_timeout: Duration = 10.0
    body_timeout: Duration = 30.0
    idle_timeout: Duration = 75.0
    half_close_timeout: Duration = 10.0
    tunnel_idle_timeout: Duration = 3_600.0
    connections: int = 50_000
    client_connections: int | None = None
    client_requests: int | None = None
    connection_requests: int = 100_000
    min_rate: int = 240
    rate_keys: int = 131_072
    delayed_requests: int = 1_000
    pipes: int = 16
    request_memory_bytes: Size = 67_108_864
    drain_timeout: Duration = 30.0

    def _check(self, check: Check) -> None:
        check.whole("head_bytes", "head_fields", "url_bytes", "connections", least=1)
        check.whole("body_bytes")
        check.whole("client_connections", "client_requests", least=1, most=10_000_000, optional=True)
        check.whole("connection_requests", least=1)
        check.whole("min_rate")
        check.whole("rate_keys", least=1_024, most=16_777_216)
        check.whole("delayed_requests", most=1_048_576)
        check.whole("pipes", most=1_024)
        check.whole("request_memory_bytes", least=1_048_576)
        check.seconds("head_timeout", "body_timeout", "half_close_timeout", "tunnel_idle_timeout", positive=True)
        check.seconds("idle_timeout", positive=True)
        check.seconds("drain_timeout")


class Http2Limits(Value, frozen=True, kw_only=True):
    """Streams and frames of one connection of HTTP/2. A stream past ``streams`` is refused; past the others the
    connection is closed.

    ``streams``  requests at a time
    ``stream_window_bytes``, ``connection_window_bytes``  content that a client may send ahead of its reader: of one
        request, and of all
    ``resets``  streams a minute that the client resets, or that are reset for its errors
    ``control_frames``  a minute, that carry neither fields nor content (PING, SETTINGS, PRIORITY, unknown ones); twenty
        times as many with a few bytes of content
    """

    streams: int = 128
    stream_window_bytes: Size = 65_536
    connection_window_bytes: Size = 1_048_576
    resets: int = 100
    control_frames: int = 1_000

    def _check(self, check: Check) -> None:
        check.whole("streams", least=1, most=10_000)
        check.whole("stream_window_bytes", least=16_384, most=16_777_216)
        check.whole("connection_window_bytes", least=65_536, most=67_108_864)
        check.whole("resets", least=1, most=1_000_000)
        check.whole("control_frames", least=10, most=1_000_000)


class OriginLimits(Value, frozen=True, kw_only=True):
    """Requests to origins and their responses.

    ``head_bytes``, ``head_fields``  of a response; past them the origin has answered badly (502). All interim responses
    to a request have ``head_bytes``, too
    ``replay_bytes``  of a request's body that is kept to be sent again
    ``event_idle_timeout``  seconds that an event stream may be silent
    """

    head_bytes: Size = 262_144
    head_fields: int = 1_000
    replay_bytes: Size = 65_536
    event_idle_timeout: Duration = 3_600.0

    def _check(self, check: Check) -> None:
        check.whole("head_bytes", least=1_024, most=16_777_216)
        check.whole("head_fields", least=1, most=10_000)
        check.whole("replay_bytes")
        check.seconds("event_idle_timeout", positive=True)


class CacheLimits(Value, frozen=True, kw_only=True):
    """The memory cache and the fetches that fill it.

    ``memory_bytes``  ``None``: a quarter of the memory of the machine or container, at most 4 GiB
    ``largest_object_bytes``  ``None``: a tenth of the memory cache
    ``slice_bytes``  objects larger than this are stored in slices of this size
    ``read_ahead_bytes``  distance of the fetch of such an object from its fastest reader
    ``fill_bytes``  a minute, that range requests of one client address (IPv6: /64) may make origins send beyond 16
        times what it takes itself
    ``coalesce_timeout``  seconds that followers of a miss wait for its head before they fetch on their own
    """

    memory_bytes: Size | None = None
    largest_object_bytes: Size | None = None
    slice_bytes: Size = 1_048_576
    read_ahead_bytes: Size = 8_388_608
    fill_bytes: Size = 8_388_608
    coalesce_timeout: Duration = 10.0

    def _check(self, check: Check) -> None:
        check.whole("memory_bytes", "largest_object_bytes", optional=True)
        check.whole("slice_bytes", least=4_096, most=67_108_864)
        check.whole("read_ahead_bytes", least=65_536, most=1_073_741_824)
        check.whole("fill_bytes", most=1_099_511_627_776)
        check.seconds("coalesce_timeout")


class FunctionLimits(Value, frozen=True, kw_only=True):
    """Calls into Python: functions and hooks.

    ``queue``  calls that wait for a thread or the event loop, and tasks of the event loop
    ``threads``  that run plain callables; ``None``: one for each core and 4 more, at most 32
    ``timeout``  seconds for one call, its time in the queue included
    ``body_bytes``  the largest request body that a function is given; past it 413
    ``background_tasks``, ``background_timeout``  of ``ctx.wait_until``: how many at a time, and seconds for each
    ``named_caches``  that functions may open
    ``streams``  responses that functions stream at a time; past it 503
    ``fetch_bytes``  the largest response that ``ctx.fetch`` takes in
    """

    queue: int = 1_000
    threads: int | None = None
    timeout: Duration = 10.0
    body_bytes: Size = 1_048_576
    background_tasks: int = 1_000
    background_timeout: Duration = 30.0
    named_caches: int = 32
    streams: int = 1_000
    fetch_bytes: Size = 10_485_760

    def _check(self, check: Check) -> None:
        check.whole("queue", least=1)
        check.whole("threads", least=1, most=1_000, optional=True)
        check.whole("body_bytes", "background_tasks", "named_caches", "streams", "fetch_bytes")
        check.seconds("timeout", "background_timeout", positive=True)


class DataLimits(Value, frozen=True, kw_only=True):
    """Data that functions are bound to; each bound is for one binding.

    ``value_bytes``  of one value, stored or bound to a statement
    ``result_bytes``  of the rows that one call of a database gives
    ``store_bytes``, ``store_entries``  of a store in memory; past them a put is refused
    ``cache_bytes``  of the read cache of a store elsewhere
    ``connections``  threads that read a file, each with a connection; one more writes. Connections to a database server
    ``operations``  under way at a time; past it ``BindingError``
    ``timeout``  seconds for one operation
    """

    value_bytes: Size = 1_048_576
    store_bytes: Size = 67_108_864
    store_entries: int = 100_000
    result_bytes: Size = 16_777_216
    cache_bytes: Size = 16_777_216
    connections: int = 4
    operations: int = 1_000
    timeout: Duration = 5.0

    def _check(self, check: Check) -> None:
        check.whole("value_bytes", least=1, most=67_108_864)
        check.whole("result_bytes", least=65_536, most=1_073_741_824)
        check.whole("store_bytes", "cache_bytes", least=1_048_576)
        check.whole("store_entries", least=1, most=100_000_000)
        check.whole("connections", least=1, most=256)
        check.whole("operations", least=1, most=1_000_000)
        check.seconds("timeout", positive=True)


class FileLimits(Value, frozen=True, kw_only=True):
    """Files that routes serve (``Edge.files``).

    ``threads``, ``queue``  that open and read files, and requests that wait for one of them; past it 503
    ``open_files``  that are open while they are sent, at most a quarter of the process's limit; past it 503
    ``kept_files``  that each worker keeps open for a second, for the requests right after; 0: none
    ``timeout``  seconds for a file to be opened, and for a piece of it to be read
    ``listed_names``  in the list of a folder
    """

    threads: int = 8
    queue: int = 1_024
    open_files: int = 1_024
    kept_files: int = 64
    timeout: Duration = 10.0
    listed_names: int = 1_000

    def _check(self, check: Check) -> None:
        check.whole("threads", least=1, most=256)
        check.whole("queue", "open_files", least=1, most=1_000_000)
        check.whole("kept_files", least=0, most=10_000)
        check.whole("listed_names", least=1, most=100_000)
        check.seconds("timeout", positive=True)


class CompressionLimits(Value, frozen=True, kw_only=True):
    """Compression of responses (``compress=True``).

    ``threads``  that compress; ``None``: one for each core
    ``responses``  that are being compressed at a time; further ones are sent as they are
    ``variants``  of stored responses that are being made at a time; further ones are made later, with 0 none
    ``timeout``  seconds for a step of 64 KiB, the wait for a thread included
    """

    threads: int | None = None
    responses: int = 256
    variants: int = 8
    timeout: Duration = 30.0

    def _check(self, check: Check) -> None:
        check.whole("threads", least=1, most=1_000, optional=True)
        check.whole("responses", least=1, most=1_000_000)
        check.whole("variants", least=0, most=1_000_000)
        check.seconds("timeout", positive=True)


class ImageLimits(Value, frozen=True, kw_only=True):
    """Variants of images (``Images``).

    ``threads``  that make variants; ``None``: one for two cores. Half as many more, at least one, make AVIF
    ``queue``  variants that wait for a thread, AVIF apart; past it 503
    ``source_bytes``, ``pixels``  of an image as its origin sends it; past them 422
    ``avif_pixels``  of a variant in AVIF; past it WebP, or 422 where a request insists on AVIF
    ``timeout``  seconds for one variant, the wait for a thread included; past it 503
    """

    threads: int | None = None
    queue: int = 64
    source_bytes: Size = 20_971_520
    pixels: int = 32_000_000
    avif_pixels: int = 2_000_000
    timeout: Duration = 30.0

    def _check(self, check: Check) -> None:
        check.whole("threads", least=1, most=256, optional=True)
        check.whole("queue", least=1, most=100_000)
        check.whole("source_bytes", least=1_024, most=1_073_741_824)
        check.whole("pixels", least=1, most=1_000_000_000)
        check.whole("avif_pixels", least=0, most=100_000_000)
        check.seconds("timeout", positive=True)


class IdentityLimits(Value, frozen=True, kw_only=True):
    """Tokens: ``token_bytes`` is the largest, ``remembered_tokens`` is how many verified ones are remembered."""

    token_bytes: Size = 8_192
    remembered_tokens: int = 100_000

    def _check(self, check: Check) -> None:
        check.whole("token_bytes", least=1)
        check.whole("remembered_tokens")


class PrefetchLimits(Value, frozen=True, kw_only=True):
    """Prefetches and the next-page model.

    ``concurrency``, ``timeout``  prefetches at a time, and seconds for each
    ``pages``, ``visitors``  that the next-page model remembers
    """

    concurrency: int = 4
    timeout: Duration = 60.0
    pages: int = 10_000
    visitors: int = 50_000

    def _check(self, check: Check) -> None:
        check.whole("concurrency", least=1)
        check.whole("pages", "visitors", least=2)
        check.seconds("timeout", positive=True)


class PurgeLimits(Value, frozen=True, kw_only=True):
    """Purges and their marks.

    ``scopes``, ``in_progress``  things that one purge may name, and that all purges in progress name together
    ``remembered``  completed purges whose counts and references are known
    ``marks``, ``patterns``  URLs, hosts and tags, and path patterns, that are compared at look-up; past them what is
        stored from before the oldest counts as purged
    ``log_bytes``  of the log beside the disk cache; ``None``: a 64th of its size, from 1 MiB to 64 MiB
    """

    scopes: int = 10_000
    in_progress: int = 3_000
    remembered: int = 1_000
    marks: int = 65_536
    patterns: int = 1_000
    log_bytes: Size | None = None

    def _check(self, check: Check) -> None:
        check.whole("scopes", "in_progress", "remembered", least=1, most=1_000_000)
        check.whole("marks", "patterns", least=4, most=1_000_000)
        check.whole("log_bytes", least=65_536, optional=True)


class LogLimits(Value, frozen=True, kw_only=True):
    """Lines of logs; more are dropped and counted.

    ``queue_bytes``  of lines that wait for the reader of one log, such as standard error
    ``lines_per_second``  of the edge's own log
    """

    queue_bytes: Size = 1_048_576
    lines_per_second: int = 1_000

    def _check(self, check: Check) -> None:
        check.whole("queue_bytes", least=65_536, most=1_073_741_824)
        check.whole("lines_per_second", least=1, most=1_000_000)


class TlsLimits(Value, frozen=True, kw_only=True):
    """TLS with clients.

    ``handshake_timeout``  seconds from the connection to the end of the handshake
    ``handshakes``  that have begun and not ended; further ones wait for a place
    ``sessions``  of each TLS policy that are kept for clients of TLS 1.2 without tickets; 0 keeps none
    ``issuer_timeout``, ``order_timeout``  seconds for one exchange with an issuer of certificates (``Acme``), and for a
        whole order
    ``orders_per_minute``  orders of certificates that may begin within a minute
    ``allowed_names``  names that the function of ``Acme(on_demand=)`` may have allowed
    """

    handshake_timeout: Duration = 10.0
    handshakes: int = 4_096
    sessions: int = 4_096
    issuer_timeout: Duration = 30.0
    order_timeout: Duration = 300.0
    orders_per_minute: int = 10
    allowed_names: int = 1_000

    def _check(self, check: Check) -> None:
        check.seconds("handshake_timeout", "issuer_timeout", "order_timeout", positive=True)
        check.whole("handshakes", least=1, most=1_000_000)
        check.whole("sessions", most=1_000_000)
        check.whole("orders_per_minute", least=1, most=6_000)
        check.whole("allowed_names", least=1, most=10_000)


class Limits(Value, frozen=True, kw_only=True):
    """Every bound of an edge, by the part that keeps it. Sizes are bytes, or text such as ``"1GB"``; times are seconds.

    ``http``, ``http2``, ``origins``  connections, requests and responses on the clients' side and on the origins'
    ``cache``, ``purge``  the memory cache and its fetches, and purges
    ``functions``, ``data``  calls into Python, and the stores that they use
    ``files``, ``compression``, ``images``  files that routes serve, compressed responses, variants of images
    ``identity``, ``prefetch``, ``log``  tokens, prefetches, and lines of logs
    ``tls``  handshakes and sessions
    """

    http: HttpLimits = HttpLimits()
    http2: Http2Limits = Http2Limits()
    origins: OriginLimits = OriginLimits()
    cache: CacheLimits = CacheLimits()
    functions: FunctionLimits = FunctionLimits()
    data: DataLimits = DataLimits()
    files: FileLimits = FileLimits()
    compression: CompressionLimits = CompressionLimits()
    images: ImageLimits = ImageLimits()
    identity: IdentityLimits = IdentityLimits()
    prefetch: PrefetchLimits = PrefetchLimits()
    purge: PurgeLimits = PurgeLimits()
    log: LogLimits = LogLimits()
    tls: TlsLimits = TlsLimits()

    def _check(self, check: Check) -> None:
        for field in msgspec.structs.fields(type(self)):
            check.instance(field.name, type(field.default))
