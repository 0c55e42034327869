"""Fixtures that make real things: origins on free ports, an edge in front of them, clients that speak to it."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import ssl
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FunctionType
from typing import Any

import httpx
import msgspec
import pytest
from httpx._transports import default as transports
from hypothesis import HealthCheck, settings

from edgerouter import Edge
from edgerouter.testing import Running, running

from .origins import Origin
from .processes import Process

settings.register_profile("edge", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("edge")

# Started in the background, these tests ignore Ctrl-C, and so would the commands that they start and end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: The time that httpx waits where a test says nothing: a busy machine may take longer than its own five seconds.
_usual: httpx.Timeout = inspect.signature(httpx.get).parameters["timeout"].default
_usual.connect = _usual.read = _usual.write = _usual.pool = 60.0

_usual_context = functools.cache(httpx.create_ssl_context)


def _context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
    """The context of a client. The usual one is made once: it reads all authorities of the web, which takes 20 ms.

    No client of the tests needs them, and ``httpx.get`` makes a client for each request.
    """
    return _usual_context() if verify is True and cert is None else httpx.create_ssl_context(verify, cert, trust_env)


vars(transports).update(create_ssl_context=_context)


def described(value: object) -> str:
    match value:
        case Mapping():
            return ", ".join(f"{described(key)}: {described(of)}" for key, of in value.items()) or "nothing"
        case list() | tuple():
            return ", ".join(described(member) for member in value) or "none"
        case set() | frozenset():
            return described(sorted(value))
        case msgspec.Struct():
            given = {
                field.name: getattr(value, field.name)
                for field in msgspec.structs.fields(value)
                if getattr(value, field.name) != field.default
            }
            return f"{type(value).__name__}({described(given)})"
        case bytes():
            return value.decode() if value.isascii() else f"{len(value)} bytes"
        case type() | FunctionType():
            return value.__name__
        case None | bool() | int() | float() | str() | Path():
            return str(value)
    return type(value).__name__


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names the rows of a table by their values, unless they are named by ``pytest.param(…, id=…)`` or ``ids=``.

    A value that is another in each run, as a time or a token, needs a name: workers must collect the same tests.
    """
    text = described(val)
    return text if len(text) <= 60 else f"{text[:59]}…"


@pytest.fixture
def origin() -> Iterator[Origin]:
    made = Origin("first")
    yield made
    made.close()


@pytest.fixture
def second() -> Iterator[Origin]:
    made = Origin("second")
    yield made
    made.close()


@pytest.fixture
def standard_error(tmp_path: Path) -> Callable[[], str]:
    """All that the log has written to standard error since the test began.

    ``capfd.readouterr`` reads its file and then empties it: a line that the thread of the log writes between the two is
    lost, so a test that reads again and again would miss it now and then.
    """
    file = tmp_path / _STANDARD_ERROR
    return lambda: file.read_text(errors="replace")


_STANDARD_ERROR = "standard-error.log"


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Redirects standard error for ``standard_error``; between the phases of a test pytest takes it back."""
    if "standard_error" not in pyfuncitem.fixturenames:
        return (yield)
    folder = pyfuncitem.funcargs["tmp_path"]
    assert isinstance(folder, Path)
    usual, file = os.dup(2), folder / _STANDARD_ERROR
    with file.open("ab", buffering=0) as stream:
        os.dup2(stream.fileno(), 2)
    try:
        return (yield)
    finally:
        os.dup2(usual, 2)
        os.close(usual)


Serve = Callable[[Edge], Running]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(edge)`` starts it on a free port and stops it after the test.

    The stop waits for no exchange that the test has left open: it would be half a second for a connection in use.
    """
    with ExitStack() as stack:
        yield lambda edge: stack.enter_context(running(edge, drain=0.05))


@pytest.fixture
def client_for() -> Iterator[Callable[[Running], httpx.Client]]:
    with ExitStack() as stack:

        def make(edge: Running) -> httpx.Client:
            return stack.enter_context(httpx.Client(base_url=edge.url, timeout=30.0, follow_redirects=False))

        yield make


@pytest.fixture
def site(origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]) -> Callable[..., httpx.Client]:
    """``site(**route)`` serves one route ``/*`` to ``origin`` and gives a client for it."""

    def make(pattern: str = "/*", **route: object) -> httpx.Client:
        edge = Edge("test")
        edge.route(pattern, to=edge.origin("first", origin.url), **route)  # type: ignore[arg-type]
        return client_for(serve(edge))

    return make


@pytest.fixture
def run() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def make(*arguments: str, env: dict[str, str] | None = None) -> Process:
        started.append(Process(*arguments, env=env))
        return started[-1]

    yield make
    for process in started:
        process.kill()
