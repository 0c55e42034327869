"""A process on a machine that has too little of something."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import httpx

from ..origins import wait_until
from ..processes import Process, free_port, reachable

Run = Callable[..., Process]
Limited = Callable[[int], tuple[str, ...]]

APP = """
import threading
from edgerouter import Edge, Response
edge = Edge("test")

@edge.function("/")
def answer(request, ctx):
    return Response("{text}")

@edge.function("/no-more-threads")
def no_more_threads(request, ctx):
    # No machine has an address space for a stack of this size.
    threading.stack_size(1 << 46)
    return Response("")
"""


def test_a_start_without_threads_says_which_limits_to_raise(tmp_path: Path, run: Run) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP.format(text="") + "threading.stack_size(1 << 46)\n")
    process = run("run", str(app), "--listen", f"127.0.0.1:{free_port()}")
    assert process.process.wait(60) == 1
    process.reader.join(60)
    assert "error: no thread can be started; raise the limits on them and on memory (ulimit -u" in process.output
    assert "Traceback" not in process.output


def limited_threads(most: int) -> tuple[str, ...]:
    """Runs a command as a user who may have so many threads beyond those that there are."""
    if os.geteuid() == 0:
        # Not those of root are limited, and this user has none yet; it reads files as root does.
        caps = "-all,+dac_override"
        user = ("setpriv", "--reuid=23456", "--clear-groups", f"--bounding-set={caps}", f"--inh-caps={caps}")
        return (*user, f"--ambient-caps={caps}", "prlimit", f"--nproc={most}")
    threads = sum(1 for _ in Path("/proc").glob("[0-9]*/task/*") if _.stat().st_uid == os.geteuid())
    return ("prlimit", f"--nproc={threads + most}")


def test_a_start_with_too_few_threads_names_their_limit_wherever_they_end(tmp_path: Path) -> None:
    """With a few, one more, and so on, until there are enough."""
    app = tmp_path / "app.py"
    app.write_text(APP.format(text="served"))
    tmp_path.chmod(0o755)
    assert starts_with_enough(app, range(5, 64), limited_threads, "raise the limit")


def test_a_stop_without_threads_drains_all_the_same(tmp_path: Path, run: Run) -> None:
    app, port = tmp_path / "app.py", free_port()
    app.write_text(APP.format(text="served"))
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the listener")
    assert httpx.get(f"http://127.0.0.1:{port}/").text == "served"
    assert httpx.get(f"http://127.0.0.1:{port}/no-more-threads").status_code == 200
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(60) == 0
    process.reader.join(60)
    assert "Traceback" not in process.output


def test_a_start_without_descriptors_says_which_limit_to_raise(tmp_path: Path) -> None:
    """With none but the standard ones, two more, and so on, until there are enough."""
    app = tmp_path / "app.py"
    app.write_text(APP.format(text="served"))
    assert starts_with_enough(app, range(12, 64, 2), limited_descriptors, "raise the limit on open files")


def limited_descriptors(most: int) -> tuple[str, ...]:
    return ("prlimit", f"--nofile={most}:{most}")


def starts_with_enough(app: Path, numbers: Iterable[int], limited: Limited, remedy: str) -> bool:
    """Starts an edge with one number after another; true when one is enough. All before it end with the remedy."""
    for number in numbers:
        listen = f"127.0.0.1:{free_port()}"
        process = Process("run", str(app), "--listen", listen, "--workers", "1", by=limited(number))
        try:
            wait_until(partial(has_ended_or_serves, process), 60, "an end or a listener")
            if process.process.poll() is None:
                process.process.send_signal(signal.SIGTERM)
                assert process.process.wait(60) == 0, process.output
                return True
            process.reader.join(60)
            assert "Traceback" not in process.output, (number, process.output)
            assert remedy in process.output, (number, process.output)
        finally:
            process.kill()
    return False


def has_ended_or_serves(process: Process) -> bool:
    return process.process.poll() is not None or "serves test" in process.output


def test_reload_goes_on_where_the_system_has_no_watches_left(tmp_path: Path, run: Run) -> None:
    app, port = tmp_path / "app.py", free_port()
    app.write_text(APP.format(text="one"))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    library = ctypes.CDLL(None)
    held: list[int] = []
    try:
        # Of all that this user may have; a machine that has more is held at its descriptors.
        while len(held) < limit - 256 and (found := library.inotify_init1(os.O_CLOEXEC)) >= 0:
            held.append(found)
        process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--reload")
        wait_until(lambda: reachable(port), 60, "the listener")
        process.wait_for("warning: the system cannot watch files .*; they are looked at each second: raise fs.inotify")
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "one"
        app.write_text(APP.format(text="another"))
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/").text == "another", 60, "the reload")
    finally:
        for descriptor in held:
            os.close(descriptor)
