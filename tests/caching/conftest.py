"""One cached route in front of an origin, with a clock that tests set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from email.utils import formatdate
from itertools import count

import httpx
import pytest

from edgerouter import CachePolicy, Edge
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen

_paths = count(1)

Fields = Mapping[str, str] | list[tuple[str, str]]


class Cached:
    """An edge that caches, its origin, and a client."""

    def __init__(self, edge: Running, origin: Origin, client: httpx.Client) -> None:
        self.edge = edge
        self.origin = origin
        self.client = client

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def at(self, seconds: int) -> None:
        """Sets the edge's clock to ``seconds`` after the real one."""
        self.edge.set_clock(seconds)

    def path(self) -> str:
        """A path that no other row of the test uses."""
        return f"/{next(_paths)}"

    def answer(self, fields: Fields, body: str = "body", status: int = 200) -> str:
        """A new path at which the origin answers so."""
        path = self.path()
        self.origin.on(path, Reply(status, list(fields.items()) if isinstance(fields, Mapping) else fields, body))
        return path

    def reuses(
        self, fields: Fields, *, status: int = 200, after: int = 0, first: Mapping[str, str] = {}, **then: str
    ) -> bool:
        """True if a second request, ``after`` seconds, is answered without the origin."""
        path = self.answer(fields, status=status)
        self.at(0)
        self.client.get(path, headers=first)
        self.at(after)
        self.get(path, **then)
        self.at(0)
        return self.origin.count(path) == 1


def status_of(response: httpx.Response) -> str:
    """Our member of ``Cache-Status``."""
    return str(response.headers.get("cache-status", "")).split(",")[-1].strip()


def date(seconds: float) -> str:
    """An HTTP date."""
    return formatdate(seconds, usegmt=True)


def validating(tag: str, **also: str) -> Callable[[Seen], Reply]:
    """An origin that answers 304 to a request that names the tag."""

    def answer(seen: Seen) -> Reply:
        fields = {"ETag": tag, **{name.replace("_", "-"): value for name, value in also.items()}}
        if tag in (seen.get("if-none-match") or ""):
            return Reply(304, fields)
        return Reply(200, fields, "content")

    return answer


MakeCached = Callable[..., Cached]


@pytest.fixture
def make_cached(origin: Origin) -> Iterator[MakeCached]:
    """``make_cached(workers=1, **policy)``: an edge whose one route caches by this policy."""
    with ExitStack() as stack:

        def make(workers: int = 1, **policy: object) -> Cached:
            edge = Edge("test")
            cache = CachePolicy(**policy)  # type: ignore[arg-type]
            edge.route("/*", to=edge.origin("first", origin.url), cache=cache)
            served = stack.enter_context(running(edge, workers=workers))
            client = stack.enter_context(httpx.Client(base_url=served.url, timeout=20.0, follow_redirects=False))
            return Cached(served, origin, client)

        yield make


@pytest.fixture
def cached(make_cached: MakeCached) -> Cached:
    """The standard policy."""
    return make_cached()
