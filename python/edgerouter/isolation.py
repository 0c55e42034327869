"""Functions in processes of their own: the policy, and the callable that stands for one in the edge's process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgerouter.cache import Duration
from edgerouter.checks import Check, Value
from edgerouter.errors import ConfigError, Problem
from edgerouter.functions.content_use import FILLED

if TYPE_CHECKING:
    from edgerouter._core import AsyncContext, Request, Response
    from edgerouter.functions.processes import ProcessPool

__all__ = ["Isolation", "isolated", "isolated_application"]


class Isolation(Value, frozen=True, kw_only=True):
    """The processes in which functions with ``isolation=`` run; those with equal values share them.

    ``processes``  how many; each runs one call at a time. ``None``: one for each core
    ``memory_bytes``  resident memory: a process that has more after a call is replaced, and one that has more during a
        call, with the programs that it has started, is ended, which is a 502
    ``cpu_seconds``  processor time of a call; more is a 504
    ``response_bytes``  the content of a response
    """

    processes: int | None = None
    memory_bytes: int = 512 << 20
    cpu_seconds: Duration = 10.0
    response_bytes: int = 64 << 20

    def _check(self, check: Check) -> None:
        if self.processes is not None:
            check.whole("processes", least=1, most=1024)
        check.whole("memory_bytes", least=16 << 20)
        check.seconds("cpu_seconds", positive=True)
        check.whole("response_bytes", least=1, most=1 << 30)

    @property
    def cpu(self) -> float:
        """Seconds of processor time."""
        # A timedelta became a number when it was checked.
        return float(self.cpu_seconds)  # type: ignore[arg-type]

    @property
    def count(self) -> int:
        """The number of processes."""
        return self.processes or len(os.sched_getaffinity(0))


class IsolatedFunction:
    """Stands for a function in the edge's process, and has a process of ``pool`` call it."""

    def __init__(self, pool: ProcessPool, number: int) -> None:
        self.pool, self.number = pool, number

    async def __call__(self, request: Request, ctx: AsyncContext) -> Response:
        """Runs a call."""
        return await self.pool.call(self.number, request, ctx)


class IsolatedApplication(IsolatedFunction):
    """As a function, for an application of another framework."""

    #: It reads the content of its requests in pieces.
    content_as_wanted = True


class IsolatedAsgi(IsolatedApplication):
    """The same for ASGI, which has WebSockets."""

    def __init__(self, pool: ProcessPool, number: int, message_bytes: int) -> None:
        super().__init__(pool, number)
        self.message_bytes = message_bytes

    async def __call__(self, request: Request, ctx: AsyncContext) -> Response:
        """Runs a call, or opens a WebSocket."""
        if (tunnel := request.take_tunnel()) is not None:
            from edgerouter.websocket import answered

            app = partial(self.pool.socket, self.number, request, ctx)
            return await answered(request, tunnel, self.message_bytes, app, ctx)
        return await super().__call__(request, ctx)


def isolated(function: Callable[..., Any], name: str, pattern: str, pool: ProcessPool) -> Callable[..., Any]:
    """The callable that has a process of ``pool`` call ``function``."""
    module = getattr(function, "__module__", None) or ""
    qualname = getattr(function, "__qualname__", "")
    file = getattr(sys.modules.get(module), "__file__", None)
    if "<" in qualname or not qualname or file is None:
        message = "runs in a process that imports it by its name: declare it at the top level of a module's file"
        raise ConfigError([Problem("function.isolation", name, message)])
    from edgerouter.functions.process_messages import Imported

    called = IsolatedFunction(pool, pool.add(Imported(module, str(Path(file).resolve()), qualname, pattern)))
    # Its code says whether its calls wait for the content of the request.
    setattr(called, FILLED, function)
    return called


def isolated_application(
    app: object, root: str, interface: str, message_bytes: int, sends_files: bool, pool: ProcessPool
) -> Callable[..., Any]:
    """The callable that has a process of ``pool`` call an application, which it imports by the name that it has."""
    from edgerouter.functions.process_messages import Imported

    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is None:
            continue
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is app:
                place = Imported(module.__name__, str(Path(file).resolve()), name, root, interface, sends_files)
                number = pool.add(place)
                if interface == "asgi":
                    return IsolatedAsgi(pool, number, message_bytes)
                return IsolatedApplication(pool, number)
    message = "runs in a process that imports it by its name: give it one at the top level of a module's file"
    raise ConfigError([Problem("mount.isolation", root or "/", message)])
