"""``Server``: an edge that is being served, around the engine, which has its own threads."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from edgerouter.bindings import guard_files
from edgerouter.cache import Duration
from edgerouter.descriptors import raise_limit
from edgerouter.ending import Ending
from edgerouter.errors import ConfigError, EdgeError, ListenError, Problem
from edgerouter.obtaining import Records
from edgerouter.purging import Purging
from edgerouter.secrets import Secret, as_secret, bearer, reveal
from edgerouter.settings import Settings
from edgerouter.shown import shown

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter.deploying.orders import Deploys, Version
    from edgerouter.edge import Edge
    from edgerouter.functions.lifecycle import Life
    from edgerouter.serving import Application

__all__ = ["Server"]


class Server(Purging):
    """An edge that is being served. Also a context manager that stops it at the end."""

    def __init__(self, engine: _core.Engine, edge: Edge, life: Life | None, plan: bytes) -> None:
        self._engine = engine
        self._edge = edge
        self._life = life
        #: Versions whose end is to come or under way.
        self._retired: weakref.WeakSet[Life] = weakref.WeakSet()
        self._plan = plan
        # Held while the version in service changes.
        self._changing = threading.RLock()
        self.deploys: Deploys | None = None
        self.promoted: Application | None = None
        edge.server = self
        self._stopped = threading.Event()
        self._records = Records(engine)
        self._records.serve(edge.certificate_callables(), edge.to_dict())

    @classmethod
    def start(
        cls, edge: Edge, settings: Settings | None = None, *, test_clock: bool = False, watched: bool = False
    ) -> Server:
        """Compiles, binds and serves; returns when connections are accepted.

        ``test_clock`` is for ``edgerouter.testing``: the wall clock can be moved.
        ``watched``  the application is in development: error pages show the traceback, as ``debug_errors`` says.

        Raises ``ConfigError`` with every problem of the plan, or ``ListenError``.
        """
        from edgerouter import _core

        settings = settings or Settings()
        if watched and settings.deploy_folder is not None:
            message = "does not go with --reload, which replaces the running version at each change: leave one out"
            raise ConfigError([Problem("Settings.deploy_folder", os.fspath(settings.deploy_folder), message)])
        life = edge.life()
        addresses = settings.listen
        if addresses is None:
            # A service manager says by its sockets where to listen.
            addresses = () if edge.listeners else tuple(_core.inherited_addresses()) or ("127.0.0.1:8080",)
        listen = [address for given in addresses for address in resolved(given)]
        admin = None if settings.admin is None else resolved(settings.admin)[0]
        token = _token(settings.admin_token, "admin_token")
        keys = [(key, reveal(as_secret(secret), f"admin_keys[{key}]")) for key, secret in settings.admin_keys.items()]
        try:
            plan = edge.encode()
            engine = _core.Engine(
                plan,
                edge.callables(),
                listen=listen,
                admin=admin,
                admin_token=token,
                workers=settings.workers,
                descriptors=raise_limit(),
                test_clock=test_clock,
                # Behind a proxy, a tunnel or a container's network every client may look like one on this machine.
                traces=settings.debug_errors
                or (watched and all(map(_is_loopback, [*listen, *edge.listeners, *filter(None, [admin])]))),
                ended=Ending.of(edge, life),
            )
            engine.admin_keys(keys)
            if reader := _token(settings.admin_reader_token, "admin_reader_token"):
                engine.admin_reader_token(reader)
            if settings.admin_socket is not None:
                engine.admin_socket(os.fspath(settings.admin_socket))
            _open_access_log(engine, settings, watched=watched)
            if settings.experiments_file is not None:
                engine.experiments_file(os.fspath(settings.experiments_file))
            if settings.cost_report is not None:
                engine.cost_report(os.fspath(settings.cost_report))
            _begin(engine, life)
            try:
                engine.start()
            except BaseException:
                engine.stop(0, life.end if life else None)
                raise
        except ConfigError as error:
            raise edge.placed(error) from None
        guard_files(edge.to_dict())
        engine.document(shown(edge.to_dict()))
        if life:
            life.serve()
        server = cls(engine, edge, life, plan)
        if settings.deploy_folder is not None:
            server._take_deploys(os.fspath(settings.deploy_folder))
        return server

    def _take_deploys(self, folder: str) -> None:
        from edgerouter import _core
        from edgerouter.deploying.orders import Deploys

        try:
            self.deploys = Deploys(
                _core.EngineDeploys(self._engine),
                folder,
                begin=lambda life: _begin(self._engine, life),
                running=lambda: self._plan,
                promoted=self._serve_promoted,
                changing=self._changing,
            )
        except BaseException:
            self.stop(0)
            raise
        self.deploys.start()

    def _serve_promoted(self, version: Version) -> None:
        self._serves(version.edge, version.life, version.plan)
        self.promoted = version.application

    @property
    def engine(self) -> _core.Engine:
        """The engine itself, for the other modules of this package."""
        return self._engine

    @property
    def addresses(self) -> list[str]:
        """The bound addresses, with the real port where 0 was given."""
        return list(self._engine.addresses)

    @property
    def urls(self) -> list[str]:
        """The URLs served, as one would type them."""
        return list(self._engine.urls)

    @property
    def admin_url(self) -> str | None:
        """The URL of the admin listener."""
        address = self._engine.admin_address
        return None if address is None else f"http://{address}"

    def reload(self, edge: Edge) -> int:
        """Compiles ``edge`` beside the plan that serves and swaps it in; returns the new version.

        Raises ``ConfigError`` when it is refused; the old plan keeps serving.
        """
        life = edge.life()
        try:
            plan = edge.encode()
            # Before any handler of its start runs, and again when none can begin.
            self._check_no_deploy()
            _begin(self._engine, life)
            try:
                with self._changing:
                    self._check_no_deploy()
                    version = self._engine.reload(plan, edge.callables(), Ending.of(edge, life))
                    self._serves(edge, life, plan)
            except BaseException:
                Ending(life, edge.release).end()
                raise
        except ConfigError as error:
            self._engine.reload_failed(str(error))
            raise edge.placed(error) from None
        except EdgeError as error:
            self._engine.reload_failed(str(error))
            raise
        return version

    def _check_no_deploy(self) -> None:
        number = None if self.deploys is None else self.deploys.engine.under_way
        if number is not None:
            raise EdgeError(
                f"deploy {number} is under way, which was compared with the running version: "
                "promote it or roll it back first"
            )

    def _serves(self, edge: Edge, life: Life | None, plan: bytes) -> None:
        """Another version is in service."""
        guard_files(edge.to_dict())
        self._engine.document(shown(edge.to_dict()))
        before, self._life = self._life, life
        # The next version serves before the last one retires, so that no time of a scheduled job is between them.
        if life:
            life.serve()
        if before:
            self._retired.add(before)
            before.retire()
        self._records.serve(edge.certificate_callables(), edge.to_dict())
        self._edge.server = None
        edge.server = self
        self._edge = edge
        self._plan = plan

    def reopen_logs(self) -> None:
        """Opens log files again by their names, after they were moved away."""
        self._engine.reopen_logs()

    def reload_failed(self, reason: str) -> None:
        """Counts and logs a reload that failed before there was a plan."""
        self._engine.reload_failed(reason)

    def metrics(self) -> str:
        """The metrics in Prometheus' text format."""
        return self._engine.metrics()

    def stop(self, drain: Duration | None = None) -> bool:
        """Stops accepting; requests under way may finish within ``drain`` seconds (``limits.http.drain_timeout``).

        ``True`` when all of them did. WebSockets of applications, which have no end of their own, are closed with 1001.
        """
        seconds = None if drain is None else _drain_seconds(drain)
        self._leave_websockets()
        drained = self._engine.stop(seconds, self._end)
        if self.deploys is not None:
            self.deploys.close()
        self._edge.server = None
        self._stopped.set()
        return drained

    def _leave_websockets(self) -> None:
        # Imported by the first one.
        websocket = sys.modules.get("edgerouter.websocket")
        if websocket is not None and websocket.are_open():
            websocket.leave([loop.loop for loop in self._engine.runtime().loops])

    def _end(self) -> None:
        """Ends the version in service, and those before it whose end is not over."""
        for life in (*self._retired, self._life):
            if life:
                life.end()

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


