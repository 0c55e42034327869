"""``edgerouter warm``: requests URLs from the edge, so that the next visitor finds them in the cache.

Threads with one connection each; every wait has a time-out. A response that is fresh already is a hit and costs
the origin nothing, so a run that was broken off continues when it is started again.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgerouter.cli.urls import MOST_BYTES, SourceError
from edgerouter.errors import ConfigError, Problem

__all__ = ["Edge", "Tally", "outcome", "warm"]

#: Failures that are printed one by one.
TOLD = 10
PIECE = 64 << 10


class Edge:
    """The address of an edge, and the requests to it."""

    def __init__(self, url: str, headers: Sequence[tuple[str, str]] = (), timeout: float = 30.0) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ConfigError([Problem("--edge", repr(url), "must be the edge's address as in http://127.0.0.1:8080")])
        self.url = f"{parts.scheme}://{parts.netloc}"
        self.secure = parts.scheme == "https"
        self.host = parts.hostname
        self.port = port or (443 if self.secure else 80)
        self.timeout = timeout
        self.headers = {"User-Agent": "edgerouter-warm", "Accept": "*/*", "Accept-Encoding": "gzip, br"}
        for name, value in headers:
            known = next((known for known in self.headers if known.lower() == name.lower()), name)
            self.headers[known] = value

    def connection(self) -> http.client.HTTPConnection:
        if self.secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)

    def request(self, connection: http.client.HTTPConnection, url: str) -> http.client.HTTPResponse:
        """The head of the answer; requests a second time when a connection that was kept turns out to be closed."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = {"Host": parts.netloc, **self.headers}
        if parts.scheme == "https":
            fields.setdefault("X-Forwarded-Proto", "https")
        kept = connection.sock is not None
        try:
            return _send(connection, target, fields)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            connection.close()
            if not kept:
                raise
            return _send(connection, target, fields)

    def fetch(self, url: str) -> bytes:
        """A sitemap, through the edge."""
        connection = self.connection()
        try:
            response = self.request(connection, url)
            content = response.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{url}: {self.url} did not answer: {_reason(error)}") from None
        finally:
            connection.close()
        if response.status != 200:
            where = response.getheader("Location")
            raise SourceError(f"{url}: the edge answered {response.status}" + (f" to {where}" if where else ""))
        if len(content) > MOST_BYTES:
            raise SourceError(f"{url}: larger than {MOST_BYTES >> 20} MiB, which is the most for a sitemap")
        return content


def _send(connection: http.client.HTTPConnection, target: str, fields: Mapping[str, str]) -> http.client.HTTPResponse:
    connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
    for name, value in fields.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def outcome(status: int, cache_status: str | None) -> str:
    """The result of a request: ``hit``, ``miss``, ``pass`` or ``error``.

    The edge is the last member of ``Cache-Status`` (RFC 9211 §2); without the field the cache had no part in it.
    """
    if status >= 400:
        return "error"
    if not cache_status:
        return "pass"
    parameters = [part.strip() for part in cache_status.rpartition(",")[2].split(";")[1:]]
    return "hit" if "hit" in parameters else "miss"


@dataclass
class Tally:
    """The results of a run."""

    urls: int
    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "urls": self.urls,
            "hits": self.counts["hit"],
            "misses": self.counts["miss"],
            "passes": self.counts["pass"],
            "errors": self.counts["error"],
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "failures": self.failures,
            "interrupted": self.interrupted,
        }


class _Run:
    def __init__(self, urls: Sequence[str], edge: Edge, rate: float | None, progress: Progress) -> None:
        self.edge = edge
        self.interval = 1 / rate if rate else 0.0
        self.lock = threading.Lock()
        self.waiting: Iterator[str] = iter(urls)
        self.turn = time.monotonic()
        self.stopping = threading.Event()
        self.tally = Tally(len(urls))
        self.progress = progress
        self.bar = progress.add_task("warming", total=len(urls), hits=0, misses=0, errors=0)

    def work(self) -> None:
        connection = self.edge.connection()
        try:
            while not self.stopping.is_set():
                with self.lock:
                    url = next(self.waiting, None)
                    pause = self.turn - time.monotonic()
                    self.turn = max(self.turn, time.monotonic()) + self.interval
                if url is None or (pause > 0 and self.stopping.wait(pause)):
                    return
                self.note(url, *self.one(connection, url))
        finally:
            connection.close()

    def one(self, connection: http.client.HTTPConnection, url: str) -> tuple[str, str, int]:
        """Outcome, reason and bytes."""
        length, deadline = 0, time.monotonic() + self.edge.timeout
        try:
            response = self.edge.request(connection, url)
            while piece := response.read(PIECE):
                length += len(piece)
                if time.monotonic() > deadline:
                    raise TimeoutError
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return "error", _reason(error), length
        return outcome(response.status, response.getheader("Cache-Status")), str(response.status), length

    def note(self, url: str, came: str, reason: str, length: int) -> None:
        with self.lock:
            tally = self.tally
            tally.counts[came] += 1
            tally.bytes += length
            if came == "error" and len(tally.failures) < TOLD:
                tally.failures.append(f"{url}: {reason}")
            counts = tally.counts
        self.progress.update(self.bar, advance=1, hits=counts["hit"], misses=counts["miss"], errors=counts["error"])


def warm(urls: Sequence[str], edge: Edge, *, concurrency: int, rate: float | None) -> Tally:
    """Requests every URL once, ``concurrency`` at a time and at most ``rate`` a second."""
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("hits {task.fields[hits]} misses {task.fields[misses]} errors {task.fields[errors]}"),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        run = _Run(urls, edge, rate, progress)
        threads = [threading.Thread(target=run.work, daemon=True) for _ in range(min(concurrency, len(urls)))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
        except KeyboardInterrupt:
            run.stopping.set()
            run.tally.interrupted = True
    run.tally.seconds = time.monotonic() - began
    return run.tally
