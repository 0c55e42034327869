"""A reload that is refused never ends the process, and one that hangs does not keep it alive."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ..origins import Origin, Reply, wait_until
from ..processes import Process, free_port, reachable
from .apps import write_app

Run = Callable[..., Process]


@pytest.fixture
def started(origin: Origin, tmp_path: Path, run: Run) -> tuple[Process, Path, int]:
    origin.default = Reply(200, {}, "x")
    app, port = tmp_path / "app.py", free_port()
    write_app(app, origin.url, 1)
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the listener")
    return process, app, port


def version(port: int) -> str | None:
    found: str | None = httpx.get(f"http://127.0.0.1:{port}/").headers.get("x-version")
    return found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys\nsys.exit(3)\n", "SystemExit"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("class Own(BaseException): pass\nraise Own('of its own')\n", "of its own"),
        ("class Mute(BaseException):\n    def __str__(self): raise Mute\nraise Mute\n", "Mute"),
        ("import asyncio\nraise asyncio.CancelledError\n", "CancelledError"),
        ("raise GeneratorExit\n", "GeneratorExit"),
        ("def f(): f()\nf()\n", "RecursionError"),
        ("raise MemoryError\n", "MemoryError"),
        ("open('/nonexistent/x')\n", "FileNotFoundError"),
        ("def edge(): raise SystemExit(4)\n", "SystemExit"),
        ("import sys\nsys.stderr = sys.stdout = None\nraise OSError(5, 'io')\n", None),
        ("import signal as s\ns.signal(15, s.SIG_IGN)\ns.signal(1, s.SIG_DFL)\nraise OSError(28, 'full')\n", "full"),
    ],
)
def test_whatever_the_file_raises_the_old_configuration_keeps_serving(
    started: tuple[Process, Path, int], origin: Origin, text: str, said: str | None
) -> None:
    process, app, port = started
    app.write_text(text)
    process.process.send_signal(signal.SIGHUP)
    if said is not None:
        process.wait_for("reload refused")
        process.wait_for(said)
    assert version(port) == "1"
    write_app(app, origin.url, 2)
    process.process.send_signal(signal.SIGHUP)
    wait_until(lambda: version(port) == "2", 60, "the next reload")
    assert process.end() == 0


def test_a_file_that_is_gone_or_cannot_be_read_is_a_refused_reload(started: tuple[Process, Path, int]) -> None:
    process, app, port = started
    app.unlink()
    app.mkdir()
    process.process.send_signal(signal.SIGHUP)
    process.wait_for("reload refused")
    assert version(port) == "1"
    assert process.end() == 0


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (Path.mkdir, "app.py: cannot be read: it is a folder; name a regular file"),
        (os.mkfifo, "app.py: cannot be read: it is a pipe; name a regular file"),
        (lambda app: app.symlink_to("nowhere"), "nowhere: cannot be read: No such file or directory"),
        (lambda app: app.symlink_to(app), "app.py"),
        (lambda app: app.symlink_to("/dev/zero"), "cannot be read: it is a device; name a regular file"),
    ],
    ids=["folder", "pipe", "dangling", "loop", "device"],
)
def test_something_else_in_the_place_of_the_file_is_a_refused_reload(
    started: tuple[Process, Path, int], place: Callable[[Path], None], said: str
) -> None:
    """A pipe without a writer was waited for, and so was everything that came after it."""
    process, app, port = started
    app.unlink()
    place(app)
    process.process.send_signal(signal.SIGHUP)
    process.wait_for("reload refused")
    process.wait_for(re.escape(said))
    assert version(port) == "1"
    assert process.end() == 0


@pytest.mark.parametrize(
    "hang",
    [
        "import time\ntime.sleep(1000)\n",
        "import threading\nthreading.Lock().acquire() and threading.Event().wait()\n",
        "import time\nwhile True:\n    try:\n        time.sleep(1000)\n    except BaseException:\n        pass\n",
        # Blocked in C with the interpreter in its hands: no handler runs.
        "import ctypes\nctypes.PyDLL(None).sleep(1000)\n",
    ],
)
def test_sigterm_is_obeyed_while_a_reload_hangs(started: tuple[Process, Path, int], hang: str) -> None:
    process, app, port = started
    flag = app.with_name("begun")
    app.write_text(f"open({str(flag)!r}, 'w').close()\n" + hang)
    process.process.send_signal(signal.SIGHUP)
    wait_until(flag.exists, 60, "the reload")
    assert version(port) == "1"
    began = time.monotonic()
    # It would take 1,000 seconds otherwise.
    assert process.end() == 0
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("this is (not python", "SyntaxError"),
        ("edge = 5\n", "must be an Edge"),
        ("from edgerouter import Edge\na = Edge('a')\nb = Edge('b')\n", "there are 2 edges"),
        ("from edgerouter import Edge\nedge = Edge('t')\n", "nothing would be served"),
        ("from edgerouter import Edge\nedge = Edge('t')\nedge.route('/*', to='nowhere')\n", "nowhere"),
        (
            "from edgerouter import *\nedge = Edge('t')\nedge.route('/', respond='')\nedge.on('start')(lambda: 0 / 0)",
            "division by zero",
        ),
    ],
    ids=["syntax", "no edge", "two edges", "no routes", "refused by the core", "start handler"],
)
def test_each_refused_reload_is_counted_once(origin: Origin, tmp_path: Path, run: Run, text: str, said: str) -> None:
    app, port = tmp_path / "app.py", free_port()
    write_app(app, origin.url, 1)
    process = run("run", str(app), "--listen", "127.0.0.1:0", "--admin", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the admin listener")
    app.write_text(text)
    process.process.send_signal(signal.SIGHUP)
    process.wait_for(said)
    write_app(app, origin.url, 2)
    process.process.send_signal(signal.SIGHUP)
    process.wait_for("reloaded")
    scraped = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'edgerouter_reloads_total{result="refused"} 1\n' in scraped
    assert 'edgerouter_reloads_total{result="ok"} 1\n' in scraped
    assert process.end() == 0