#: The longest drain: clocks cannot add any number of seconds to a time.
_LONGEST_DRAIN = 365 * 86_400.0


def _drain_seconds(drain: Duration) -> float:
    seconds = drain.total_seconds() if isinstance(drain, timedelta) else drain
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds != seconds:
        raise ValueError(f"stop: drain is {drain!r}, but must be seconds or a timedelta")
    return float(min(seconds, _LONGEST_DRAIN))


def _token(given: Secret | str | None, place: str) -> str | None:
    return None if given is None else bearer(reveal(as_secret(given), place), place)


def _begin(engine: _core.Engine, life: Life | None) -> None:
    """Begins the life of a version, on the event loop of functions."""
    if life:
        runtime = engine.runtime()
        life.begin(lambda: runtime.active.loop)


def _open_access_log(engine: _core.Engine, settings: Settings, *, watched: bool) -> None:
    """Opens the access log; an application in development gets a short line for each request."""
    place = None if settings.access_log is None else os.fspath(settings.access_log)
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
        message = f"{error.strerror or error}; give a file in a folder that this user can write"
        raise ConfigError([Problem("access_log", place, message)]) from None


#: The usual hosts, which need no look-up: the module for it takes milliseconds to import.
_LITERAL = frozenset({"127.0.0.1", "0.0.0.0"})


def resolved(address: str) -> list[str]:
    """``HOST:PORT`` with the host as an IP address, as the engine takes it."""
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    if bare in _LITERAL:
        return [f"{host}:{int(port)}"]
    import socket

    try:
        found = socket.getaddrinfo(bare or "0.0.0.0", int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(f"{address}: {reason}; give an IP address such as 127.0.0.1:{port}") from None
    answers = dict.fromkeys(str(info[4][0]) for info in found)
    return [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in list(answers)[:1]]


def _is_loopback(address: str) -> bool:
    """True if only this machine reaches a resolved address."""
    import ipaddress

    # A unix socket is there for a proxy, whose clients may be anywhere.
    if address.startswith("unix:"):
        return False
    host = address.rpartition(":")[0].strip("[]")
    return host == "localhost" or (host != "" and ipaddress.ip_address(host).is_loopback)
