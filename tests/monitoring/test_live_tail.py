"""``edgerouter tail`` without a file: the requests of an edge that runs."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ..origins import Origin, wait_until
from ..processes import Process, command, free_port, reachable

Run = Callable[..., Process]

APP = """
from edgerouter import Edge, Response

edge = Edge("test")
edge.route("/*", respond="x")


@edge.function("/broken")
def broken(request, ctx):
    return Response.text("no", status=503)
"""


@pytest.fixture
def start(run: Run, tmp_path: Path) -> Callable[[], Process]:
    app = tmp_path / "app.py"
    app.write_text(APP)
    return lambda: run("run", str(app), "--listen", f"127.0.0.1:{PORT}", "--admin", f"127.0.0.1:{ADMIN}")


PORT, ADMIN = free_port(), free_port()


def shown(process: Process, path: str, pattern: str) -> re.Match[str]:
    """Requests a path until a line of it is shown: nothing else says that the stream is open."""

    def look() -> bool:
        httpx.get(f"http://127.0.0.1:{PORT}{path}")
        assert process.process.poll() is None, process.output
        return re.search(pattern, process.output) is not None

    wait_until(look, 60, what=pattern)
    found = re.search(pattern, process.output)
    assert found is not None
    return found


def test_requests_of_a_running_edge_are_shown_by_their_conditions_and_over_a_restart(
    start: Callable[[], Process], run: Run
) -> None:
    edge = start()
    wait_until(lambda: reachable(PORT) and reachable(ADMIN), 60, "the listeners")
    every = run("tail", "--admin", f"127.0.0.1:{ADMIN}")
    chosen = run("tail", "--admin", f"127.0.0.1:{ADMIN}", "--status", "5xx", "--status", "404", "--raw")
    shown(every, "/a?token=hidden", r"200 \S+ .*GET 127\.0\.0\.1:\d+/a\?token=\*\*\* .* B /\* 127\.0\.0\.1")
    line = json.loads(shown(chosen, "/broken", r"(?m)^\{.*\}$")[0])
    assert (line["status"], line["url"]) == (503, "/broken")
    assert edge.end() == 0
    every.wait_for("trying again until Ctrl-C")
    start()
    wait_until(lambda: reachable(PORT), 60, "the listener")
    shown(every, "/again", r"GET \S+/again ")
    assert (every.end(signal.SIGINT), chosen.end(signal.SIGINT)) == (0, 0)
    assert not re.search("/a(gain)?[ ?]", chosen.output)


def test_an_edge_that_does_not_answer_and_a_server_that_is_none_are_one_line(origin: Origin) -> None:
    for port, words in ((free_port(), "start the edge with --admin"), (origin.port, "is it an edge's admin listener?")):
        failed = command("tail", "--admin", f"127.0.0.1:{port}")
        assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1)
        assert words in failed.stderr


@pytest.mark.parametrize("more", [["-n", "3"], ["--no-follow"]], ids=["last lines", "no following"])
def test_options_of_a_file_are_refused_without_one(more: list[str]) -> None:
    refused = command("tail", *more)
    assert (refused.returncode, "need FILE" in refused.stderr) == (2, True)
