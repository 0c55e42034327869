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

from edgerouter import logs, service_manager
from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, EdgeError, ListenError, Problem
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

    def adapt(self, edge: Edge) -> Edge:
        """The edge with what the command line changes."""
        return edge

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
        return _Process(application, settings, watch, _safe(say or _nowhere), _safe(warn or _to_stderr)).run()


class _Process:
    """The process that serves: one event at a time, each to its end."""

    def __init__(
        self,
        application: Application,
        settings: Settings | None,
        watch: bool,
        out: Callable[[str], None],
        err: Callable[[str], None],
    ) -> None:
        self.application = application
        self.settings = settings
        self.out = out
        self.err = err
        self.signals = Signals()
        self.watcher = Watcher(application.files, self.signals.events, err) if watch else None

    def run(self) -> bool:
        """Serves until it is stopped; see ``serve``."""
        with self.signals.early():
            return self.start()

    def start(self) -> bool:
        """Loads the application and serves it until it is stopped."""
        current: Edge | EdgeError
        try:
            current = self.application.load()
        except EdgeError as error:
            if self.watcher is None:
                raise
            current = error
        with self.signals:
            started = self.begin(current)
            if started is None:
                return True
            current, server = started
            if server.deploys is not None:
                server.deploys.adapt = self.application.adapt
            self.signals.guard(server)
            threading.Thread(target=_report_when_stopped, args=(server, self.signals.events), daemon=True).start()
            for line in announcement(current, server):
                self.out(line)
            service_manager.notify("READY=1", f"STATUS=serving {', '.join(server.urls)}")
            watchdog = service_manager.Watchdog(server.engine.silence)
            if self.watcher is not None:
                self.watcher.renew()
            try:
                while (event := self.signals.next()) in ("reload", "changed", "reopen", "unknown"):
                    if event == "unknown":
                        self.err(
                            "warning: SIGUSR2 has no meaning here: SIGHUP reads the configuration again, and a new "
                            "version of edgerouter is served after a restart"
                        )
                        continue
                    if event != "changed":
                        server.reopen_logs()
                    if event == "reopen":
                        continue
                    service_manager.reloading()
                    self.reload(server)
                    service_manager.notify("READY=1")
                    if self.watcher is not None:
                        self.watcher.renew()
            finally:
                if self.watcher is not None:
                    self.watcher.close()
            self.signals.heard()
            watchdog.end()
            service_manager.notify("STOPPING=1")
            if event == "stop":
                self.out("stopping: requests may finish; signal again to end at once")
                return self.stop(server)
        return True

    def begin(self, found: Edge | EdgeError) -> tuple[Edge, Server] | None:
        """Starts; where files are watched, waits until a broken one is mended. ``None``: stopped before that."""
        while True:
            try:
                if isinstance(found, EdgeError):
                    raise found
                return found, Server.start(found, self.settings, watched=self.watcher is not None)
            except ListenError:
                raise
            except EdgeError as error:
                if self.watcher is None:
                    raise
                for line in str(error).splitlines():
                    self.err(line if line.startswith(" ") else f"error: {line}")
            self.err("nothing is served yet; waiting for a corrected file")
            self.watcher.renew()
            if self.signals.next() == "stop":
                self.watcher.close()
                return None
            try:
                with self.signals.interrupting():
                    found = self.application.load()
            except Stopping:
                self.watcher.close()
                return None
            except EdgeError as error:
                found = error
            except BaseException as error:  # noqa: BLE001  # whatever the user's file raises
                found = EdgeError(self.application.refusal(error))

    def reload(self, server: Server) -> None:
        """Reads the configuration again. Nothing that it raises ends the process: the old one keeps serving."""
        loaded = False
        try:
            with self.signals.interrupting():
                edge = (server.promoted or self.application).load()
                loaded = True
                version = server.reload(edge)
        except Stopping:
            return
        except BaseException as error:  # noqa: BLE001  # whatever the user's file raises
            refusal = self.application.refusal(error)
            # The server counts those that it refuses.
            if not (loaded and isinstance(error, EdgeError)):
                with contextlib.suppress(Exception):
                    server.reload_failed(refusal)
        else:
            self.out(f"reloaded: version {version}")
            return
        finally:
            # The file may have replaced the handlers.
            self.signals.take()
        self.err("error: reload refused; the old configuration keeps serving")
        for line in refusal.splitlines():
            self.err(f"  {line}")

    def stop(self, server: Server) -> bool:
        """Drains in another thread, so that a second signal can be heard meanwhile."""
        drained: list[bool] = []
        stopper = threading.Thread(target=lambda: drained.append(server.stop()), daemon=True)
        try:
            stopper.start()
        except RuntimeError:
            # No thread can be started. The engine hears a second signal itself.
            return server.stop()
        while True:
            event = self.signals.next()
            if event == "stopped":
                break
            if event == "stop":
                self.err("warning: ended at once; requests were cut off")
                leave(1)
        stopper.join(timeout=5)
        if drained == [False]:
            self.err("warning: the drain timed out; requests were cut off")
        return drained != [False]


def _report_when_stopped(server: Server, events: queue.SimpleQueue[Event]) -> None:
    server.wait()
    events.put("stopped")


def announcement(edge: Edge, server: Server) -> list[str]:
    """The lines to print at the start."""
    from edgerouter import _core

    counts = [(edge.count(field), field[:-1]) for field in ("routes", "origins")]
    count = ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts)
    lines = [f"edgerouter {_core.__version__} serves {edge.name} ({count})"]
    lines += [f"  {url}" for url in server.urls]
    if server.admin_url is not None:
        lines.append(f"  {server.admin_url}  admin: /dashboard /healthz /readyz /metrics")
    return lines


def leave(code: int) -> NoReturn:
    """Ends the process at once, without the interpreter's own end.

    A callable that is still at work would not survive that: CPython before 3.14 ends its thread where it next needs
    the interpreter, in the middle of frames that cannot be unwound.
    """
    _flush()
    os._exit(code)


def _nowhere(_line: str) -> None:
    pass


_loading = threading.local()


def refuse_while_loading(method: str) -> None:
    """``edgerouter run`` loads the file again for each reload: what it serves must not depend on that."""
    if getattr(_loading, "files", 0):
        message = (
            "is called while edgerouter loads this file, and edgerouter serves the edge itself; "
            'put the call under if __name__ == "__main__":'
        )
        raise ConfigError([Problem(f"Edge.{method}", None, message)])


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
