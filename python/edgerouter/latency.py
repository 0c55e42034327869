"""Means against waiting that an edge declares by itself: prefetched URLs, and a service worker in browsers."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgerouter.arguments import accepts, helpful
from edgerouter.prefetch import Prefetch
from edgerouter.service_worker import ServiceWorker

if TYPE_CHECKING:
    from edgerouter.declarations import Declarations

__all__ = ["Latency"]


class Latency:
    """The requests that an ``Edge`` makes before a visitor does, and those that a browser answers by itself."""

    _declared: Declarations

    @accepts(Prefetch)
    def prefetch(self, listed: Prefetch) -> Prefetch:
        """Fetches URLs before a visitor requests them, through the routes, keys and hooks of a visitor's request.

        ``urls``  paths, or whole URLs as visitors request them
        ``every``  seconds between the rounds, a tenth more or less; what is stored and stays fresh until the next
            round is left alone
        ``on_start``  at the start, and after each reload
        ``host``  the host of paths; when ``None``, the one host that the routes name
        ``scheme``  of paths, as sent to the origin in ``X-Forwarded-Proto``
        ``headers``  request fields besides ``Accept``, ``Accept-Encoding``, ``User-Agent`` and ``Sec-Purpose``
        """
        self._declared.note("prefetch")
        self._declared.prefetch.append(listed)
        return listed

    @helpful
    def service_worker(
        self,
        path: str = "/sw.js",
        *,
        precache: Collection[str] = (),
        offline: str | None = None,
        api: Collection[str] = ("/api/*",),
        scope: str = "/",
        host: str | None = None,
        authorized: bool = False,
        entries: int = 100,
    ) -> ServiceWorker:
        """Serves a service worker, made anew with each change of the routes; pages register it by its path.

        ``path``, ``host``  where pages find it; ``None``: on any host
        ``precache``  paths fetched when it is installed, without cookies; they answer without network
        ``offline``  the page for a navigation without network; precached, too
        ``api``  paths (with ``*`` and ``?``) answered from the browser's cache at once and refreshed behind
        ``scope``  the part of the site that it may control
        ``authorized``  requests with ``Authorization`` may be answered from the browser's cache, too
        ``entries``  responses that a browser keeps besides the precached ones
        """
        worker = ServiceWorker(
            path,
            host=host,
            scope=scope,
            precache=precache,
            offline=offline,
            api=api,
            authorized=authorized,
            entries=entries,
        )
        self._declared.note("service_workers")
        self._declared.service_workers.append(worker)
        return worker
