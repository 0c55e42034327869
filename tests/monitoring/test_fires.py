"""The rules in a real Prometheus that scrapes a real edge: alerts fire under injected faults and clear when they end.

Ranges and waiting times are a hundredth of theirs, so that five minutes are three seconds.
"""

from __future__ import annotations

import itertools
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import CachePolicy, Certificate, Edge, EdgeError, Secret, Tls, cache
from edgerouter.development import Authority
from edgerouter.monitoring.alerts import ALERTS
from edgerouter.monitoring.grafana import CHOSEN, RANGE, panels
from edgerouter.monitoring.rules import written
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen, wait_until
from ..processes import Process, free_port

CONFIGURATION = """
global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
rule_files: [rules.yml]
scrape_configs: [{{job_name: edge, static_configs: [{{targets: ["{target}"]}}]}}]
"""
FRESH = Reply(200, {"cache-control": "max-age=600"}, "x" * 1_000)


class Prometheus:
    """A server of Prometheus that scrapes one edge."""

    def __init__(self, folder: Path, target: str) -> None:
        program = shutil.which("prometheus")
        assert program is not None, "Prometheus is needed for this test: run scripts/install-packages"
        (folder / "rules.yml").write_text(written(ALERTS, scale=0.01))
        (folder / "prometheus.yml").write_text(CONFIGURATION.format(target=target))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self.is_ready() or self.process.poll() is not None, 60, what="a ready Prometheus")
        assert self.process.poll() is None, self.log.read_text()

    def is_ready(self) -> bool:
        """True once it answers queries: it listens before."""
        try:
            return httpx.get(f"{self.url}/status/runtimeinfo", timeout=10).is_success
        except httpx.TransportError:
            return False

    @contextmanager
    def running(self) -> Iterator[Prometheus]:
        """The server until the end of the block."""
        try:
            yield self
        finally:
            self.process.terminate()
            self.process.wait(60)

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/query", params={"query": expression}, timeout=10).json()
        assert answer["status"] == "success", (expression, answer)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def firing(self) -> set[str]:
        alerts = httpx.get(f"{self.url}/alerts", timeout=10).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def wait_for(self, *names: str) -> None:
        """Waits until these alerts fire, and no other."""
        pause, seen = threading.Event(), set[str]()

        def reached() -> bool:
            nonlocal seen
            seen = self.firing()
            return seen == set(names) or pause.wait(0.1)

        wait_until(reached, 60, what=f"{names} firing")
        assert seen == set(names)


class Site:
    """An edge before an origin, and the Prometheus that watches it."""

    def __init__(self, origin: Origin, folder: Path) -> None:
        self.origin = origin
        self.served: Running
        self.folder = folder
        self.fails = False
        origin.default = FRESH

    def edge(self) -> Edge:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("site", self.origin.url), cache=CachePolicy(ttl=600))
        edge.route("/api/*", to="site", cache=cache.DISABLED)

        @edge.function("/made")
        def made(request: object, ctx: object) -> str:
            if self.fails:
                raise ValueError("as the test wants it")
            return "made"

        return edge

    @contextmanager
    def started(self) -> Iterator[Site]:
        with ExitStack() as stack:
            self.served = stack.enter_context(running(self.edge()))
            server = Prometheus(self.folder, self.served.admin_url.removeprefix("http://"))
            self.prometheus = stack.enter_context(server.running())
            yield self

    @contextmanager
    def load(self, path: Callable[[int], str], threads: int = 2, pause: float = 0.02) -> Iterator[None]:
        """Requests until the end of the block, each thread one after the other."""
        over, numbers = threading.Event(), itertools.count()

        def work() -> None:
            with httpx.Client(base_url=self.served.url, timeout=10) as client:
                while not over.wait(pause):
                    client.get(path(next(numbers)))

        started = [threading.Thread(target=work) for _ in range(threads)]
        for thread in started:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in started:
                thread.join(60)


@pytest.fixture
def watched(origin: Origin, tmp_path: Path) -> Iterator[Site]:
    with Site(origin, tmp_path).started() as site:
        yield site


def test_high_latency_fires_and_clears(watched: Site) -> None:
    held = threading.Event()

    def slow(seen: Seen) -> Reply:
        held.wait(0.7)
        return FRESH

    watched.origin.default = slow
    with watched.load(lambda number: f"/api/{number}", threads=4):
        watched.prometheus.wait_for("EdgeLatencyHigh")
        held.set()
        watched.prometheus.wait_for()
    assert watched.prometheus.query('edgerouter_requests_total{route="/api/*"}')


def test_a_cold_cache_fires_and_clears_when_it_is_warm(watched: Site) -> None:
    with watched.load(lambda number: f"/page/{number}"):
        watched.prometheus.wait_for("EdgeHitRateLow")
    with watched.load(lambda number: f"/page/{number % 10}"):
        watched.prometheus.wait_for()
    assert watched.prometheus.query('edgerouter_requests_total{cache="hit"}')


