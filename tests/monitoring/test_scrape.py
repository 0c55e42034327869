"""A scrape: by route and origin, in the format that the scraper prefers, and an origin that has errors only."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_metrics

from edgerouter import Context, Edge, Request, _core
from edgerouter.testing import Running, running

from ..metrics import counted, metric
from ..origins import Origin, Reply, wait_until
from ..raw import connect

PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.fixture
def site(origin: Origin) -> Iterator[Running]:
    edge = Edge("test")
    edge.route("/big/*", to=edge.origin("site", origin.url))
    edge.route("/small", respond="four")

    @edge.function("/made")
    def made(request: Request, ctx: Context) -> str:
        return "made"

    origin.default = Reply(200, {"cache-control": "max-age=60"}, "x" * 1000)
    with running(edge) as served:
        yield served


def test_bytes_and_times_are_counted_by_route_origin_and_callable(site: Running) -> None:
    for path in ("/big/a", "/big/a", "/big/b", "/small", "/made"):
        assert httpx.get(site.url + path).status_code == 200
    # Bytes are counted when the last of them was read or sent.
    for name, labels, count in (
        ("edgerouter_response_bytes_total", '{route="/big/*"}', 3000),
        ("edgerouter_response_bytes_total", '{route="/small"}', 4),
        ("edgerouter_route_origin_bytes_total", '{route="/big/*"}', 2000),
        ("edgerouter_origin_response_bytes_total", '{origin="site"}', 2000),
    ):
        wait_until(lambda name=name, labels=labels, count=count: metric(site, name, labels) == count, what=name)  # type: ignore[misc]
    assert metric(site, "edgerouter_route_duration_seconds_count", '{route="/big/*"}') == 3
    assert metric(site, "edgerouter_route_duration_seconds_bucket", '{route="/big/*",le="+Inf"}') == 3
    assert metric(site, "edgerouter_origin_duration_seconds_count", '{origin="site"}') == 2
    assert counted(site.admin_url, "edgerouter_function_duration_seconds_count") == 1
    assert metric(site, "edgerouter_build_info", f'{{version="{_core.__version__}"}}') == 1


def test_the_format_is_the_one_that_the_scraper_prefers(site: Running) -> None:
    assert httpx.get(site.url + "/big/a").status_code == 200
    url = f"{site.admin_url}/metrics"
    scrape = httpx.get(url, headers={"accept": PROMETHEUS})
    assert (scrape.headers["content-type"], scrape.headers["vary"]) == (OPEN, "accept")
    strict = {family.name: family for family in open_metrics(scrape.text)}  # type: ignore[no-untyped-call]
    assert strict["edgerouter_requests"].type == "counter"
    assert strict["edgerouter_build"].type == "info"
    for accept in ("*/*", "text/plain;version=0.0.4", "application/openmetrics-text;q=0.1, text/plain"):
        scrape = httpx.get(url, headers={"accept": accept})
        assert scrape.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "# EOF" not in scrape.text
    # The two formats have the same families.
    plain = {family.name for family in plain_metrics(scrape.text)}
    assert {name.removesuffix("_info") for name in plain} == set(strict)


def test_bounds_of_buckets_are_floating_point_numbers_whatever_other_labels_there_are(site: Running) -> None:
    assert httpx.get(site.url + "/made").text == "made"
    scrape = httpx.get(f"{site.admin_url}/metrics", headers={"accept": PROMETHEUS})
    lines = [line for line in scrape.text.splitlines() if "function_duration_seconds_bucket" in line]
    bounds = [line.partition(',le="')[2].partition('"')[0] for line in lines]
    assert {"1.0", "5.0", "10.0", "+Inf"} <= set(bounds)
    assert not any(bound.isdigit() for bound in bounds)


def test_an_origin_that_answers_with_errors_is_up_and_unhealthy(site: Running, origin: Origin) -> None:
    origin.default = Reply(503, {}, "busy")
    for number in range(30):
        assert httpx.get(f"{site.url}/big/{number}").status_code == 503
    assert metric(site, "edgerouter_origin_healthy", '{origin="site"}') == 0
    assert metric(site, "edgerouter_origin_up", '{origin="site"}') == 1
    origin.kill()
    assert httpx.get(f"{site.url}/big/gone").status_code in (502, 503)
    assert metric(site, "edgerouter_origin_up", '{origin="site"}') == 0
    origin.start()
    origin.default = Reply(200, {}, "x")
    assert httpx.get(f"{site.url}/big/back").status_code == 200
    assert metric(site, "edgerouter_origin_up", '{origin="site"}') == 1


def test_bytes_of_large_content_are_those_that_were_sent_before_the_client_left(site: Running, origin: Origin) -> None:
    size, name, route = 20_000_000, "edgerouter_response_bytes_total", '{route="/big/*"}'
    origin.on("/big/file", Reply(200, {"cache-control": "max-age=60"}, "x" * size))
    assert len(httpx.get(f"{site.url}/big/file").content) == size
    wait_until(lambda: metric(site, name, route) == size, what="the end of the first")
    client = connect(site.url)
    client.sendall(b"GET /big/file HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.recv(1)
    client.close()
    wait_until(lambda: metric(site, name, route) > size, what="the end of the second")
    assert metric(site, name, route) < 1.9 * size
