"""Changes of an application's files."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from edgerouter.signals import Event

__all__ = ["Watcher"]

_MOST_LINKS = 40
#: Files get the time of the kernel's last tick, which was up to 10 ms ago.
TICK_NS = 10_000_000
#: Time between two looks where the system cannot watch.
LOOK_SECONDS = 1.0


def _stamps(files: Iterable[Path]) -> dict[Path, os.stat_result]:
    """The state of each file that exists."""
    found = {}
    for file in files:
        with contextlib.suppress(OSError):
            found[file] = file.stat()
    return found


def _content(state: os.stat_result | None) -> tuple[int, int, int] | None:
    """Time, size and inode: they differ when a file has changed."""
    return state and (state.st_mtime_ns, state.st_size, state.st_ino)


class Watcher:
    """Turns changes of the application's files into events.

    Directories are watched and not files, because editors replace a file rather than write to it. Those that hold a
    link on the way to a file are, too: a new release, or a new version of a mounted volume, is a link that leads
    elsewhere.
    """

    def __init__(
        self, files: Callable[[], set[Path]], events: queue.SimpleQueue[Event], err: Callable[[str], None]
    ) -> None:
        self._all = files
        self._events = events
        self._err = err
        self._stop = threading.Event()
        self._folders: frozenset[Path] = frozenset()
        self._files = _resolved(files())
        self._started = False
        #: The last look. A change before the watch begins is a change, too.
        self._at = _now()
        self._looked = self._files
        self._known = _stamps(self._files)

    def start(self) -> None:
        self._started = True
        self._files = _resolved(self._all())
        self._folders = _folders(self._files)
        self._stop = threading.Event()
        threading.Thread(target=self._run, args=(self._stop,), name="edgerouter-watch", daemon=True).start()

    def renew(self) -> None:
        """Follows the files of the application, which a reload may have changed."""
        files = _resolved(self._all())
        if self._started and _folders(files) == self._folders:
            self._files = files
        else:
            if self._started:
                self.close()
            self.start()

    def close(self) -> None:
        self._stop.set()

    def _run(self, stop: threading.Event) -> None:
        try:
            self._watch(stop)
        except Exception as error:  # noqa: BLE001  # no reason to stop serving
            remedy = "raise fs.inotify.max_user_instances or fs.inotify.max_user_watches"
            self._err(f"warning: the system cannot watch files ({error}); they are looked at each second: {remedy}")
            self._look(stop)

    def _watch(self, stop: threading.Event) -> None:
        from watchfiles import watch

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
            if not stop.is_set() and self._changed():
                self._events.put("changed")

    def _look(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_SECONDS):
            if self._changed():
                self._events.put("changed")

    def _changed(self) -> bool:
        """True if a file has changed since the last look."""
        at, files = _now(), self._files
        now = _stamps(files)
        changed = any(_content(now.get(file)) != _content(self._known.get(file)) for file in files & self._looked)
        # A load has just read, or missed, the others.
        changed |= any(now[file].st_ctime_ns > self._at for file in files - self._looked if file in now)
        self._at, self._looked, self._known = at, files, now
        return changed


def _now() -> int:
    """A time that no file which is made or changed from now on can have as an earlier one."""
    return time.time_ns() - TICK_NS


def _folders(files: Iterable[Path]) -> frozenset[Path]:
    """The folders to watch: where a file lacks its folder, too, the one above, in which that will appear."""
    folders = set()
    for file in files:
        folder = file.parent
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        folders.add(folder)
        folders.update(link.parent.resolve() for link in _links(file))
    return frozenset(folders)


def _links(file: Path) -> set[Path]:
    """The links that are passed on the way to a file."""
    found: set[Path] = set()
    ahead: Path | None = file
    while ahead is not None and len(found) < _MOST_LINKS:
        way, ahead = ahead, None
        for place in (*reversed(way.parents), way):
            if place not in found and place.is_symlink():
                found.add(place)
                ahead = place.parent / place.readlink() / way.relative_to(place)
                break
    return found


def _resolved(files: Iterable[Path]) -> frozenset[Path]:
    """The paths, and the real ones of those that lead over links."""
    found = set()
    for file in files:
        found.add(file.absolute())
        with contextlib.suppress(OSError, RuntimeError):
            found.add(file.resolve())
    return frozenset(found)
