"""``ctx.fetch``: a request that a function makes through the edge itself, or to a host that its ``fetch=`` names.

Through the edge it passes the routes, the cache, the pools and the failover, as a client's request would, with the
address of the client whose request led to it. Rate limits have counted that one; every other rule applies. Nothing of
the outer request is copied: a token or a cookie goes along when the function says so, and not to another host by a
redirect.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import msgspec

from edgerouter.errors import FetchError
from edgerouter.functions.streams import SLICE, ready

if TYPE_CHECKING:
    from edgerouter._core import AsyncContext, Context, PendingFetch, Request, Response
    from edgerouter.origins import Group, Origin

__all__ = ["awaited", "wait_for"]

_PORTS = {"http": 80, "https": 443}
#: Fields that are the edge's own to set.
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
#: Fields that go to no other host by a redirect, and those that describe content that it drops (Fetch §4.4).
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})
_OF_CONTENT = frozenset({"content-encoding", "content-language", "content-location", "content-type"})
#: Methods that may be written in small letters.
_NORMALISED = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Redirects that are followed; ``docs/limits.md`` names them.
MOST_REDIRECTS = 3
_USER = re.compile(r"//[^/@]*@")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.ASCII)


async def awaited(ctx: AsyncContext, request: Request | str, **options: Any) -> Response:
    """For async functions."""
    if asyncio._get_running_loop() is None:
        # An inline callable, which goes on from here on a loop. Code that has another answer would catch an error.
        await asyncio.sleep(0)
    fetch = Fetch(ctx, request, **options)
    while True:
        pending = fetch.begin()
        try:
            await ready(pending.when_ready)
        except BaseException:
            # The traceback may hold what would end it otherwise.
            pending.abandon()
            raise
        response = fetch.response(pending)
        if not fetch.goes_on(response):
            return response


#: Python's warning names a coroutine that nobody awaited.
awaited.__qualname__ = "ctx.fetch"


def wait_for(ctx: Context, request: Request | str, **options: Any) -> Response:
    """For plain functions, whose thread waits."""
    from edgerouter import _core

    if _core.serves():
        raise RuntimeError(
            "ctx.fetch waits, which a plain inline callable must not: leave inline=True out, or make it async"
        )
    fetch = Fetch(ctx, request, **options)
    until = time.monotonic() + max(ctx.remaining(), 0) + 1
    while True:
        pending = fetch.begin()
        try:
            # In slices, so that the watchdog can interrupt.
            while not pending.wait(SLICE):
                if time.monotonic() > until:
                    raise FetchError("there was no response in the time of the call")
        except BaseException:
            pending.abandon()
            raise
        response = fetch.response(pending)
        if not fetch.goes_on(response):
            return response


class Fetch:
    """A request and the redirects that it follows; ``ValueError`` for one that cannot be made."""

    def __init__(
        self,
        ctx: AsyncContext | Context,
        request: Request | str,
        *,
        method: str | None = None,
        headers: Any = None,
        body: str | bytes | None = None,
        json: Any = None,
        cache: str = "default",
        timeout: float | None = None,
        redirect: str | None = None,
        origin: str | Origin | Group | None = None,
        of_client: bool = False,
        **unknown: Any,
    ) -> None:
        from edgerouter._core import Request

        if unknown:
            raise TypeError(
                f"fetch: there is no {', '.join(unknown)}=: it takes method, headers, body, json, cache, timeout, "
                "redirect and origin"
            )
        self.ctx = ctx
        if isinstance(request, Request):
            url = request.url
            method = request.method if method is None else method
            given = dict.fromkeys(name.lower() for name in request.headers)
            sent = [(name, value) for name in given for value in request.headers.get_all(name)]
            fields = sent if headers is None else lines_of(headers)
            if body is None and json is None:
                body = request.body
        elif isinstance(request, str):
            url, fields = request, lines_of(headers)
        else:
            raise TypeError(f"ctx.fetch takes a Request or a URL, not {type(request).__name__}")
        if json is not None:
            if body is not None:
                raise ValueError("fetch: body cannot be combined with json")
            body = encoded(json)
            if headers is None:
                # The type of another request is that of its own content.
                fields = [(name, value) for name, value in fields if name != "content-type"]
            if all(name != "content-type" for name, _ in fields):
                fields.append(("content-type", "application/json"))
        if redirect not in (None, "follow", "manual", "error"):
            raise ValueError(f"fetch: redirect {redirect!r} must be follow, manual or error")
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0
        ):
            raise ValueError(f"fetch: timeout is {timeout!r}, but must be seconds, > 0")
        left = max(ctx.remaining(), 0.0)
        self.until = time.monotonic() + (left if timeout is None else min(left, timeout))
        self.method = _method(method)
        self.fields = [(name, value) for name, value in fields if name.lower() not in _FRAMING]
        if not isinstance(body, (str, bytes, bytearray, memoryview, type(None))):
            raise TypeError(f"fetch: body is str or bytes, not {type(body).__name__}; data goes in json=")
        self.content = body.encode() if isinstance(body, str) else bytes(body or b"")
        # The content of a request of a client is its own. A process of its own gives the parts of one, ``of_client``.
        of_client = of_client or isinstance(request, Request)
        if self.content and self.method in ("GET", "HEAD") and not of_client:
            raise ValueError(f'fetch: a {self.method} has no body: give it another method, as in method="POST"')
        if not isinstance(cache, str):
            raise TypeError(f"fetch: cache is a word such as 'no-store', not {type(cache).__name__}")
        self.cache = cache
        self.followed = 0
        self.outside: tuple[str, int] | None = None
        self.own_scheme, self.own_authority = ctx.fetch_origin()
        self.origin = origin if origin is None or isinstance(origin, str) else named(origin)
        self.go_to(url)
        if self.outside is not None and cache not in ("default", "no-store"):
            raise ValueError(f"fetch: cache {cache!r} has no effect on a host that is no origin: leave it out")
        #: The edge's own routes give redirects as they are.
        self.redirect = redirect or ("manual" if self.outside is None else "follow")

    def go_to(self, url: str) -> None:
        """Has the next request made to ``url``."""
        self.scheme, self.authority, self.outside = self.own_scheme, self.own_authority, None
        parts = parts_of(url)
        if parts.scheme or parts.netloc:
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise ValueError(f"fetch: {shown(url)} is neither a path nor a URL of http or https")
            self.scheme = parts.scheme
            host, port = place_of(parts)
            own = urlsplit(f"//{self.own_authority}")
            if host != own.hostname or parts.port not in (None, own.port or _PORTS[self.own_scheme]):
                self.outside = (host, port)
                named = f"[{host}]" if ":" in host else host
                self.authority = named if port == _PORTS[self.scheme] else f"{named}:{port}"
                if self.origin is not None:
                    raise ValueError(
                        f"fetch: origin is {self.origin!r}, whose own URL decides the host: give a path, "
                        f"not {shown(url)}"
                    )
        elif not url.startswith("/"):
            raise ValueError(f"fetch: {shown(url)} is neither a path, which starts with /, nor a URL of http or https")
        self.target = parts.path or "/"
        if parts.query:
            self.target = f"{self.target}?{parts.query}"

    def begin(self) -> PendingFetch:
        """Starts the request."""
        seconds = max(self.until - time.monotonic(), 0.0)
        return self.ctx.begin_fetch(
            self.method,
            self.scheme,
            self.authority,
            self.target,
            self.fields,
            self.content,
            self.cache,
            seconds,
            self.outside,
            self.origin,
        )

    def response(self, pending: PendingFetch) -> Response:
        """The response; a place that a redirect leads to and that is not allowed is no mistake of the function."""
        try:
            return pending.take()
        except ValueError as error:
            if self.followed:
                raise FetchError(f"a redirect is not followed: {error}") from None
            raise

    def goes_on(self, response: Response) -> bool:
        """True if the response is a redirect that is followed: the next request is ready (Fetch §4.4)."""
        location = response.headers.get("location")
        if response.status not in _REDIRECTS or location is None or self.redirect == "manual":
            return False
        if self.redirect == "error":
            raise FetchError(f"{self.authority} answered with a redirect, which redirect='error' refuses")
        if self.followed == MOST_REDIRECTS:
            raise FetchError(f"there were more than {MOST_REDIRECTS} redirects")
        self.followed += 1
        before = (self.scheme, self.authority)
        try:
            url = urljoin(f"{self.scheme}://{self.authority}{self.target}", as_text(location)).partition("#")[0]
            self.go_to("".join(one if one.isascii() else quote(one) for one in url))
        except ValueError as error:
            raise FetchError(f"{before[1]} redirects to a URL that cannot be fetched: {error}") from None
        dropped: frozenset[str] = frozenset()
        to_get = response.status == 303 and self.method not in ("GET", "HEAD")
        if to_get or (response.status in (301, 302) and self.method == "POST"):
            self.method, self.content = "GET", b""
            dropped |= _OF_CONTENT
        if (self.scheme, self.authority) != before:
            dropped |= _CREDENTIALS
        self.fields = [(name, value) for name, value in self.fields if name.lower() not in dropped]
        return True


def _method(method: str | None) -> str:
    """The method as it is sent: those of the list in capital letters (Fetch §2.2.1)."""
    if method is None:
        return "GET"
    if not isinstance(method, str):
        raise TypeError(f"fetch: method is a str, not {type(method).__name__}")
    return method.upper() if method.upper() in _NORMALISED else method


def as_text(field: str) -> str:
    """A field, which is read as Latin-1, as the UTF-8 that it mostly is where it is not ASCII."""
    try:
        return field.encode("latin-1").decode()
    except UnicodeDecodeError:
        return field


def named(origin: Origin | Group) -> str:
    """The name of an origin or group."""
    name = getattr(origin, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"fetch: origin is the name of an origin or group, or one of them, not {type(origin).__name__}")
    return name


def shown(url: str) -> str:
    """A URL as messages have it: without the name and password of a user."""
    return repr(_USER.sub("//…@", url))


def parts_of(url: str) -> SplitResult:
    """The parts of a URL or path; ``ValueError`` where host or port are written so that they are none."""
    try:
        parts = urlsplit(url)
        # It is read at each use, and may raise.
        _ = parts.port
    except ValueError:
        raise ValueError(
            f"fetch: {shown(url)} has no valid host or port: write https://host, https://host:443 or https://[::1]:443"
        ) from None
    return parts


def place_of(parts: SplitResult) -> tuple[str, int]:
    """Host, in lower case and without a dot at its end, and port of a URL; ``ValueError`` for what is none."""
    if "@" in parts.netloc:
        raise ValueError("fetch: the URL names a user, which ctx.fetch does not send: set an authorization field")
    if not parts.netloc.isascii():
        raise ValueError(f"fetch: the host {parts.netloc!r} is not ASCII: write its name in the form that has xn--")
    host = (parts.hostname or "").removesuffix(".")
    if ":" in host:
        # In the one form that lists of hosts have; a zone is no part of it.
        try:
            host = str(ipaddress.IPv6Address(host)) if "%" not in host else ""
        except ValueError:
            host = ""
    elif _NAME.fullmatch(host) is None:
        host = ""
    if not host:
        raise ValueError(f"fetch: {parts.netloc!r} has no valid host")
    port = parts.port if parts.port is not None else _PORTS[parts.scheme]
    if port == 0:
        raise ValueError(f"fetch: {parts.netloc!r} has no valid port")
    return host, port


def lines_of(headers: Any) -> list[tuple[str, str]]:
    """Fields as pairs, by the rule of the fields of a ``Request``."""
    from edgerouter import _core

    return [] if headers is None else _core.field_lines(headers)


def encoded(json: Any) -> bytes:
    """The content that ``json=`` is; ``TypeError`` for a value that JSON cannot hold."""
    try:
        return msgspec.json.encode(json)
    except TypeError as error:
        raise TypeError(f"fetch: json cannot hold this value ({error}): give dicts, lists, texts and numbers") from None
