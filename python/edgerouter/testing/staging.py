"""An edge as a test serves it: the same declarations, with origins and listeners of the test's own.

The user's edge is not changed: its data is, whenever it is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, Problem
from edgerouter.listening import Certificate, Listener, Tls

__all__ = ["StagedEdge"]

#: Fields of an origin that are about a server that the test does not have.
_ABOUT_THE_SERVER = ("tls_server_name", "tls_ca", "tls_verify", "tls_certificate", "tls_versions", "tls_pins")


class StagedEdge(Edge):
    """Shares everything with ``edge``, but for the plan: it has the ``urls`` of a test, and listeners of its own."""

    __slots__ = ("_listeners", "_places", "_urls")

    def __init__(
        self, edge: Edge, urls: Mapping[str, str], certificate: Certificate, places: str | None = None
    ) -> None:
        self.__dict__ = edge.__dict__
        self._urls = urls
        self._places = places
        proxies = ("127.0.0.0/8",)
        self._listeners = (
            Listener("127.0.0.1:0", proxy_protocol=proxies, http=("http/1.1", "h2")),
            Listener("127.0.0.1:0", proxy_protocol=proxies, tls=Tls(certificate)),
        )

    @property
    def listeners(self) -> tuple[str, ...]:
        """The addresses of the test."""
        return tuple(listener.address for listener in self._listeners)

    def to_dict(self) -> dict[str, Any]:
        """The plan's data, changed for the test."""
        import msgspec

        data = super().to_dict()
        data["listeners"] = [msgspec.to_builtins(listener, str_keys=True) for listener in self._listeners]
        # Responses of another test, or of the service, must not be found.
        data.pop("disk_cache", None)
        if self._places is not None and data.get("geo") is not None:
            data["geo"] = {**data["geo"], "files": [self._places]}
        data["origins"] = [_moved(origin, self._urls) for origin in data.get("origins", ())]
        return data


def names(edge: Edge) -> list[str]:
    """The names of the origins of an edge."""
    return [str(origin["name"]) for origin in edge.to_dict().get("origins", ())]


def check_names(edge: Edge, given: Mapping[str, object]) -> None:
    """Refuses a name that no origin of the edge has."""
    known = names(edge)
    if unknown := [name for name in given if name not in known]:
        message = f"is no origin of the edge; it has {', '.join(known) or 'none'}"
        raise ConfigError(Problem("Client.origins", name, message) for name in unknown)


def _moved(origin: Mapping[str, Any], urls: Mapping[str, str]) -> Mapping[str, Any]:
    url = urls.get(origin["name"])
    if url is None:
        return origin
    kept = {name: value for name, value in origin.items() if name not in _ABOUT_THE_SERVER}
    old = str(origin["url"])
    if old.startswith("unix"):
        return {**kept, "url": url}
    parts = urlsplit(old)
    # The origin receives the name that it would in service.
    host = parts.netloc if origin.get("host", "origin") == "origin" else origin["host"]
    return {**kept, "url": url + parts.path, "host": host}
