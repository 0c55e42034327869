"""A file that starts a server of its own, and so never comes to its end: it is interrupted, and its line is named.

A thread looks at the frames of the one that loads the file. It interrupts a server that it knows, and only reports
anything else that takes long, such as a large model that is read.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from edgerouter._core import raise_in

__all__ = ["OwnServer", "Watch", "watched"]

#: Seconds until the first look and between two, and those after which any file is reported.
_LOOK, _LONG = 1.0, 10.0
#: Functions that serve until they are stopped, by their modules.
_SERVERS = {
    ("aiohttp.web", "run_app"),
    ("cheroot.server", "serve"),
    ("flask.app", "run"),
    ("granian.server.common", "serve"),
    ("gunicorn.arbiter", "run"),
    ("hypercorn.run", "run"),
    ("hypercorn.asyncio", "serve"),
    ("quart.app", "run"),
    ("socketserver", "serve_forever"),
    ("uvicorn.main", "run"),
    ("uvicorn.server", "run"),
    ("uvicorn.server", "serve"),
    ("waitress.server", "run"),
    ("werkzeug.serving", "serve_forever"),
}


class OwnServer(KeyboardInterrupt):
    """Ends a server in a file that is loaded; they all end on Ctrl-C."""


class Watch:
    """The load of a file by one thread. ``line``: the place of a frame of the file, ``None`` for one of others."""

    def __init__(self, line: Callable[[FrameType], str | None], report: Callable[[str], None]) -> None:
        self._loading = threading.get_ident()
        self._line = line
        self._report = report
        self._lock = threading.Lock()
        self._ended = threading.Event()
        #: The server that was interrupted, and the line that started it.
        self.server: str | None = None
        self.place: str | None = None

    def look(self) -> None:
        """Looks again and again until the load ends, or is interrupted."""
        waited = 0.0
        while self.server is None and not self._ended.wait(_LOOK):
            waited += _LOOK
            frame = sys._current_frames().get(self._loading)
            if frame is None:
                return
            server, place = self._found(frame)
            if server is not None:
                with self._lock:
                    if not self._ended.is_set():
                        self.server, self.place = server, place
                        raise_in(self._loading, OwnServer)
            elif waited == _LONG:
                where = f" at {place}" if place else ""
                self._report(f"the file has run for {_LONG:g} s and is still{where}; it is served when it has ended")

    def end(self) -> None:
        """No interrupt comes after this."""
        with self._lock:
            self._ended.set()
            raise_in(self._loading, None)

    def _found(self, frame: FrameType | None) -> tuple[str | None, str | None]:
        """The outermost server among the frames, and the file's line that is nearest to the innermost frame."""
        server, place = None, None
        while frame is not None:
            name = (frame.f_globals.get("__name__"), frame.f_code.co_name)
            if name in _SERVERS:
                server = ".".join(map(str, name))
            place = place or self._line(frame)
            frame = frame.f_back
        return server, place


@contextlib.contextmanager
def watched(line: Callable[[FrameType], str | None], report: Callable[[str], None]) -> Iterator[Watch]:
    """Watches the load in this block. An ``OwnServer`` may leave it, or be caught within: ``Watch.server`` says so."""
    watch = Watch(line, report)
    thread = threading.Thread(target=watch.look, name="edge-load-watch", daemon=True)
    # Where no thread can be started the file is loaded all the same.
    with contextlib.suppress(RuntimeError):
        thread.start()
    try:
        yield watch
    finally:
        watch.end()
