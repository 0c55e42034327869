"""Process life: start, signals, hot reload, drain.

The engine has its own threads. The thread that calls ``serve`` only waits for events (signals, changed files) and
acts on them one at a time, so a reload and a stop never meet.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

from edgerouter import logs
from edgerouter.cache import Duration
from edgerouter.checks import Check, Value
from edgerouter.descriptors import raise_limit
from edgerouter.errors import ConfigError, EdgeError, ListenError, Problem
from edgerouter.purging import Purging
from edgerouter.secrets import Secret, as_secret, reveal

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter.edge import Edge

__all__ = ["Application", "Server", "Settings", "Stopping", "serve"]

log = logging.getLogger("edgerouter.functions")

Event: TypeAlias = Literal["stop", "reload", "changed", "stopped", "reopen"]


class Settings(Value, frozen=True, kw_only=True):
    """Where and with what a plan is served.

    ``listen``  addresses ``HOST:PORT``; port 0 takes a free one
    ``admin``  the address of the admin listener, ``None`` for none
    ``admin_token``  demanded as a Bearer token by the admin listener
    ``admin_keys``  access keys of the CloudFront-compatible calls and their secrets
    ``workers``  threads that serve; one a core when ``None``
    ``access_log``  a file that gets a line for each request, ``"-"`` for standard output, ``None`` for none
    ``access_log_format``  ``"combined"`` as other servers write it and more fields, ``"json"``, or ``"short"``
    ``debug_errors``  the error pages of functions show the traceback to clients on this machine, wherever it listens;
        ``serve(watch=True)`` does so by itself where it listens on loopback addresses only
    """

    listen: str | Collection[str] = ("127.0.0.1:8080",)
    admin: str | None = None
    admin_token: Secret | str | None = None
    admin_keys: Mapping[str, Secret | str] = {}
    workers: int | None = None
    debug_errors: bool = False
    access_log: str | None = None
    access_log_format: Literal["combined", "json", "short"] = "combined"

    def _check(self, check: Check) -> None:
        check.texts("listen")
        if not self.listen:
            check.fail("listen", "must name at least one address such as 127.0.0.1:8080")
        with contextlib.suppress(TypeError):
            for address in self.listen:
                if isinstance(address, str) and (message := _address_problem(address)):
                    check.fail("listen", message, value=address)
        if self.admin is not None and (message := _address_problem(self.admin)):
            check.fail("admin", message)
        if self.admin_token is not None:
            check.keep("admin_token", as_secret(self.admin_token))
        if not isinstance(self.admin_keys, Mapping) or not all(isinstance(k, str) and k for k in self.admin_keys):
            check.fail_secretly("admin_keys", "must be a mapping of access keys to secrets")
        else:
            check.keep("admin_keys", {key: as_secret(secret) for key, secret in self.admin_keys.items()})
        check.whole("workers", least=1, most=1024, optional=True)
        check.text("access_log", optional=True)
        check.choice("access_log_format", ("combined", "json", "short"))
        check.flag("debug_errors")


class Server(Purging):
    """An edge that is being served. Also a context manager that stops it at the end."""

    def __init__(self, engine: _core.Engine, edge: Edge) -> None:
        self._engine = engine
        self._edge = edge
        self._stopped = threading.Event()

    @classmethod
    def start(
        cls, edge: Edge, settings: Settings | None = None, *, test_clock: bool = False, watched: bool = False
    ) -> Server:
        """Compiles, binds and serves; returns when connections are accepted.

        ``test_clock`` is for ``edgerouter.testing``: the wall clock can be moved.
        ``watched``  somebody works on the application: error pages show the traceback, as ``debug_errors`` says.

        Raises ``ConfigError`` with every problem of the plan, or ``ListenError``.
        """
        from edgerouter import _core

        settings = settings or Settings()
        listen = [address for given in settings.listen for address in resolved(given)]
        admin = None if settings.admin is None else resolved(settings.admin)[0]
        token = None if settings.admin_token is None else reveal(as_secret(settings.admin_token), "admin_token")
        keys = [(key, reveal(as_secret(secret), f"admin_keys[{key}]")) for key, secret in settings.admin_keys.items()]
        try:
            engine = _core.Engine(
                edge.encode(),
                edge.callables(),
                listen=listen,
                admin=admin,
                admin_token=token,
                workers=settings.workers,
                descriptors=raise_limit(),
                test_clock=test_clock,
                # Behind a proxy, a tunnel or a container's network every client may look like one on this machine.
                traces=settings.debug_errors or (watched and all(map(_is_loopback, [*listen, *filter(None, [admin])]))),
            )
            engine.admin_keys(keys)
            _open_access_log(engine, settings, watched=watched)
            engine.start()
        except ConfigError as error:
            raise edge._placed(error) from None
        _tell_of_blocking(edge)
        server = cls(engine, edge)
        edge._server = server
        return server

    @property
    def addresses(self) -> list[str]:
        """The bound addresses, with the real port where 0 was asked for."""
        return list(self._engine.addresses)

    @property
    def urls(self) -> list[str]:
        """The URLs served, as one would type them."""
        return [f"http://{address}" for address in self.addresses]

    @property
    def admin_url(self) -> str | None:
        """The URL of the admin listener."""
        address = self._engine.admin_address
        return None if address is None else f"http://{address}"

    def reload(self, edge: Edge) -> int:
        """Compiles ``edge`` beside the plan that serves and swaps it in; returns the new version.

        Raises ``ConfigError`` when it is refused; the old plan keeps serving.
        """
        try:
            version = self._engine.reload(edge.encode(), edge.callables())
        except ConfigError as error:
            self._engine.reload_failed(str(error))
            raise edge._placed(error) from None
        _tell_of_blocking(edge)
        self._edge._server = None
        edge._server = self
        self._edge = edge
        return version

    def reopen_logs(self) -> None:
        """Opens log files again by their names, after they were moved away."""
        self._engine.reopen_logs()

    def reload_failed(self, reason: str) -> None:
        """Counts and logs a reload that did not come as far as a plan."""
        self._engine.reload_failed(reason)

    def metrics(self) -> str:
        """The metrics in Prometheus' text format."""
        return self._engine.metrics()

    def _order(self, order: str) -> str:
        return self._engine.purge(order)

    def _ordered(self, id: str | None = None) -> str:  # noqa: A002
        return self._engine.purges(id)

    def stop(self, drain: Duration | None = None) -> bool:
        """Stops accepting; requests under way may finish within ``drain`` seconds (``limits.http.drain_timeout``).

        ``True`` when all of them did.
        """
        seconds = drain.total_seconds() if isinstance(drain, timedelta) else drain
        drained = self._engine.stop(None if seconds is None else float(seconds))
        self._edge._server = None
        self._stopped.set()
        return drained

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it has been stopped."""
        return self._stopped.wait(timeout)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._stopped.is_set():
            self.stop(None if kind is None else 0.0)


def _tell_of_blocking(edge: Edge) -> None:
    """Says, once in the life of the process, that ``blocking=True`` does nothing any more."""
    global _told_of_blocking
    names = [called.name for called in edge._called if called.blocking]
    if names and not _told_of_blocking:
        _told_of_blocking = True
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        log.warning(
            "blocking=True of %s%s has no effect: plain functions always run on threads; remove it",
            names[0],
            others,
        )


_told_of_blocking = False


class Application:
    """Where an ``Edge`` comes from each time the configuration is read. This one always gives the same edge."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def load(self) -> Edge:
        """The edge as the configuration says now. Raises ``EdgeError`` with a message that is fit to print."""
        return self._edge

    def files(self) -> set[Path]:
        """The files that a change of which means a reload."""
        return set()

    def refusal(self, error: BaseException) -> str:
        """What there is to print about an error of ``load``; it never raises itself."""
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
    """Serves until it is told to stop. False: requests were cut off, and callables may be at work still.

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
    signals = _Signals()
    events = signals.events
    watcher = _Watcher(application, events, err) if watch else None
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
    signals: _Signals,
    watcher: _Watcher | None,
    err: Callable[[str], None],
) -> tuple[Edge, Server] | None:
    """Starts; where files are watched, one that is broken may be mended. ``None``: told to stop before that."""
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


def _open_access_log(engine: _core.Engine, settings: Settings, *, watched: bool) -> None:
    """Somebody who works on an application sees a short line for each request."""
    place = settings.access_log
    if place is None:
        if watched:
            stdout = sys.stdout
            plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
            colours = stdout is not None and stdout.isatty() and not plain
            engine.access_log(None, "short", colours=colours)
        return
    try:
        engine.access_log(None if place == "-" else place, settings.access_log_format)
    except OSError as error:
        raise ConfigError([Problem("Settings.access_log", place, error.strerror or str(error))]) from None


def announcement(edge: Edge, server: Server) -> list[str]:
    """What is said at the start."""
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
    signals: _Signals,
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
        # The file may have taken them.
        signals.take()
    err("error: reload refused; the old configuration keeps serving")
    for line in refusal.splitlines():
        err(f"  {line}")


def _stamps(files: Iterable[Path]) -> dict[Path, tuple[int, int, int]]:
    """What tells one state of the files from another; one that is gone has none."""
    found = {}
    for file in files:
        with contextlib.suppress(OSError):
            state = file.stat()
            found[file] = (state.st_mtime_ns, state.st_size, state.st_ino)
    return found


class _Watcher:
    """Turns changes of the application's files into events.

    Directories are watched and not files, because editors replace a file rather than write to it.
    """

    def __init__(self, application: Application, events: queue.SimpleQueue[Event], err: Callable[[str], None]) -> None:
        self._application = application
        self._events = events
        self._err = err
        self._stop = threading.Event()
        self._folders: frozenset[Path] = frozenset()
        self._files: frozenset[Path] = frozenset()
        self._started = False
        self._seen = _stamps(_resolved(application.files()))

    def start(self) -> None:
        self._started = True
        self._files = _resolved(self._application.files())
        self._folders = frozenset(file.parent for file in self._files)
        self._stop = threading.Event()
        threading.Thread(target=self._run, args=(self._stop,), name="edgerouter-watch", daemon=True).start()

    def renew(self) -> None:
        """After a reload other files may matter."""
        files = _resolved(self._application.files())
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

        # What the files were when they were loaded: a change that came before the watch began is a change too.
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
    """The real paths; one that cannot be found out stays as it is."""
    found = set()
    for file in files:
        try:
            found.add(file.resolve())
        except (OSError, RuntimeError):
            found.add(file)
    return frozenset(found)


# -- signals and stop --------------------------------------------------------------------------------------------------


class Stopping(BaseException):
    """Raised in a reload that a signal to stop interrupts."""


#: SIGHUP opens logs again and reloads, SIGUSR1 only opens logs again.
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


class _Signals:
    """Signals become events; only the main thread may ask for them.

    While the configuration is read the main thread runs the user's file. A signal to stop interrupts that, and where it
    cannot be interrupted (blocked in C, or it catches everything) ``SignalWatch`` stops the process without Python.
    """

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._mine = threading.current_thread() is threading.main_thread()
        self._interrupting = False
        self._before: dict[int, Any] = {}
        self._watch: _core.SignalWatch | None = None
        self._wakeup = -1

    def __enter__(self) -> _Signals:
        if self._mine:
            numbers = [number for name in _SIGNALS if (number := getattr(signal, name, None)) is not None]
            self._before = {number: signal.getsignal(number) for number in numbers}
            self.take()
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if self._watch is not None:
            signal.set_wakeup_fd(self._wakeup)
            self._watch.close()

    def take(self) -> None:
        """Makes the handlers ours (again)."""
        for number in self._before:
            signal.signal(number, self._on_signal)
        if self._watch is not None:
            signal.set_wakeup_fd(self._watch.fileno(), warn_on_full_buffer=False)

    def guard(self, server: Server) -> None:
        """From now on signals are obeyed even while Python cannot act on them."""
        if self._mine:
            self._watch = server._engine.watch_signals()
            self._wakeup = signal.set_wakeup_fd(self._watch.fileno(), warn_on_full_buffer=False)

    def heard(self) -> None:
        """Python is stopping by itself."""
        if self._watch is not None:
            self._watch.heard()

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """A signal to stop raises ``Stopping`` meanwhile."""
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False

    def next(self) -> Event:
        """The next event. Looks again and again: a signal just before the wait would only be noticed after it."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self.events.get(timeout=0.5)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in (getattr(signal, "SIGHUP", None), getattr(signal, "SIGUSR1", None)):
            self.events.put("reload" if number == getattr(signal, "SIGHUP", None) else "reopen")
            return
        self.events.put("stop")
        if self._interrupting:
            raise Stopping


