"""``edgerouter top`` and ``edgerouter origins``, and the arithmetic of scrapes under them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from edgerouter import CachePolicy, Edge, cache
from edgerouter.cli.admin import Admin
from edgerouter.cli.watching import summary
from edgerouter.monitoring.samples import Samples, Span
from edgerouter.testing import Running

from ..origins import Origin, Reply
from ..processes import command, free_port
from ..raw import readable

Serve = Callable[[Edge], Running]


@pytest.fixture
def served(origin: Origin, second: Origin, serve: Serve) -> Running:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=CachePolicy(ttl=600))
    edge.route("/api/*", to=edge.origin("second", second.url), cache=cache.DISABLED)

    @edge.function("/made")
    def made(request: object, ctx: object) -> str:
        raise ValueError("as the test wants it")

    origin.default = Reply(200, {}, "x" * 1_000)
    second.default = Reply(503, {}, "broken")
    return serve(edge)


def address(edge: Running) -> str:
    return edge.admin_url.removeprefix("http://")


def test_samples_are_read_with_their_labels_and_other_lines_are_left_out() -> None:
    text = "\n".join(
        [
            "# HELP a_total Some.",
            "a_total 3",
            r'b_total{route="/\"x\"\\y\n",status="2xx"} 1.5',
            'c{name="x"} NaN',
            "nonsense",
            'd{e="f"} text',
        ]
    )
    found = Samples.read(text, 10.0)
    assert (found.total("a_total"), found.total("absent")) == (3, 0)
    assert found.by("route", "b_total") == {'/"x"\\y\n': 1.5}
    assert found.total("b_total", status="2xx|3xx") == 1.5
    assert set(found.families) == {"a_total", "b_total", "c"}


def test_a_counter_that_fell_counts_from_zero_and_a_new_one_counts_whole() -> None:
    first = Samples.read('a_total{r="x"} 100\na_total{r="y"} 5', 0.0)
    last = Samples.read('a_total{r="x"} 30\na_total{r="y"} 9\na_total{r="z"} 2', 2.0)
    assert Span(first, last).rates("r", "a_total") == {"x": 15, "y": 2, "z": 1}


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [((10, 10, 10), 0.5, 0.05), ((0, 10, 10), 0.5, 0.55), ((9, 10, 10), 0.95, 0.55), ((0, 0, 4), 0.5, 1.0)],
    ids=["all in the first bucket", "all in the second", "most in the first", "none in a bounded one"],
)
def test_a_percentile_is_interpolated_in_its_bucket(counts: tuple[int, int, int], share: float, seconds: float) -> None:
    bounds = ("0.1", "1", "+Inf")
    lines = (f'd_bucket{{le="{of}"}} {count}' for of, count in zip(bounds, counts, strict=True))
    found = Span(Samples(0.0), Samples.read("\n".join(lines), 1.0))
    assert found.quantile(share, "d") == pytest.approx(seconds)
    assert Span(found.last, found.last).quantile(share, "d") is None


def test_the_numbers_of_top_are_those_of_the_load(served: Running) -> None:
    listener = Admin(address(served))
    first = listener.samples()
    paths = ["/a"] * 8 + ["/b"] * 2 + ["/api/x"] * 5 + ["/made"] * 3
    for path in paths:
        httpx.get(served.url + path)
    span = Span(first, listener.samples())
    found = summary(span)
    assert found["requests_per_second"] * span.seconds == pytest.approx(len(paths))
    assert found["hit_rate"] == pytest.approx(8 / 10)
    assert found["errors_per_second"] * span.seconds == pytest.approx(8)
    assert found["bytes_per_second"] * span.seconds > 10_000
    routes = {route["route"]: route for route in found["routes"]}
    assert routes["/*"]["hit_rate"] == pytest.approx(0.8)
    assert (routes["/api/*"]["hit_rate"], routes["/api/*"]["errors_per_second"] * span.seconds) == (
        None,
        pytest.approx(5),
    )
    (second,) = (origin for origin in found["origins"] if origin["origin"] == "second")
    assert second["failed_per_second"] * span.seconds == pytest.approx(5)
    (made,) = found["functions"]
    assert made["failed_per_second"] * span.seconds == pytest.approx(3)
    assert found["memory_cache"]["entries"] == 2
    assert found["disk_cache"] is None


def test_top_without_a_terminal_prints_one_interval(served: Running) -> None:
    printed = command("top", "--admin", address(served), "--interval", "0.2")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert "hit rate" in printed.stdout and "second" in printed.stdout
    as_json = command("top", "--admin", address(served), "--interval", "0.2", "--json")
    assert json.loads(as_json.stdout)["plan_version"] == 1


class TopInTerminal:
    """``edgerouter top`` in a terminal with this environment, and all that it has shown."""

    def __init__(self, served: Running, **environment: str) -> None:
        self.screen, terminal = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgerouter", "top", "--admin", address(served), "--interval", "0.2"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, **environment},
        )
        os.close(terminal)
        self.shown = b""

    def wait_for(self, text: bytes, count: int) -> None:
        while self.shown.count(text) < count:
            assert readable(self.screen, 20), self.shown
            self.shown += os.read(self.screen, 65_536)

    def status(self) -> int:
        """The exit status, once it has ended."""
        status = self.process.wait(60)
        os.close(self.screen)
        return status


def test_top_in_a_terminal_goes_on_until_it_is_interrupted(served: Running) -> None:
    top = TopInTerminal(served, TERM="xterm", COLUMNS="100", LINES="40")
    top.wait_for(b"hit rate", 4)
    served.server.stop(1)
    top.wait_for(b"trying again", 1)
    top.process.send_signal(signal.SIGINT)
    assert top.status() == 0


def test_a_terminal_that_cannot_move_its_cursor_gets_one_interval(served: Running) -> None:
    top = TopInTerminal(served, TERM="dumb")
    top.wait_for(b"hit rate", 1)
    assert top.status() == 0


def test_origins_shows_who_is_down_and_ends_with_1_then(origin: Origin, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=CachePolicy(ttl=600))
    edge.route("/api/*", to=edge.origin("second", f"http://127.0.0.1:{free_port()}"), cache=cache.DISABLED)
    served = serve(edge)
    for path in ("/a", "/api/x"):
        httpx.get(served.url + path)
    printed = command("origins", "--admin", address(served))
    assert printed.returncode == 1
    lines = {line.split()[0]: " ".join(line.split()) for line in printed.stdout.splitlines()}
    assert lines["first"] == "first healthy 1 1 0 -"
    assert lines["second"] == "second the last request failed 1 0 0 connect 1"
    found = json.loads(command("origins", "--admin", address(served), "--json").stdout)["origins"]
    assert found[1] == {"origin": "second", "healthy": True, "up": False, "requests": 1, "results": {"connect": 1}}


def test_origins_that_answer_are_no_error(origin: Origin, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))
    assert command("origins", "--admin", address(serve(edge))).returncode == 0


@pytest.mark.parametrize("name", ["top", "origins"])
def test_an_edge_that_does_not_answer_is_one_line_with_a_remedy(name: str) -> None:
    failed = command(name, "--admin", f"127.0.0.1:{free_port()}")
    assert failed.returncode == 1
    assert "start the edge with --admin" in failed.stderr and len(failed.stderr.splitlines()) == 1
