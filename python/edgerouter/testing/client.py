"""``Client``: a client of httpx for an edge that it serves itself, with origins, clock and addresses of the test's own.

Each request passes the whole pipeline over a real socket. Clients' addresses arrive by the PROXY protocol, which the
listeners of the test understand, so nothing of the plan is trusted more than in service.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
import re
import ssl
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, Problem
from edgerouter.experiments import Experiment
from edgerouter.listening import Certificate
from edgerouter.secrets import Secret
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.testing.origins import Answer, FakeOrigin
from edgerouter.testing.places import file_of
from edgerouter.testing.staging import StagedEdge, check_names, names

try:
    import httpcore
    import httpx
except ImportError as missing:
    raise ImportError("edgerouter.testing.Client needs httpx: pip install 'edgerouter[testing]'") from missing

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CacheResult", "Client", "Clock", "Exchange"]

#: Exchanges that are remembered; addresses whose connections are kept.
_REMEMBERED, _ADDRESSES = 10_000, 64
#: A member of ``Cache-Status`` and the parameters of one, which may be texts in quotes (RFC 8941). A text alone is the
#: name of a cache.
_MEMBER = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+')
_PARAMETER = re.compile(r'"(?:[^"\\]|\\.)*"|;\s*([a-z*][a-z0-9_.*-]*)(?:=("(?:[^"\\]|\\.)*"|[^;\s]*))?')
#: Ids that are tried for a variant.
_IDS = 100_000
#: The last second of the year 9999, beyond which dates of HTTP have no form.
_LAST = 253_402_300_799


class CacheResult(NamedTuple):
    """The part of the cache in a response, by its ``Cache-Status`` (RFC 9211)."""

    hit: bool
    """The response was stored before."""
    forwarded: str | None
    """The reason for a request to the origin: ``uri-miss``, ``stale``, ``bypass``, …"""
    stored: bool
    """The response is stored now."""
    ttl: int | None
    """Seconds of its lifetime that are left."""
    detail: str | None
    """The edge's own word for the reason."""

    @classmethod
    def of(cls, response: httpx.Response) -> CacheResult:
        """The result of a response: the last member, behind those of an origin and of what a function fetched."""
        *_, last = _MEMBER.findall(response.headers.get("cache-status", "")) or [""]
        pairs = {name: value for name, value in _PARAMETER.findall(last) if name}
        ttl = pairs.get("ttl")
        return cls(
            hit="hit" in pairs,
            forwarded=pairs.get("fwd"),
            stored="stored" in pairs,
            ttl=int(ttl) if ttl is not None and re.fullmatch(r"-?\d+", ttl) else None,
            detail=pairs.get("detail"),
        )


class Exchange(NamedTuple):
    """A request and its response, as the client has seen them."""

    request: httpx.Request
    """The request."""
    response: httpx.Response
    """The response; a streamed one may not be complete yet."""
    address: str
    """The address of the client."""

    @property
    def cache(self) -> CacheResult:
        """The part of the cache in it."""
        return CacheResult.of(self.response)


