"""Nobody reads standard error: hits, functions, health and SIGTERM go on as if somebody did."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ..origins import Origin, Reply, wait_until
from ..processes import free_port, kill, reachable

SITE = """
import logging
import sys
from edgerouter import Edge, HttpLimits, Limits, LogLimits, Response, cache

lines = LogLimits(queue_bytes=65536, lines_per_second=1_000_000)
edge = Edge("test", limits=Limits(http=HttpLimits(drain_timeout=5), log=lines))
good = edge.origin("good", "{good}")
bad = edge.origin("bad", "{bad}", retries=0)
edge.route("/page", to=good, cache=cache.CachePolicy(ttl=3600))
edge.route("/bad/*", to=bad, cache=cache.DISABLED)
logging.basicConfig()

@edge.function("/loud")
def loud(request, ctx):
    print("x" * 4_000, file=sys.stderr)
    print("y" * 4_000)
    logging.warning("z" * 4_000)
    return Response("said")

@edge.function("/broken")
def broken(request, ctx):
    raise ValueError("b" * 4_000)
"""


class Stalled:
    """``edgerouter run`` with output that goes into full pipes which nobody reads until ``read`` is called."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        read, write = os.pipe()
        fcntl.fcntl(write, 1031, 4096)  # F_SETPIPE_SZ
        os.set_blocking(write, False)
        while True:
            try:
                os.write(write, b".")
            except BlockingIOError:
                break
        os.set_blocking(write, True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgerouter", "run", *arguments],
            stdout=write,
            stderr=write,
            env={**os.environ, "NO_COLOR": "1", **(env or {})},
        )
        os.close(write)
        self.pipe = read
        self.text = b""

    def read(self) -> None:
        """Somebody reads again."""

        def drain() -> None:
            while more := os.read(self.pipe, 65_536):
                self.text += more

        threading.Thread(target=drain, daemon=True).start()


@pytest.fixture
def stalled() -> Iterator[Callable[..., Stalled]]:
    made: list[Stalled] = []

    def make(*arguments: str, env: dict[str, str] | None = None) -> Stalled:
        made.append(Stalled(*arguments, env=env))
        return made[-1]

    yield make
    for one in made:
        kill(one.process)


def test_hits_functions_and_sigterm_go_on_while_nobody_reads_standard_error(
    origin: Origin, second: Origin, tmp_path: Path, stalled: Callable[..., Stalled]
) -> None:
    origin.on("/page", Reply(200, {}, "kept"))
    second.default = lambda seen, connection: connection.close()
    app = tmp_path / "app.py"
    app.write_text(SITE.format(good=origin.url, bad=second.url))
    port, admin = free_port(), free_port()
    edge = stalled(
        str(app), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", env={"EDGEROUTER_LOG": "debug"}
    )
    wait_until(lambda: reachable(port), 60, "the listener")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        assert client.get("/page").text == "kept"
        for number in range(600):
            assert client.get(f"/bad/{number}").status_code == 502
            assert client.get("/page").text == "kept"
        for _ in range(60):
            assert client.get("/loud").text == "said"
            assert client.get("/broken").status_code == 502
        assert client.get("/page").headers["cache-status"].startswith("edgerouter; hit")
    with httpx.Client(base_url=f"http://127.0.0.1:{admin}", timeout=20) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        metrics = client.get("/metrics").text
    dropped = re.search(r'edgerouter_log_dropped_total\{log="stderr",reason="full"\} (\d+)', metrics)
    assert dropped and int(dropped[1]) > 100
    assert re.search(r'edgerouter_log_dropped_total\{log="stdout",reason="full"\} [1-9]', metrics)
    summed = re.search(r"edgerouter_log_summed_total (\d+)", metrics)
    assert summed and int(summed[1]) > 100
    # A write that is stuck would keep it for ever.
    edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(60) == 0