def test_errors_of_an_origin_fire_and_clear(watched: Site) -> None:
    watched.origin.default = Reply(503, {}, "broken")
    with watched.load(lambda number: f"/api/{number}"):
        # An origin whose every response is an error is down as well.
        watched.prometheus.wait_for("EdgeErrorsHigh", "EdgeOriginDown")
        watched.origin.default = FRESH
        watched.prometheus.wait_for()
    assert watched.prometheus.query('edgerouter_requests_total{status="5xx"}')


def test_an_origin_that_is_down_fires_and_clears_when_it_is_up(watched: Site) -> None:
    watched.origin.kill()
    with watched.load(lambda number: f"/api/{number}", threads=1, pause=0.2):
        watched.prometheus.wait_for("EdgeOriginDown")
        watched.origin.start()
        watched.prometheus.wait_for()
    assert watched.prometheus.query("edgerouter_origin_up")


def test_a_function_that_raises_fires_and_clears_when_it_does_not(watched: Site) -> None:
    watched.fails = True
    with watched.load(lambda number: "/made", threads=1, pause=0.2):
        watched.prometheus.wait_for("EdgeFunctionErrors")
        watched.fails = False
        watched.prometheus.wait_for()
    assert watched.prometheus.query('edgerouter_function_calls_total{result="raised"}')


def test_a_refused_configuration_and_an_edge_that_is_down_fire(watched: Site) -> None:
    broken = watched.edge()
    broken.route("/b/*", to="nobody")
    watched.prometheus.wait_for()
    wait_until(lambda: bool(watched.prometheus.query("edgerouter_plan_version")), 60, what="a scrape")
    with pytest.raises(EdgeError, match="nobody"):
        watched.served.reload(broken)
    watched.prometheus.wait_for("EdgeConfigurationRefused")
    watched.prometheus.wait_for()
    watched.served.server.stop(1)
    watched.prometheus.wait_for("EdgeDown")
    assert not watched.prometheus.query("edgerouter_plan_version")


def test_each_panel_of_the_dashboard_is_a_query_and_those_of_a_plain_edge_have_data(watched: Site) -> None:
    # The edge has no disk, no certificate, no places and no failure.
    without_data = {
        "To viewers by country, with count_countries",
        "Errors a second",
        "Refused before routing",
        "Responses not stored",
        "Disk cache",
        "Disk cache fails",
        "Failovers",
        "Certificates: time left",
        "Failed attempts to obtain certificates",
    }

    def empty() -> set[str]:
        found = set()
        for panel in panels():
            for query, _ in panel.queries:
                asked = query.replace(CHOSEN, 'job=~".*", instance=~".*"').replace(RANGE, "3s")
                if not watched.prometheus.query(asked):
                    found.add(panel.title)
        return found

    with watched.load(lambda number: f"/{number % 10}"), watched.load(lambda number: "/made", 1):
        # Each series is there a scrape or two after what it counts.
        wait_until(lambda: empty() == without_data, 60, what="data in the other panels")
        assert empty() <= {panel.title for panel in panels()}


def test_a_disk_that_takes_nothing_fires_and_clears_when_it_does(
    origin: Origin, run: Callable[..., Process], tmp_path: Path
) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "from edgerouter import DiskCache, Edge\n"
        f"edge = Edge('test', disk_cache=DiskCache({str(tmp_path / 'cache')!r}, 16 << 20))\n"
        f"edge.route('/*', to=edge.origin('first', {origin.url!r}))\n"
    )
    origin.default = FRESH
    process = run("run", str(app), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    found = process.wait_for(r"(http://[^ ]+)\n +http://([^ ]+)  admin")
    url, admin = found[1], found[2]
    whole = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
    over, numbers = threading.Event(), itertools.count()

    def work() -> None:
        with httpx.Client(base_url=url, timeout=10) as client:
            while not over.wait(0.05):
                # Mostly hits, so that the disk is the only trouble.
                number = next(numbers)
                client.get(f"/{number}" if number % 10 == 0 else "/usual")

    load = threading.Thread(target=work)
    load.start()
    try:
        with Prometheus(tmp_path, admin).running() as prometheus:
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (10, whole[1]))
            assert httpx.post(f"http://{admin}/v1/purges", json={"paths": ["/gone"]}, timeout=20).is_success
            prometheus.wait_for("EdgeDiskFailing", "EdgePurgeBacklog")
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, whole)
            prometheus.wait_for()
            assert prometheus.query("edgerouter_disk_failing")
    finally:
        over.set()
        load.join(60)


def test_a_certificate_that_expires_fires_and_clears_when_it_is_renewed(origin: Origin, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    authority.ensure()

    def edge(days: int) -> Edge:
        chain, key = authority.issue(["localhost"], days)
        made = Edge("test")
        made.listen("127.0.0.1:0", tls=Tls(Certificate(Secret.literal(chain), Secret.literal(key))))
        made.route("/*", respond="x")
        return made

    with running(edge(1)) as served, Prometheus(tmp_path, served.admin_url[7:]).running() as prometheus:
        # The other alert waits for an hour, which is 36 seconds here.
        prometheus.wait_for("EdgeCertificateExpired")
        served.reload(edge(90))
        prometheus.wait_for()
        assert prometheus.query("edgerouter_tls_certificate_expiry_timestamp_seconds - time() > 86400 * 80")
