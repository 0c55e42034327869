"""Tests of one's own site: a real edge on a free port, a client for it, and origins that say what a test wants.

``serving`` starts an edge as it stands; ``client`` starts one whose origins, listeners and clock are the test's own,
which ``staging`` and ``origins`` make. ``asgi`` checks the scopes and messages of ASGI. The plugin of pytest,
``edgerouter_pytest``, offers them as fixtures. Importing this package loads none of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgerouter.testing.asgi import AsgiError, validated
    from edgerouter.testing.client import CacheResult, Client, Clock, Exchange
    from edgerouter.testing.origins import FakeOrigin, Fault, Received, Reply
    from edgerouter.testing.serving import Running, running

__all__ = [
    "AsgiError",
    "CacheResult",
    "Client",
    "Clock",
    "Exchange",
    "FakeOrigin",
    "Fault",
    "Received",
    "Reply",
    "Running",
    "running",
    "validated",
]

_PLACES = {
    "asgi": ("AsgiError", "validated"),
    "client": ("CacheResult", "Client", "Clock", "Exchange"),
    "origins": ("FakeOrigin", "Fault", "Received", "Reply"),
    "serving": ("Running", "running"),
}


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"edgerouter.testing.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