def test_lines_that_repeat_are_summed_by_origin_and_what_was_dropped_is_said(
    origin: Origin, second: Origin, tmp_path: Path, stalled: Callable[..., Stalled]
) -> None:
    second.default = lambda seen, connection: connection.close()
    app = tmp_path / "app.py"
    app.write_text(SITE.format(good=origin.url, bad=second.url))
    port = free_port()
    edge = stalled(str(app), "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the listener")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        for _ in range(100):
            client.get("/bad/x")
            client.get("/loud")
    edge.read()
    wait_until(lambda: b"(repeated)" in edge.text, 60, "the sum")
    wait_until(lambda: b"lines were dropped" in edge.text, 60, "the drops")
    edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(60) == 0
    text = edge.text.decode()
    more = re.search(r"origin request failed \(repeated\) of=bad more=(\d+)", text)
    assert more and int(more[1]) >= 1
    assert text.count("origin request failed") < 60
    assert "of= " not in text


def test_an_access_log_that_nobody_takes_delays_no_hit_and_its_drops_are_counted(
    origin: Origin, second: Origin, tmp_path: Path
) -> None:
    origin.on("/page", Reply(200, {}, "kept"))
    app = tmp_path / "app.py"
    app.write_text(SITE.format(good=origin.url, bad=second.url))
    pipe = tmp_path / "access.pipe"
    os.mkfifo(pipe)
    # There is a reader, and it does not read.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, 1031, 4096)  # F_SETPIPE_SZ
    port, admin = free_port(), free_port()
    places = ("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--access-log", str(pipe))
    process = subprocess.Popen([sys.executable, "-m", "edgerouter", "run", str(app), *places])
    try:
        wait_until(lambda: reachable(port), 60, "the listener")
        dropped = 0
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            assert client.get("/page").text == "kept"
            # 4 KiB of the pipe and 64 KiB of the queue hold about 300 lines.
            for _ in range(2_000):
                answer = client.get("/page")
                assert answer.headers["cache-status"].startswith("edgerouter; hit")
                assert answer.elapsed.total_seconds() < 10
        name = r'edgerouter_log_dropped_total\{log="access",reason="full"\} (\d+)'
        metrics = httpx.get(f"http://127.0.0.1:{admin}/metrics", timeout=20).text
        if found := re.search(name, metrics):
            dropped = int(found[1])
        assert dropped > 1_000, metrics
        # Queued lines come once it is read, and new lines with it.
        taken = b""
        os.set_blocking(reader, True)
        while b"/fresh" not in taken:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
                client.get("/bad/fresh")
            taken += os.read(reader, 65_536)
        assert b'"GET /page HTTP/1.1" 200' in taken
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        kill(process)
        os.close(reader)


@pytest.mark.parametrize("target", ["/dev/full", "closed"])
def test_output_that_cannot_be_written_ends_nothing(
    origin: Origin, second: Origin, tmp_path: Path, target: str
) -> None:
    origin.on("/page", Reply(200, {}, "kept"))
    app = tmp_path / "app.py"
    app.write_text(SITE.format(good=origin.url, bad=second.url))
    port = free_port()
    redirect = ">/dev/full 2>&1" if target == "/dev/full" else ">&- 2>&-"
    command = f"exec {sys.executable} -m edgerouter run {app} --listen 127.0.0.1:{port} {redirect}"
    process = subprocess.Popen(["sh", "-c", command])
    try:
        wait_until(lambda: reachable(port), 60, "the listener")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            assert client.get("/loud").text == "said"
            app.write_text(textwrap.dedent("raise SystemExit('no')"))
            process.send_signal(signal.SIGHUP)
            for _ in range(20):
                assert client.get("/loud").text == "said"
                assert client.get("/page").text == "kept"
            app.write_text(SITE.format(good=origin.url, bad=second.url).replace('"said"', '"again"'))
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: client.get("/loud").text == "again", 60, "the reload")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        kill(process)
