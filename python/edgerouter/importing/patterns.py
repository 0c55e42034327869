"""URL patterns of Cloudflare, such as ``*example.com/images/*``, as hosts and a path of edgerouter."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["UrlPattern", "split"]


class UrlPattern(NamedTuple):
    """A pattern of URLs.

    ``hosts``  patterns of hosts; empty: any host
    ``path``  pattern of the path
    ``https``  ``True`` or ``False`` if the scheme is in the pattern
    ``stars``  the number of ``*`` before the path
    """

    hosts: tuple[str, ...]
    path: str
    https: bool | None
    stars: int

    @property
    def pattern(self) -> str:
        """The pattern of a route; several hosts are an argument of their own."""
        return f"{self.hosts[0]}{self.path}" if len(self.hosts) == 1 else self.path

    @property
    def host(self) -> list[str] | None:
        """The argument ``host`` of a route."""
        return list(self.hosts) if len(self.hosts) > 1 else None


def split(text: str) -> UrlPattern | None:
    """The parts of a pattern; ``None`` if edgerouter has no pattern of that form."""
    scheme = re.match(r"(\*|https?)://", text)
    https = {"https": True, "http": False}.get(scheme[1]) if scheme else None
    rest = text[scheme.end() :] if scheme else text
    host, slash, path = rest.partition("/")
    host = host.lower().partition(":")[0]
    stars = host.count("*") + (1 if scheme and scheme[1] == "*" else 0)
    if not slash:
        # A pattern that ends in the host's own * is for every path.
        path = "*" if host.endswith("*") and host != "*" else ""
        host = host.rstrip("*") if path and not host.endswith(".*") else host
    if re.search(r"[{}\s#]", path):
        return None
    if host in ("*", ""):
        return UrlPattern((), f"/{path}", https, stars)
    if re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host):
        return UrlPattern((host,), f"/{path}", https, stars)
    if re.fullmatch(r"\*\.[a-z0-9_-]+(\.[a-z0-9_-]+)*", host):
        return UrlPattern((host,), f"/{path}", https, stars)
    if re.fullmatch(r"\*[a-z0-9_-]+(\.[a-z0-9_-]+)+", host):
        return UrlPattern((host[1:], f"*.{host[1:]}"), f"/{path}", https, stars)
    return None
