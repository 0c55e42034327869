"""The plan's data: everything that an ``Edge`` collected, in the shape that the core decodes.

The same shape is a plan file (TOML or JSON). The core refuses unknown fields and reports all problems at once;
here is only the shape and its bounds (docs/design.md §11, ``docs/limits.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple

from edgerouter.access_log import AccessLog
from edgerouter.cache import Duration
from edgerouter.checks import Check, Size, Value
from edgerouter.origins import Group, Origin
from edgerouter.prefetch import Prefetch
from edgerouter.routes import Hook, Route
from edgerouter.service_worker import ServiceWorker
from edgerouter.storage import DiskCache

__all__ = ["CallableSpec", "Called", "Limits", "Plan"]


class Limits(Value, frozen=True, kw_only=True):
    """Bounds on everything that a client, an origin or a hook could make grow.

    Sizes are bytes, or text such as ``"1GB"``; times are seconds.

    ``head_bytes``, ``head_fields``, ``url_bytes``  the most of a request's head (431) and URL (414)
    ``origin_head_bytes``, ``origin_head_fields``  of a response's head; past them the origin has answered badly (502)
    ``body_bytes``, ``replay_bytes``  of a request's body: the most that is passed on (413), that is kept for failover
    ``head_timeout``, ``idle_timeout``, ``body_timeout``  for a head to arrive, between requests, for a body to move on
    ``connections``  of clients, at a time
    ``drain_timeout``  for requests under way when the edge stops
    ``half_close_timeout``  for a request under way whose client has closed its own direction
    ``tunnel_idle``, ``event_idle``  how long a tunnel (WebSocket, …) or an event stream may be silent
    ``client_connections``  connections of one peer, an IPv6 network of 64 bits being one; none of the trusted proxies'.
        ``None``: 1,000, and no bound on loopback
    ``client_requests``  requests of one client that are under way and not answered from memory. ``None``: 256, and no
        bound on loopback
    ``request_memory_bytes``  memory beside the cache for all that clients can make grow: responses on their way, bodies
        and heads that are held
    ``memory_cache_bytes``  ``None``: a quarter of the machine's memory, at most 4 GiB
    ``largest_object_bytes``  ``None``: a tenth of the memory cache
    ``function_queue``  calls that wait for a thread or the event loop, and tasks of the event loop
    ``function_threads``  threads that run plain callables; ``None``: one for each core and 4 more, at most 32
    ``function_timeout``  for one call, its time in the queue included
    ``function_body_bytes``  the largest request body that a function is given (413)
    ``token_bytes``, ``remembered_tokens``  the largest token, and how many verified ones are remembered
    ``prefetch_concurrency``, ``prefetch_timeout``  how many prefetches go on at a time, and how long each
    ``predict_pages``, ``predict_visitors``  that the next-page model remembers
    ``background_tasks``, ``background_timeout``  how much ``ctx.wait_until`` goes on with at a time, and how long
    ``log_queue_bytes``  of lines that wait for the reader of a log, such as standard error; more are dropped, counted
    ``log_lines``  lines of the edge's own log in a second; more are left out and counted
    ``named_caches``  how many caches functions may open by name
    ``coalesce_timeout``  how long followers of a miss wait for its head before they fetch on their own
    ``slice_bytes``  objects larger than this are stored in slices of this size
    ``fill_bytes``  what range requests of one client address (IPv6: /64) may have origins send a minute beyond 16 times
        what it takes itself
    ``read_ahead_bytes``  how far the fetch of such an object runs ahead of its fastest reader
    ``purge_scopes``, ``purges_in_progress``  things that one purge may name, and all that are not completed
    ``purges_remembered``  completed purges that can be asked about, and whose references are known
    ``purge_marks``, ``purge_patterns``  URLs, hosts and tags, and path patterns, that are compared at look-up; past
        them what is stored from before the oldest counts as purged
    ``purge_log_bytes``  of the log beside the disk cache; ``None``: a 64th of its size, from 1 MiB to 64 MiB
    """

    head_bytes: Size = 65_536
    head_fields: int = 100
    origin_head_bytes: Size = 262_144
    origin_head_fields: int = 1_000
    url_bytes: Size = 16_384
    body_bytes: Size = 104_857_600
    replay_bytes: Size = 65_536
    head_timeout: Duration = 10.0
    idle_timeout: Duration = 75.0
    body_timeout: Duration = 30.0
    tunnel_idle: Duration = 3_600.0
    event_idle: Duration = 3_600.0
    half_close_timeout: Duration = 10.0
    connections: int = 50_000
    client_connections: int | None = None
    client_requests: int | None = None
    request_memory_bytes: int = 67_108_864
    drain_timeout: Duration = 30.0
    memory_cache_bytes: Size | None = None
    largest_object_bytes: Size | None = None
    function_queue: int = 1_000
    function_threads: int | None = None
    function_timeout: Duration = 10.0
    function_body_bytes: Size = 1_048_576
    background_tasks: int = 1_000
    background_timeout: Duration = 30.0
    named_caches: int = 32
    log_queue_bytes: Size = 1_048_576
    log_lines: int = 1_000
    token_bytes: Size = 8_192
    remembered_tokens: int = 100_000
    coalesce_timeout: Duration = 10.0
    slice_bytes: Size = 1_048_576
    fill_bytes: Size = 8_388_608
    read_ahead_bytes: Size = 8_388_608
    prefetch_concurrency: int = 4
    prefetch_timeout: Duration = 60.0
    predict_pages: int = 10_000
    predict_visitors: int = 50_000
    purge_scopes: int = 10_000
    purges_in_progress: int = 3_000
    purges_remembered: int = 1_000
    purge_marks: int = 65_536
    purge_patterns: int = 1_000
    purge_log_bytes: Size | None = None

    def _check(self, check: Check) -> None:
        check.whole("origin_head_bytes", least=1_024, most=16_777_216)
        check.whole("origin_head_fields", least=1, most=10_000)
        check.whole("head_bytes", "head_fields", "url_bytes", "connections", "function_queue", "token_bytes", least=1)
        check.whole("function_threads", least=1, most=1_000, optional=True)
        check.whole("prefetch_concurrency", least=1)
        check.whole("client_connections", "client_requests", least=1, most=10_000_000, optional=True)
        check.whole("request_memory_bytes", least=1_048_576)
        check.whole("predict_pages", "predict_visitors", least=2)
        check.whole("body_bytes", "replay_bytes", "function_body_bytes", "remembered_tokens")
        check.whole("slice_bytes", least=4_096, most=67_108_864)
        check.whole("read_ahead_bytes", least=65_536, most=1_073_741_824)
        check.whole("log_queue_bytes", least=65_536, most=1_073_741_824)
        check.whole("log_lines", least=1, most=1_000_000)
        check.whole("background_tasks", "named_caches")
        check.whole("fill_bytes", most=1_099_511_627_776)
        check.whole("memory_cache_bytes", "largest_object_bytes", optional=True)
        check.whole("purge_scopes", "purges_in_progress", "purges_remembered", least=1, most=1_000_000)
        check.whole("purge_marks", "purge_patterns", least=4, most=1_000_000)
        check.whole("purge_log_bytes", least=65_536, optional=True)
        check.seconds("tunnel_idle", "event_idle", positive=True)
        check.seconds("head_timeout", "idle_timeout", "body_timeout", "function_timeout", positive=True)
        check.seconds("half_close_timeout", positive=True)
        check.seconds("prefetch_timeout", positive=True)
        check.seconds("background_timeout", positive=True)
        check.seconds("drain_timeout", "coalesce_timeout")


class Called(Value, frozen=True, kw_only=True):
    """What the plan says about a function or hook; the callable itself stays in Python."""

    name: str
    inline: bool = False
    blocking: bool = False
    serial: bool = False
    timeout: Duration | None = None
    fail: Literal["open", "closed"] = "closed"

    def _check(self, check: Check) -> None:
        check.text("name")
        check.flag("inline", "blocking", "serial")
        check.seconds("timeout", optional=True, positive=True)
        check.choice("fail", ("open", "closed"))
        if self.inline is True and self.blocking is True:
            check.fail("inline", "cannot be combined with blocking: an inline callable promises never to wait")
        if self.inline is True and self.serial is True:
            check.fail("inline", "cannot be combined with serial: an inline callable runs on the thread that serves")


class CallableSpec(NamedTuple):
    """A callable as the function runtime takes it, in the plan's order."""

    callable: Callable[..., Any]
    is_async: bool
    inline: bool
    serial: bool
    timeout: float | None
    name: str


class Plan(Value, frozen=True, kw_only=True):
    """The whole."""

    version: Literal[1]
    name: str
    limits: Limits = Limits()
    disk_cache: DiskCache | None = None
    trusted_proxies: Collection[str] = ()
    trusted_proxy_fields: Collection[str] = ()
    via: str = "edgerouter"
    access_log: AccessLog | None = None
    origins: Collection[Origin] = ()
    groups: Collection[Group] = ()
    callables: Collection[Called] = ()
    hooks: Collection[Hook] = ()
    routes: Collection[Route] = ()
    service_workers: Collection[ServiceWorker] = ()
    prefetch: Collection[Prefetch] = ()

    def _check(self, check: Check) -> None:
        check.name("name")
        check.token("via")
        check.texts("trusted_proxies")
        check.texts("trusted_proxy_fields")
        check.instance("limits", Limits)
        check.instance("access_log", AccessLog, optional=True)
        check.instance("disk_cache", DiskCache, optional=True)
