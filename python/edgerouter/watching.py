"""Changes of an application's files."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from edgerouter.signals import Event

__all__ = ["Watcher"]


def _stamps(files: Iterable[Path]) -> dict[Path, tuple[int, int, int]]:
    """Time, size and inode of each file that exists: they differ when a file has changed."""
    found = {}
    for file in files:
        with contextlib.suppress(OSError):
            state = file.stat()
            found[file] = (state.st_mtime_ns, state.st_size, state.st_ino)
    return found


class Watcher:
    """Turns changes of the application's files into events.

    Directories are watched and not files, because editors replace a file rather than write to it.
    """

    def __init__(
        self, files: Callable[[], set[Path]], events: queue.SimpleQueue[Event], err: Callable[[str], None]
    ) -> None:
        self._all = files
        self._events = events
        self._err = err
        self._stop = threading.Event()
        self._folders: frozenset[Path] = frozenset()
        self._files: frozenset[Path] = frozenset()
        self._started = False
        self._seen = _stamps(_resolved(files()))

    def start(self) -> None:
        self._started = True
        self._files = _resolved(self._all())
        self._folders = frozenset(file.parent for file in self._files)
        self._stop = threading.Event()
        threading.Thread(target=self._run, args=(self._stop,), name="edgerouter-watch", daemon=True).start()

    def renew(self) -> None:
        """Follows the files of the application, which a reload may have changed."""
        files = _resolved(self._all())
        if self._started and frozenset(file.parent for file in files) == self._folders:
            self._files = files
        else:
            if self._started:
                self.close()
                self._seen = _stamps(files)
            self.start()

    def close(self) -> None:
        self._stop.set()

    def _run(self, stop: threading.Event) -> None:
        try:
            self._watch(stop)
        except Exception as error:  # noqa: BLE001  # no reason to stop serving
            self._err(f"warning: files are no longer watched ({error}); send SIGHUP to reload")

    def _watch(self, stop: threading.Event) -> None:
        from watchfiles import watch

        # The state when the files were loaded: a change before the watch began is a change, too.
        known = self._seen
        for _changes in watch(
            *self._folders,
            watch_filter=None,
            stop_event=stop,
            recursive=False,
            debounce=400,
            step=50,
            rust_timeout=1_000,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            now = _stamps(self._files)
            if now != known:
                known = now
                self._events.put("changed")


def _resolved(files: Iterable[Path]) -> frozenset[Path]:
    """The real paths; one that cannot be resolved stays as it is."""
    found = set()
    for file in files:
        try:
            found.add(file.resolve())
        except (OSError, RuntimeError):
            found.add(file)
    return frozenset(found)
