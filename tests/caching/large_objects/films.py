"""An origin's large file, and edges that store it in slices."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from edgerouter import CacheLimits, CachePolicy, Edge, Limits
from edgerouter.testing import Running

from ...origins import Origin, Reply, Seen

SLICE = 4096
LENGTH = 10 * SLICE + 123
FILM = random.Random(1).randbytes(LENGTH)
Serve = Callable[[Edge], Running]


@dataclass
class Film:
    """An origin's large file, which answers ranges, and can be made to misbehave."""

    content: bytes = FILM
    etag: str | None = '"film-1"'
    ranges: bool = True
    fields: dict[str, str] = field(default_factory=lambda: {"Cache-Control": "max-age=60"})
    asked: list[str | None] = field(default_factory=list)

    def __call__(self, seen: Seen) -> Reply:
        self.asked.append(seen.get("range"))
        fields = dict(self.fields, **{"Content-Type": "video/mp4"}, **({"ETag": self.etag} if self.etag else {}))
        if self.etag and seen.get("if-none-match") == self.etag:
            return Reply(304, fields)
        wanted = seen.get("range")
        if wanted is None or not self.ranges or seen.get("if-range") not in (None, self.etag):
            return Reply(200, fields, self.content)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(len(self.content) - int(last), 0)
        end = min(int(last if first and last else len(self.content) - 1), len(self.content) - 1)
        if start >= len(self.content):
            return Reply(416, {"Content-Range": f"bytes */{len(self.content)}"})
        fields["Content-Range"] = f"bytes {start}-{end}/{len(self.content)}"
        return Reply(206, fields, self.content[start : end + 1])


def edge_for(origin: Origin, memory: int = 4 << 20, **policy: object) -> Edge:
    edge = Edge(
        "test", limits=Limits(cache=CacheLimits(slice_bytes=SLICE, read_ahead_bytes=1 << 16, memory_bytes=memory))
    )
    if policy.get("slices", True):
        policy.setdefault("fill", "first")
    edge.route("/*", to=edge.origin("first", origin.url), cache=CachePolicy(**policy))  # type: ignore[arg-type]
    return edge


def part(client: httpx.Client, text: str, **headers: str) -> httpx.Response:
    return client.get("/film", headers={"Range": f"bytes={text}", **headers})


def said(response: httpx.Response) -> list[str]:
    """Our member of Cache-Status without the time to live."""
    return [part for part in response.headers["cache-status"].split("; ") if not part.startswith("ttl=")]
