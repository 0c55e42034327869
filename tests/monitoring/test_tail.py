"""``edgerouter tail``: lines as values, filters, and a log that grows, is rotated and is cut."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from edgerouter.monitoring.lines import OUTCOMES, Chosen, LogLine, read

from ..metrics import PAGE
from ..origins import Origin, Reply, wait_until
from ..processes import Process, command, free_port, reachable

Run = Callable[..., Process]

APP = """
from edgerouter import CachePolicy, Edge, cache

edge = Edge("test")
edge.route("/*", to=edge.origin("first", "{url}"), cache=CachePolicy(ttl=60))
edge.route("/api/*", to="first", cache=cache.DISABLED)
"""


def line(**fields: object) -> str:
    usual = {"time": "t", "client": "192.0.2.1", "method": "GET", "host": "a.test", "url": "/", "status": 200}
    return json.dumps({**usual, "bytes": 5, "cache": "hit", "route": "/*", "seconds": 0.001, **fields})


def entry(**fields: object) -> LogLine:
    found = read(line(**fields))
    assert found is not None
    return found


def test_a_combined_line_says_the_same_as_its_json() -> None:
    combined = (
        r'192.0.2.1 - - [t] "GET /a?b=\"c HTTP/1.1" 404 12 "-" "curl \"8\"" host="a.test" cache="miss" '
        r'reason="uri-miss" route="/*" origin="first" id=000000000000001a head=0.001500 time=0.250000'
    )
    same = line(
        url=r"/a?b=\"c",
        status=404,
        bytes=12,
        cache="miss",
        reason="uri-miss",
        origin="first",
        seconds=0.25,
        user_agent=r"curl \"8\"",
    )
    assert read(combined) == read(same) is not None


@pytest.mark.parametrize(
    "strange",
    ["", "{", "{}", "[]", '{"status": 200}', '{"status": "x", "url": "/"}', "nonsense", "[" * 10_000, '{"a":' * 10_000],
    ids=lambda text: text[:12] or "empty",
)
def test_a_line_of_no_access_log_is_left_out(strange: str) -> None:
    assert read(strange) is None


@pytest.mark.parametrize(
    ("chosen", "has", "lacks"),
    [
        (Chosen(), {}, None),
        (Chosen(routes=["/api/*"]), {"route": "/api/*"}, {"route": "/api/x"}),
        (Chosen(hosts=["*.test"]), {"host": "WWW.a.test"}, {"host": "a.example"}),
        (Chosen(statuses=["404"]), {"status": 404}, {"status": 403}),
        (Chosen(statuses=["5xx", "404"]), {"status": 503}, {"status": 403}),
        (Chosen(outcomes=["miss"]), {"cache": "miss"}, {"cache": "hit"}),
        (Chosen(reasons=["no-store"]), {"reason": "no-store"}, {"reason": "private"}),
        (Chosen(slow=0.5), {"seconds": 0.5}, {"seconds": 0.49}),
        (Chosen(statuses=["5xx"], slow=1), {"status": 500, "seconds": 2}, {"status": 500, "seconds": 0.5}),
    ],
    ids=["all", "route", "host", "status", "a class or a status", "outcome", "reason", "slow", "both"],
)
def test_a_line_is_chosen_if_it_meets_all_conditions(
    chosen: Chosen, has: dict[str, object], lacks: dict[str, object] | None
) -> None:
    assert chosen.has(entry(**has))
    assert lacks is None or not chosen.has(entry(**lacks))


@pytest.mark.parametrize("form", ["json", "combined"])
def test_requests_of_an_edge_are_shown_as_they_are_answered(
    form: str, origin: Origin, run: Run, tmp_path: Path
) -> None:
    origin.default = Reply(200, {}, "hello")
    origin.on("/api/broken", Reply(503, {}, "no"))
    log = tmp_path / "access.log"
    log.touch()
    app = tmp_path / "app.py"
    app.write_text(APP.format(url=origin.url))
    port = free_port()
    run("run", str(app), "--listen", f"127.0.0.1:{port}", "--access-log", str(log), "--access-log-format", form)
    wait_until(lambda: reachable(port), 60, "the listener")
    every = run("tail", str(log))
    failures = run("tail", str(log), "--status", "5xx", "--route", "/api/*")
    for path in ("/a", "/a", "/api/broken"):
        httpx.get(f"http://127.0.0.1:{port}{path}")
    every.wait_for(r"200 miss \(\S+\) GET 127\.0\.0\.1:\d+/a .* 5 B /\* 127\.0\.0\.1\n(.*\n)*.*200 hit GET")
    failures.wait_for(r"503 .*/api/broken")
    assert (every.end(signal.SIGINT), failures.end(signal.SIGINT)) == (0, 0)
    assert "/a " not in failures.output


def test_the_last_lines_come_first_and_raw_ones_are_as_they_were(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    lines = [line(url=f"/{number}", status=200 + 300 * (number % 2)) for number in range(100)]
    log.write_text("nonsense\n" + "".join(f"{one}\n" for one in lines))
    printed = command("tail", str(log), "--no-follow", "-n", "3", "--status", "500", "--raw")
    assert printed.stdout.splitlines() == lines[95::2]
    shown = command("tail", str(log), "--no-follow", "-n", "1")
    assert shown.stdout == "t 500 hit GET a.test/99 1.0 ms 5 B /* 192.0.2.1\n"


def test_a_log_that_is_rotated_or_cut_is_followed_under_its_name(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(line(url="/first") + "\n")
    process = run("tail", str(log))
    process.wait_for("/first")
    log.rename(tmp_path / "access.log.1")
    with (tmp_path / "access.log.1").open("a") as old:
        old.write(line(url="/late")[:20])
        old.flush()
        old.write(line(url="/late")[20:] + "\n")
    process.wait_for("/late")
    log.write_text(line(url="/second") + "\n" + line(url="/third") + "\n")
    process.wait_for("/second(.|\n)*/third")
    os.truncate(log, 0)
    with log.open("a") as cut:
        cut.write(line(url="/x") + "\n")
    process.wait_for(r"a\.test/x ")
    assert process.end(signal.SIGINT) == 0


def test_standard_input_is_read_to_its_end_and_no_character_moves_the_terminal() -> None:
    text = line(url="/\x1b[2J") + "\n" + line(url="/" + "a" * 100_000) + "\n" + line(url="/b") + "\n"
    for more in ([], ["--raw"]):
        done = subprocess.run(
            [sys.executable, "-m", "edgerouter", "tail", "-", *more],
            input=text.encode(),
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert b"\x1b" not in done.stdout and b"aaaa" not in done.stdout and b"/b" in done.stdout


STRANGE = {
    "another file": b"root:x:0:0:root:/root:/bin/bash\nbin:x:1:1::/bin:\n",
    "the short form": b"22:47:07 200 GET /a  miss (absent) 1000 B 2.0 ms from first\n",
    "a compressed one": gzip.compress(b"".join(line(url=f"/{number}").encode() + b"\n" for number in range(9))) + b"\n",
    "one line without an end": b"nonsense",
    "lines of nothing": b"{}\n[]\n\n",
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_file_that_is_no_access_log_is_refused(name: str, tmp_path: Path) -> None:
    log = tmp_path / "strange.log"
    log.write_bytes(STRANGE[name])
    done = command("tail", str(log), "--no-follow")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "has no line of an access log" in done.stderr and "--access-log" in done.stderr


def test_no_log_is_followed_that_is_none_and_an_empty_one_may_become_one(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(STRANGE["another file"])
    assert command("tail", str(log)).returncode == 1
    log.write_bytes(b"")
    assert command("tail", str(log), "--no-follow").returncode == 0
    process = run("tail", str(log))
    with log.open("a") as written:
        written.write("nonsense\n" * 999 + line(url="/first") + "\n" + "nonsense\n" * 2_000 + line(url="/last") + "\n")
    process.wait_for("/first(.|\n)*/last")
    assert process.end(signal.SIGINT) == 0
    log.write_bytes(b"")
    process = run("tail", str(log))
    with log.open("a") as written:
        written.write("nonsense\n" * 1_000)
    process.wait_for("has no line of an access log")
    assert process.process.wait(60) == 1


def test_a_pipe_is_read_to_its_end_and_a_last_line_without_one_counts(tmp_path: Path) -> None:
    pipe, log = tmp_path / "pipe", tmp_path / "access.log"
    os.mkfifo(pipe)
    log.write_text(line(url="/first") + "\n" + line(url="/last"))
    writer = threading.Thread(target=lambda: pipe.write_bytes(log.read_bytes()), daemon=True)
    writer.start()
    for file in (pipe, log):
        done = command("tail", str(file), "--no-follow")
        assert done.returncode == 0, done.stderr
        assert re.findall(r"a\.test(/\w+)", done.stdout) == ["/first", "/last"]
    writer.join(60)


@pytest.mark.parametrize("more", [[], ["--raw"]], ids=["shown", "raw"])
def test_it_ends_with_its_reader(more: list[str], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(f"{line(url=f'/{number}')}\n" for number in range(2_000)))
    process = subprocess.Popen(
        [sys.executable, "-m", "edgerouter", "tail", str(log), "-n", "2000", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (1, b"")
    process.stderr.close()


def test_a_missing_log_and_a_strange_status_are_refused_with_the_remedy(tmp_path: Path) -> None:
    missing = command("tail", str(tmp_path / "none.log"))
    assert (missing.returncode, "give the file of --access-log" in missing.stderr) == (1, True)
    strange = command("tail", str(tmp_path / "none.log"), "--status", "500x")
    assert (strange.returncode, "5xx" in strange.stderr) == (2, True)
    unknown = command("tail", str(tmp_path / "none.log"), "--cache", "hits")
    assert (unknown.returncode, "coalesced" in unknown.stderr) == (2, True)


def test_the_outcomes_are_those_of_the_metrics() -> None:
    (row,) = (row for row in PAGE.read_text().splitlines() if row.startswith("| `edgerouter_requests_total` |"))
    (listed,) = re.findall(r"`cache` \(([^)]*)\)", row)
    assert set(listed.split(", ")) == set(OUTCOMES)