class Clock:
    """The wall clock of the edge and of its fake origins: it is set, and goes on from there.

    Ages, lifetimes and tokens follow it; time-outs do not.
    """

    def __init__(self, shift: Callable[[int], None]) -> None:
        self._shift = shift
        self._offset = 0

    def now(self) -> float:
        """Its Unix seconds."""
        return time.time() + self._offset

    def set(self, at: datetime | float) -> None:
        """Sets it to a time with a zone, or to Unix seconds."""
        if isinstance(at, datetime) and at.tzinfo is None:
            raise ValueError(f"Clock.set: {at!r} must have a time zone, such as datetime.UTC")
        seconds = at.timestamp() if isinstance(at, datetime) else _finite("set", at)
        self._move(math.ceil(seconds - time.time()))

    def advance(self, by: timedelta | float) -> None:
        """Sets it forward, or back by a negative time."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else _finite("advance", by)
        self._move(self._offset + round(seconds))

    def _move(self, offset: int) -> None:
        if not 0 <= time.time() + offset <= _LAST:
            raise ValueError(f"Clock: {offset} seconds from now is not between the years 1970 and 9999")
        self._shift(offset)
        self._offset = offset


def _finite(method: str, given: float) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise ValueError(
            f"Clock.{method}: {given!r} must be seconds, a {'datetime' if method == 'set' else 'timedelta'}"
        )
    return given


class Client(httpx.Client):
    """Serves an edge and is a client for it; use it in a ``with`` block.

    >>> with Client(edge, origins={"site": {"/": "hello"}}) as client:      # doctest: +SKIP
    ...     assert client.get("/").text == "hello"
    ...     client.clock.advance(3600)

    ``edge``  the edge, or an application as ``edgerouter run`` takes it
    ``origins``  replies of origins by their names: a ``FakeOrigin``, paths and their replies, or a function; an origin
        that is not named is a ``FakeOrigin`` without replies, and a URL leaves it to a server of the test's own
    ``address``  the address of the client, which may be changed at any time
    ``variants``  variants of experiments: ``{"home": "treatment"}``
    ``places``  the places of addresses, in place of the edge's files: ``{"203.0.113.7": {"country": "DE"}}``, by the
        names of ``request.geo``
    ``host``  the host of URLs without one; ``None``: the first of the edge's ``hosts``, or ``edge.test``
    ``debug_errors``  error pages of functions have the traceback for clients with a loopback address
    ``workers``  threads that serve
    ``http2``  URLs with ``https`` are requested by HTTP/2

    The other arguments are those of ``httpx.Client``. URLs of any host go to the edge, those with ``https`` by TLS.
    """

    def __init__(
        self,
        edge: Edge | str | os.PathLike[str],
        *,
        origins: Mapping[str, FakeOrigin | Mapping[str, Answer] | Callable[..., Any] | str] | None = None,
        address: str = "127.0.0.1",
        variants: Mapping[str, str] | None = None,
        places: Mapping[str, Mapping[str, Any]] | None = None,
        host: str | None = None,
        debug_errors: bool = True,
        workers: int = 1,
        http2: bool = False,
        timeout: float = 10.0,
        follow_redirects: bool = False,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        cookies: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(edge, (Edge, str, os.PathLike)):
            raise TypeError(f"Client.edge: must be an Edge or the path of its file, not {type(edge).__name__}")
        mappings = {"origins": origins, "variants": variants, "places": places, "cookies": cookies}
        for name, given in mappings.items():
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(f"Client.{name}: must be a mapping, not {type(given).__name__}")
        if not isinstance(edge, Edge):
            from edgerouter.application import FileApplication

            edge = FileApplication(os.fspath(edge)).load()
        self.edge = edge
        #: The origins of the test by name.
        self.origins: dict[str, FakeOrigin] = {}
        #: Requests and their responses, oldest first.
        self.exchanges: deque[Exchange] = deque(maxlen=_REMEMBERED)
        self.clock = Clock(lambda seconds: self.server.engine.shift_clock(seconds))
        self._urls: dict[str, str] = {}
        self._made: list[FakeOrigin] = []
        self._certificate = _certificate()
        self._stopped = False
        self.address = address
        self._places = _places_of(edge, places)
        check_names(edge, origins or {})
        try:
            self._stage(edge, origins or {})
            settings = Settings(admin="127.0.0.1:0", workers=workers, debug_errors=debug_errors)
            #: The server of the edge.
            self.server = Server.start(self._staged(edge), settings, test_clock=True)
        except BaseException:
            self._close_origins()
            raise
        hosts = [str(name) for name in edge.to_dict().get("hosts", ())]
        host = host or next(iter(hosts), "edge.test").replace("*", "www")
        try:
            super().__init__(
                base_url=f"http://{host}",
                transport=_Wire(self, self.server.urls, http2=http2),
                timeout=timeout,
                follow_redirects=follow_redirects,
                headers=list(headers.items()) if isinstance(headers, Mapping) else list(headers or ()),
                cookies=dict(cookies or {}),
                trust_env=False,
            )
        except BaseException:
            # There is no client yet that could be closed.
            self.server.stop()
            self._close_origins()
            raise
        try:
            for experiment, variant in (variants or {}).items():
                self.choose(experiment, variant)
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """The address of the client for the requests that follow."""
        return self._address

    @address.setter
    def address(self, address: str) -> None:
        try:
            # A number would be an address, too.
            self._address = str(ipaddress.ip_address(str(address)))
        except ValueError:
            raise ValueError(f"Client.address: {address!r} must be an IP address such as 203.0.113.7") from None

    @property
    def admin_url(self) -> str:
        """The URL of the admin listener."""
        return self.server.admin_url or ""

    @property
    def cache(self) -> CacheResult:
        """The part of the cache in the last response."""
        if not self.exchanges:
            raise LookupError("Client.cache: there is no response yet; make a request first")
        return self.exchanges[-1].cache

    def choose(self, experiment: str, variant: str) -> None:
        """Is in this variant of an experiment from now on, by its cookie or the field that decides."""
        found = self._experiment(experiment, variant)
        by = found.by
        if by is None:
            if found.cookie in self.cookies:
                self.cookies.delete(found.cookie)
            self.cookies.set(found.cookie, variant)
        elif by.startswith("header:"):
            self.headers[by.removeprefix("header:")] = self.id_for(experiment, variant)
        else:
            raise ValueError(
                f"Client.choose: {experiment!r} decides by {by!r}, which is in the token: sign one for "
                f"client.id_for({experiment!r}, {variant!r})"
            )

    def id_for(self, experiment: str, variant: str) -> str:
        """An id (``by=``) that is in this variant of an experiment."""
        from edgerouter import _core

        encoded = msgspec.json.encode(self._experiment(experiment, variant))
        for number in range(_IDS):
            if _core.bucket(encoded, f"visitor-{number}") == variant:
                return f"visitor-{number}"
        raise ValueError(f"Client.id_for: no id is in {variant!r} of {experiment!r}: its weight is too small")

    def reload(self, edge: Edge) -> int:
        """Puts another edge in service, with origins as before; returns the version."""
        self._stage(edge, {})
        version = self.server.reload(self._staged(edge))
        self.edge = edge
        return version

    def close(self) -> None:
        """Ends the edge and its origins."""
        if self._stopped:
            return
        self._stopped = True
        super().close()
        # A stalled origin would hold the drain.
        for origin in self._made:
            origin.fault(None)
        self.server.stop(5.0)
        self._close_origins()

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        self.close()

    def _stage(self, edge: Edge, origins: Mapping[str, Any]) -> None:
        """Makes the origins of an edge that there are not yet."""
        for name in names(edge):
            given = origins.get(name)
            if name in self._urls:
                continue
            if isinstance(given, str):
                self._urls[name] = given.rstrip("/")
                continue
            if isinstance(given, FakeOrigin):
                origin = given
                origin.clock = self.clock.now
            else:
                origin = FakeOrigin(given, name=name, clock=self.clock.now)
                self._made.append(origin)
            self.origins[name] = origin
            self._urls[name] = origin.url

    def _staged(self, edge: Edge) -> Edge:
        return StagedEdge(edge, dict(self._urls), self._certificate, str(self._places.name) if self._places else None)

    def _close_origins(self) -> None:
        for origin in self._made:
            origin.close()
        if self._places is not None:
            self._places.close()

    def _experiment(self, name: str, variant: str) -> Experiment:
        routes = self.edge.to_dict().get("routes", ())
        known = {it["name"]: Experiment(**it) for route in routes for it in route.get("experiments", ())}
        if name not in known:
            raise ValueError(f"{name!r} is no experiment of the edge; it has {', '.join(known) or 'none'}")
        found = known[name]
        variants = [it[0] for it in cast("Iterable[tuple[str, float]]", found.variants)]
        if variant not in variants:
            raise ValueError(f"{variant!r} is no variant of {name!r}; it has {', '.join(variants)}")
        return found


def _places_of(edge: Edge, places: Mapping[str, Mapping[str, Any]] | None) -> IO[bytes] | None:
    """The file of places for an edge that looks places up."""
    if places is None:
        return None
    if edge.to_dict().get("geo") is None:
        message = "has no effect: the edge looks no places up; give it edge.geo(…)"
        raise ConfigError([Problem("Client.places", None, message)])
    content = file_of(places)
    file = tempfile.NamedTemporaryFile(suffix=".mmdb")  # noqa: SIM115  # it ends with the client
    file.write(content)
    file.flush()
    return file


def _certificate() -> Certificate:
    """A certificate of nobody, for this process."""
    from edgerouter import _core

    now = int(time.time())
    _, key = _core.development_authority(now, 90)
    chain, own = _core.issue_certificate(key, ["edge.test"], now, 60)
    return Certificate(Secret.literal(chain), Secret.literal(own))


class _Wire(httpx.BaseTransport):
    """Sends each request to the edge, whatever its host, from the client's address of the moment."""

    def __init__(self, client: Client, urls: Iterable[str], *, http2: bool) -> None:
        self.client = client
        self.http2 = http2
        self.ports = {url.partition(":")[0]: int(url.rpartition(":")[2]) for url in urls}
        self.pools: OrderedDict[tuple[str, str], httpcore.ConnectionPool] = OrderedDict()
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def pool(self, address: str, scheme: str) -> httpcore.ConnectionPool:
        """The connections of an address."""
        key = (address, scheme)
        if key not in self.pools:
            while len(self.pools) >= _ADDRESSES:
                self.pools.popitem(last=False)[1].close()
            backend = _Introduced(self.ports[scheme], address)
            self.pools[key] = httpcore.ConnectionPool(
                ssl_context=self.context, network_backend=backend, http2=self.http2 and scheme == "https"
            )
        return self.pools[key]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and gives its response, whose body streams."""
        address = self.client.address
        with _as_httpx(request):
            answer = self.pool(address, request.url.scheme).handle_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        response = httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(request, answer), extensions=answer.extensions
        )
        self.client.exchanges.append(Exchange(request, response, address))
        return response

    def close(self) -> None:
        """Ends all connections."""
        for pool in self.pools.values():
            pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, request: httpx.Request, answer: httpcore.Response) -> None:
        self.request = request
        self.answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx(self.request):
            yield from self.answer.iter_stream()

    def close(self) -> None:
        self.answer.close()


@contextlib.contextmanager
def _as_httpx(request: httpx.Request) -> Iterator[None]:
    """Raises the errors of a connection as httpx names them."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        kind = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise kind(str(error) or repr(error), request=request) from error


class _Introduced(httpcore.NetworkBackend):
    """Connections to the edge that begin with a header of the PROXY protocol, version 1."""

    def __init__(self, listener: int, address: str) -> None:
        self.listener = listener
        self.inner = httpcore.SyncBackend()
        self.address = ipaddress.ip_address(address)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connects to the edge, whatever the host."""
        stream = self.inner.connect_tcp("127.0.0.1", self.listener, timeout, local_address, socket_options)
        version, to = (4, "127.0.0.1") if self.address.version == 4 else (6, "::1")
        stream.write(f"PROXY TCP{version} {self.address} {to} 50000 {port}\r\n".encode(), timeout)
        return stream

    def sleep(self, seconds: float) -> None:
        """Waits."""
        self.inner.sleep(seconds)
