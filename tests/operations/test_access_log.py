"""The access log: what a line says, what it never says, and where it goes."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ..metrics import counted
from ..origins import Origin, Reply, wait_until
from ..processes import Process, free_port, reachable
from ..raw import exchange

Run = Callable[..., Process]

APP = """
from edgerouter import AccessLog, Edge, Experiment, Response

edge = Edge("test")
edge.route("/*", to=edge.origin("first", "{url}"), experiment=Experiment("home", variants={{"control": 100}}))

@edge.function("/who")
def who(request, ctx):
    return Response(request.id)
"""

COMBINED = re.compile(
    r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "(?P<request>[^"]*)" (?P<status>\d{3}) '
    r'(?P<bytes>\d+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<fields>.*)'
)


@pytest.fixture
def app(origin: Origin, tmp_path: Path) -> Path:
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "hello")
    path = tmp_path / "app.py"
    path.write_text(APP.format(url=origin.url))
    return path


def start(run: Run, app: Path, *arguments: str) -> tuple[Process, str]:
    port = free_port()
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", *arguments)
    wait_until(lambda: reachable(port), 60, "the listener")
    return process, f"http://127.0.0.1:{port}"


def lines(log: Path, count: int) -> list[str]:
    wait_until(lambda: log.exists() and log.read_text().count("\n") >= count, 60, f"{count} lines")
    return log.read_text().splitlines()


def test_a_combined_line_says_how_a_request_was_answered_and_by_whom(app: Path, tmp_path: Path, run: Run) -> None:
    log = tmp_path / "access.log"
    process, url = start(run, app, "--access-log", str(log))
    fields = {"user-agent": 'a "b" \\ c', "referer": "https://x.example/?token=secret&page=1"}
    with httpx.Client(base_url=url) as client:
        for _ in range(2):
            assert client.get("/page?a=b&token=secret", headers=fields).text == "hello"
        assert client.head("/page?a=b&token=secret", headers=fields).status_code == 200
        identity = client.get("/who", headers={"authorization": "Bearer hidden", "cookie": "sid=hidden"}).text
    assert b"400" in exchange(url, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    miss, hit, head, who, refused = lines(log, 5)
    found = COMBINED.fullmatch(miss)
    assert found, miss
    assert found["request"] == "GET /page?a=b&token=*** HTTP/1.1"
    assert (found["status"], found["bytes"]) == ("200", "5")
    assert found["referer"] == "https://x.example/?token=***&page=1"
    assert found["agent"] == r"a \x22b\x22 \x5C c"
    for part in ('cache="miss"', 'route="/*"', 'origin="first"', 'variant="home:control"', "time=0.", "head=0."):
        assert part in found["fields"], part
    assert 'cache="hit"' in hit
    assert "origin=" not in hit
    assert " 200 0 " in head
    assert f"id={identity}" in who
    assert 'cache="function"' in who
    assert '"- - -" 400 0' in refused
    assert 'reason="' in refused
    assert not any(secret in log.read_text() for secret in ("secret", "hidden"))
    assert process.end() == 0


def test_json_lines_are_objects_and_warm_reads_both_forms(app: Path, tmp_path: Path, run: Run) -> None:
    for form in ("json", "combined"):
        log = tmp_path / f"{form}.log"
        process, url = start(run, app, "--access-log", str(log), "--access-log-format", form)
        for path in ("/a", "/a", "/b?q=1", "/c?token=t"):
            httpx.get(url + path)
        read = lines(log, 4)
        if form == "json":
            entry = json.loads(read[0])
            assert (entry["method"], entry["url"], entry["status"], entry["bytes"]) == ("GET", "/a", 200, 5)
            assert (entry["cache"], entry["origin"], entry["route"]) == ("miss", "first", "/*")
            assert entry["seconds"] >= entry["head_seconds"] > 0
        httpx.get(url + "/a", headers={"host": "shop.example"})
        lines(log, 5)
        warm = run("warm", "--log", str(log), "--edge", url, "--json")
        warm.process.wait(60)
        warm.reader.join(60)
        # Each URL under the host that it was requested under, so all of them are stored.
        tally = json.loads(warm.output)
        assert (tally["urls"], tally["hits"]) == (3, 3), warm.output
        assert process.end() == 0


def test_sighup_and_sigusr1_open_the_file_again(app: Path, tmp_path: Path, run: Run) -> None:
    log = tmp_path / "access.log"
    process, url = start(run, app, "--access-log", str(log))
    for number in (signal.SIGUSR1, signal.SIGHUP):
        httpx.get(f"{url}/before")
        lines(log, 1)
        moved = log.rename(tmp_path / f"access.{number}.log")
        process.process.send_signal(number)
        wait_until(log.exists, 60, "the new file")
        httpx.get(f"{url}/after")
        assert "/after" in lines(log, 1)[0]
        assert "/after" not in moved.read_text()
        log.unlink()
        process.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists, 60, "the next file")
    process.wait_for("reloaded")
    assert process.output.count("reloaded") == 1
    assert process.end() == 0


def test_standard_output_takes_lines_and_reload_shows_short_ones(app: Path, run: Run) -> None:
    process, url = start(run, app, "--access-log", "-")
    httpx.get(f"{url}/x")
    process.wait_for(r'"GET /x HTTP/1.1" 200 5')
    assert process.end() == 0
    process, url = start(run, app, "--reload")
    httpx.get(f"{url}/x")
    process.wait_for(r"\d\d:\d\d:\d\d 200 GET /x  miss.* 5 B \d+\.\d ms from first")
    assert process.end() == 0


def test_a_pipe_may_get_its_reader_later(app: Path, tmp_path: Path, run: Run) -> None:
    pipe = tmp_path / "access.pipe"
    os.mkfifo(pipe)
    process, url = start(run, app, "--access-log", str(pipe))
    assert httpx.get(f"{url}/before").text == "hello"
    with pipe.open() as reader:
        assert '"GET /before HTTP/1.1" 200' in reader.readline()
    process.process.send_signal(signal.SIGUSR1)
    assert httpx.get(f"{url}/after").text == "hello"
    with pipe.open() as reader:
        assert '"GET /after HTTP/1.1" 200' in reader.readline()
    assert process.end() == 0


def test_a_full_disk_costs_lines_and_is_said_once_and_no_line_is_glued_to_a_torn_one(
    app: Path, tmp_path: Path, run: Run
) -> None:
    log = tmp_path / "access.log"
    to_log = ("--access-log", str(log), "--access-log-format", "json")
    process, url = start(run, app, *to_log, "--admin", "127.0.0.1:0")
    admin = process.wait_for(r"(http://\S+)  admin")[1]
    httpx.get(f"{url}/before")
    lines(log, 1)
    pid, (_, hard) = process.process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
    # A part of the next line fits.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 50, hard))
    for number in range(20):
        assert httpx.get(f"{url}/during/{number}").status_code == 200
    process.wait_for(rf"a log cannot be written; .*File too large.*log=\"?access\"? path={log}")
    lost = 'edgerouter_log_dropped_total{log="access",reason="failed"}'
    wait_until(lambda: counted(admin, lost) == 20, 60, "the end of the last line")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    def is_written_again() -> bool:
        httpx.get(f"{url}/after")
        return "a log can be written again" in process.output

    wait_until(is_written_again, 60, "the end of the failure")
    assert process.output.count("a log cannot be written") == 1
    assert process.end() == 0
    texts = log.read_text().splitlines()
    assert json.loads(texts[0])["url"] == "/before"
    assert len(texts[1]) == 50
    assert {json.loads(text)["url"] for text in texts[2:]} == {"/after"}


def test_a_file_that_cannot_be_opened_is_told_at_the_start(app: Path, tmp_path: Path, run: Run) -> None:
    process = run("run", str(app), "--listen", "127.0.0.1:0", "--access-log", str(tmp_path / "no" / "such.log"))
    assert process.process.wait(60) == 1
    process.wait_for("access_log.*No such file")


@pytest.mark.parametrize(
    ("terminal", "env", "coloured"),
    [(True, {}, True), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False), (False, {}, False)],
    ids=["terminal", "NO_COLOR", "dumb", "pipe"],
)
def test_short_lines_have_colours_on_a_terminal_that_wants_them(
    app: Path, terminal: bool, env: dict[str, str], coloured: bool
) -> None:
    port = free_port()
    read, write = pty.openpty() if terminal else os.pipe()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "edgerouter", "run", str(app), "--listen", f"127.0.0.1:{port}", "--reload"],
        stdout=write,
        stderr=subprocess.DEVNULL,
        env={**clean, "TERM": "xterm-256color", **env},
    )
    os.close(write)
    try:
        wait_until(lambda: reachable(port), 60, "the listener")
        httpx.get(f"http://127.0.0.1:{port}/x")
        said = b""
        while b"from first" not in said:
            said += os.read(read, 65_536)
        [line] = [line for line in said.splitlines() if b"GET /x" in line]
        assert (b"\x1b[32m200\x1b[0m" in line) == coloured, line
        assert (b"\x1b" in line) == coloured, line
    finally:
        process.terminate()
        process.wait(60)
        os.close(read)
