"""A real edge on a free port, as it stands.

>>> with running(edge) as base_url:          # doctest: +SKIP
...     assert httpx.get(f"{base_url}/hello/ada").status_code == 200
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgerouter.edge import Edge
from edgerouter.server import Server
from edgerouter.settings import Settings

__all__ = ["Running", "running"]


class Running(str):
    """A running edge. It is its own base URL, so it can be given wherever a URL is wanted."""

    server: Server
    """The server of the edge."""

    @classmethod
    def of(cls, server: Server) -> Running:
        """The running edge of a server."""
        url = cls(server.urls[0])
        url.server = server
        return url

    @property
    def url(self) -> str:
        """The base URL."""
        return str(self)

    @property
    def admin_url(self) -> str:
        """The URL of the admin listener."""
        return self.server.admin_url or ""

    def set_clock(self, seconds: int) -> None:
        """Moves the wall clock of the edge to ``seconds`` from the real one, from the next request on.

        Ages, lifetimes and tokens follow it; time-outs do not.
        """
        self.server.engine.shift_clock(seconds)

    def reload(self, edge: Edge) -> int:
        """Swaps another plan in; returns its version."""
        return self.server.reload(edge)


@contextlib.contextmanager
def running(edge: Edge, *, workers: int = 1, drain: float = 5.0) -> Iterator[Running]:
    """Serves ``edge`` on free ports of 127.0.0.1, with an admin listener, and stops it at the end."""
    settings = Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", workers=workers)
    server = Server.start(edge, settings, test_clock=True)
    try:
        yield Running.of(server)
    finally:
        server.stop(drain)
