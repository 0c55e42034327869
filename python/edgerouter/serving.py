"""Process life: start, signals, hot reload, drain.

The thread that calls ``serve`` only waits for events (signals, changed files) and handles them one at a time, so a
reload and a stop never overlap.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from edgerouter import logs
from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, EdgeError, ListenError
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.signals import Event, Signals, Stopping
from edgerouter.watching import Watcher

__all__ = ["Application", "serve"]


class Application:
    """The source of an ``Edge`` each time the configuration is read. This one always gives the same edge."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def load(self) -> Edge:
        """The edge as the configuration says now. Raises ``EdgeError`` with a message that is fit to print."""
        return self._edge

    def files(self) -> set[Path]:
        """The files that a change of which means a reload."""
        return set()

    def refusal(self, error: BaseException) -> str:
        """The text to print about an error of ``load``; never raises itself."""
        try:
            text = str(error)
        except BaseException:  # noqa: BLE001  # a class of the user's own
            text = ""
        return text if isinstance(error, EdgeError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def serve(
    edge: Edge | Application,
    settings: Settings | None = None,
    *,
    watch: bool = False,
    say: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> bool:
    """Serves until it is stopped. False: requests were cut off, and callables may still run.

    In the main thread SIGTERM and SIGINT drain (a second one ends at once) and SIGHUP reloads; ``watch`` reloads when
    a file of the application changes. A configuration that is refused is reported and the old one keeps serving.
    """
    application = edge if isinstance(edge, Application) else Application(edge)
    with logs.queued():
        return _serve(application, settings, watch, _safe(say or _nowhere), _safe(warn or _to_stderr))


def _serve(
    application: Application,
    settings: Settings | None,
    watch: bool,
    out: Callable[[str], None],
    err: Callable[[str], None],
) -> bool:
    signals = Signals()
    events = signals.events
    watcher = Watcher(application.files, events, err) if watch else None
    current: Edge | EdgeError
    try:
        current = application.load()
    except EdgeError as error:
        if watcher is None:
            raise
        current = error
    with signals:
        started = _begin(current, application, settings, signals, watcher, err)
        if started is None:
            return True
        current, server = started
        signals.guard(server)
        threading.Thread(target=_tell_when_stopped, args=(server, events), daemon=True).start()
        for line in announcement(current, server):
            out(line)
        if watcher is not None:
            watcher.renew()
        try:
            while (event := signals.next()) in ("reload", "changed", "reopen"):
                if event != "changed":
                    server.reopen_logs()
                if event == "reopen":
                    continue
                _reload(server, application, signals, out, err)
                if watcher is not None:
                    watcher.renew()
        finally:
            if watcher is not None:
                watcher.close()
        signals.heard()
        if event == "stop":
            out("stopping: requests may finish; signal again to end at once")
            return _stop(server, signals, err)
    return True


def _begin(
    found: Edge | EdgeError,
    application: Application,
    settings: Settings | None,
    signals: Signals,
    watcher: Watcher | None,
    err: Callable[[str], None],
) -> tuple[Edge, Server] | None:
    """Starts; where files are watched, waits until a broken one is mended. ``None``: stopped before that."""
    while True:
        try:
            if isinstance(found, EdgeError):
                raise found
            return found, Server.start(found, settings, watched=watcher is not None)
        except ListenError:
            raise
        except EdgeError as error:
            if watcher is None:
                raise
            for line in str(error).splitlines():
                err(line if line.startswith(" ") else f"error: {line}")
        err("nothing is served yet; waiting for a corrected file")
        watcher.renew()
        if signals.next() == "stop":
            watcher.close()
            return None
        try:
            with signals.interrupting():
                found = application.load()
        except Stopping:
            watcher.close()
            return None
        except EdgeError as error:
            found = error
        except BaseException as error:  # noqa: BLE001  # whatever the user's file raises
            found = EdgeError(application.refusal(error))


def announcement(edge: Edge, server: Server) -> list[str]:
    """The lines to print at the start."""
    from edgerouter import _core

    plan = edge.to_dict()
    counts = [(len(plan.get(field, ())), field[:-1]) for field in ("routes", "origins")]
    count = ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts)
    lines = [f"edgerouter {_core.__version__} serves {edge.name} ({count})"]
    lines += [f"  {url}" for url in server.urls]
    if server.admin_url is not None:
        lines.append(f"  {server.admin_url}  admin: /healthz /readyz /metrics")
    return lines


# -- reload ------------------------------------------------------------------------------------------------------------


def _reload(
    server: Server,
    application: Application,
    signals: Signals,
    out: Callable[[str], None],
    err: Callable[[str], None],
) -> None:
    """Reads the configuration again. Nothing that it raises ends the process: the old one keeps serving."""
    try:
        with signals.interrupting():
            edge = application.load()
            version = server.reload(edge)
    except Stopping:
        return
    except ConfigError as error:
        refusal = str(error)
    except BaseException as error:  # noqa: BLE001  # whatever the user's file raises
        refusal = application.refusal(error)
        with contextlib.suppress(Exception):
            server.reload_failed(refusal)
    else:
        out(f"reloaded: version {version}")
        return
    finally:
        # The file may have replaced the handlers.
        signals.take()
    err("error: reload refused; the old configuration keeps serving")
    for line in refusal.splitlines():
        err(f"  {line}")


# -- stop --------------------------------------------------------------------------------------------------------------


def _tell_when_stopped(server: Server, events: queue.SimpleQueue[Event]) -> None:
    server.wait()
    events.put("stopped")


def _stop(server: Server, signals: Signals, err: Callable[[str], None]) -> bool:
    """Drains in another thread, so that a second signal can be heard meanwhile."""
    drained: list[bool] = []
    stopper = threading.Thread(target=lambda: drained.append(server.stop()), daemon=True)
    stopper.start()
    while True:
        event = signals.next()
        if event == "stopped":
            break
        if event == "stop":
            err("warning: ended at once; requests were cut off")
            leave(1)
    stopper.join(timeout=5)
    if drained == [False]:
        err("warning: the drain timed out; requests were cut off")
    return drained != [False]


def leave(code: int) -> NoReturn:
    """Ends the process at once, without the interpreter's own end.

    A callable that is still at work would not survive that: CPython before 3.14 ends its thread where it next asks for
    the interpreter, in the middle of frames that cannot be unwound.
    """
    _flush()
    os._exit(code)


def _nowhere(_line: str) -> None:
    pass


_loading = threading.local()


def loading() -> bool:
    """Whether this thread runs an application's file to find its edge."""
    return bool(getattr(_loading, "files", 0))


@contextlib.contextmanager
def while_loading() -> Iterator[None]:
    """Refuses serving from this thread until the block ends."""
    _loading.files = getattr(_loading, "files", 0) + 1
    try:
        yield
    finally:
        _loading.files -= 1


def to_stdout(line: str) -> None:
    """Prints at once."""
    print(line, flush=True)


def _safe(printing: Callable[[str], None]) -> Callable[[str], None]:
    """Prints without ever raising: a stream that is closed, gone or full is no reason to stop serving."""

    def safely(line: str) -> None:
        with contextlib.suppress(Exception):
            printing(line)

    return safely


def _flush() -> None:
    from edgerouter import _core

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    _core.flush_streams()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