def _tell_when_stopped(server: Server, events: queue.SimpleQueue[Event]) -> None:
    server.wait()
    events.put("stopped")


def _stop(server: Server, signals: _Signals, err: Callable[[str], None]) -> bool:
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


# -- addresses ---------------------------------------------------------------------------------------------------------


def resolved(address: str) -> list[str]:
    """``HOST:PORT`` with the host as an IP address, as the engine takes it."""
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    try:
        found = socket.getaddrinfo(bare or "0.0.0.0", int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(f"{address}: {reason}; give an IP address such as 127.0.0.1:{port}") from None
    answers = dict.fromkeys(str(info[4][0]) for info in found)
    return [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in list(answers)[:1]]


def _is_loopback(address: str) -> bool:
    """Whether only this machine reaches a resolved address."""
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback


def _address_problem(address: object) -> str | None:
    wanted = "must be HOST:PORT such as 127.0.0.1:8080 or [::]:8080"
    if not isinstance(address, str):
        return wanted
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        return wanted
    return wanted if ":" in host and not (host.startswith("[") and host.endswith("]")) else None


def _nowhere(_line: str) -> None:
    pass


_loading = threading.local()


def loading() -> bool:
    """Whether this thread runs an application's file to find its edge."""
    return bool(getattr(_loading, "files", 0))


@contextlib.contextmanager
def while_loading() -> Iterator[None]:
    """Nothing is served meanwhile from this thread."""
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
