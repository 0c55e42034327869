"""The spans of a request, as a receiver of the official protocol reads them when the edge has stopped."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from edgerouter import AsyncContext, Context, Edge, Request, Tracing, env
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.testing import running

from ..metrics import metric
from ..origins import Origin, Reply
from .conftest import Collector

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PLACE = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[23]\Z")


def test_a_miss_and_a_hit_have_spans_for_the_request_the_cache_and_the_attempt(
    collector: Collector, origin: Origin
) -> None:
    edge = collector.edge(service="shop", attributes={"deployment.environment.name": "test"})
    edge.route("/a/*", to=edge.origin("site", origin.url))
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "four")
    with running(edge) as served:
        for _ in range(2):
            assert httpx.get(f"{served.url}/a/b?token=hidden").text == "four"
    miss, hit = collector.roots()
    assert miss.name == hit.name == "GET /a/*"
    assert (miss.parent, miss.links, miss.failed) == ("", [], False)
    wanted = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.response.body.size": 4,
        "http.route": "/a/*",
        "url.path": "/a/b",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "edgerouter.trace.kept": "sampled",
    }
    assert wanted.items() <= miss.attributes.items()
    assert (miss.attributes["edgerouter.cache"], hit.attributes["edgerouter.cache"]) == ("miss", "hit")
    assert "url.query" not in miss.attributes
    assert miss.service["service.name"] == "shop" and miss.service["deployment.environment.name"] == "test"
    of_miss = {span.name: span for span in collector.spans() if span.trace == miss.trace}
    assert {(span.kind, span.parent) for name, span in of_miss.items() if name != miss.name} == {
        ("internal", miss.id),
        ("client", miss.id),
    }
    attempt = of_miss["GET"]
    assert attempt.attributes["edgerouter.origin"] == "site"
    assert 0 <= attempt.nanoseconds <= miss.nanoseconds
    # The origin's part of the trace continues the attempt.
    assert PLACE.match(origin.requests[0].get("traceparent") or "") is not None
    assert origin.requests[0].get("traceparent") == f"00-{miss.trace}-{attempt.id}-03"
    assert [span.name for span in collector.spans() if span.trace == hit.trace] == ["cache", "GET /a/*"]


def test_errors_and_slow_requests_are_kept_whatever_the_ratio(collector: Collector, origin: Origin) -> None:
    edge = collector.edge(ratio=0, keep_slow=None)
    edge.route("/*", to=edge.origin("site", origin.url, retries=0))
    with running(edge) as served:
        for status in (200, 404, 503):
            origin.default = Reply(status, {}, "x")
            assert httpx.get(f"{served.url}/{status}").status_code == status
        assert (origin.requests[0].get("traceparent") or "").endswith("-02")
    assert [span.attributes["url.path"] for span in collector.roots()] == ["/503"]
    assert {span.name: span.failed for span in collector.spans()} == {"GET": True, "GET /*": True}
    assert collector.roots()[0].attributes["edgerouter.trace.kept"] == "error"


def test_a_slow_hit_is_kept_as_one_span(collector: Collector) -> None:
    edge = collector.edge(ratio=0, keep_slow=1e-6)
    edge.route("/*", respond="x")
    with running(edge) as served:
        assert httpx.get(served.url).status_code == 200
    assert [span.attributes["edgerouter.trace.kept"] for span in collector.spans()] == ["slow"]


@pytest.mark.parametrize(
    ("believe", "proxies", "continued"),
    [
        ("nobody", ["127.0.0.0/8"], False),
        ("proxies", ["127.0.0.0/8"], True),
        ("proxies", [], False),
        ("everybody", [], True),
    ],
)
def test_the_trace_of_a_sender_is_continued_if_it_is_believed_and_linked_otherwise(
    collector: Collector, origin: Origin, believe: str, proxies: list[str], continued: bool
) -> None:
    edge = collector.edge(believe=believe, trusted_proxies=proxies)
    edge.route("/*", to=edge.origin("site", origin.url))
    sent = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}
    with running(edge) as served:
        httpx.get(served.url, headers=sent)
        httpx.get(served.url, headers=sent | {"traceparent": f"00-{TRACE}-{SPAN}-00"})
        httpx.get(served.url, headers=sent | {"traceparent": "00-broken"})
    first, *others = collector.roots()
    received = origin.requests[0]
    place = PLACE.match(received.get("traceparent") or "")
    assert place is not None and place[1] == first.trace
    if continued:
        assert (first.trace, first.parent, first.state, first.links) == (TRACE, SPAN, "vendor=1", [])
        assert received.get("tracestate") == "vendor=1"
        # The second was not chosen by its sender; the third has no valid one.
        assert [(span.trace == TRACE, span.links) for span in others] == [(False, [])]
    else:
        assert first.trace != TRACE and (first.parent, first.state) == ("", "")
        assert (first.links, received.get("tracestate")) == ([(TRACE, SPAN)], None)
        assert [span.links for span in others] == [[(TRACE, SPAN)], []]


def test_hooks_functions_bindings_and_their_requests_are_spans_of_one_trace(
    collector: Collector, origin: Origin
) -> None:
    edge = collector.edge()
    edge.route("/from/*", to=edge.origin("site", origin.url))
    edge.kv("STORE", "memory:")

    @edge.on("viewer_request", "/made")
    def seen(request: Request, ctx: Context) -> None:
        request.headers["x-seen"] = "1"

    @edge.function("/made")
    async def made(request: Request, ctx: AsyncContext) -> dict[str, object]:
        await ctx.env.STORE.put("key", "value")
        answer = await ctx.fetch("/from/a")
        place = ctx.trace
        assert place is not None
        return {
            "status": answer.status,
            "trace": request.trace_id,
            "place": [place.trace_id, place.span_id, place.sampled, place.traceparent],
        }

    origin.default = Reply(200, {}, "x")
    with running(edge) as served:
        answer = httpx.get(f"{served.url}/made").json()
    (root,) = collector.roots()
    spans = {span.name.rsplit(".", 1)[-1]: span for span in collector.spans()}
    assert {span.trace for span in spans.values()} == {root.trace}
    function, hook, put, fetch, attempt = (spans[name] for name in ("made", "seen", "STORE put", "fetch GET", "GET"))
    assert answer == {
        "status": 200,
        "trace": root.trace,
        "place": [root.trace, function.id, True, f"00-{root.trace}-{function.id}-03"],
    }
    assert (hook.parent, function.parent) == (root.id, root.id)
    assert (put.parent, fetch.parent, attempt.parent) == (function.id, function.id, fetch.id)
    assert (function.name.split(" ")[0], hook.attributes["edgerouter.phase"]) == ("function", "viewer_request")
    assert put.attributes == {"edgerouter.binding": "STORE", "db.operation.name": "put"}


def test_a_function_knows_no_trace_where_nothing_is_traced(served_plain: str) -> None:
    assert httpx.get(f"{served_plain}/made").json() == [None, None]


def test_no_secret_field_content_or_query_leaves(
    collector: Collector, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR_KEY", "hush-key")
    edge = collector.edge(
        headers={"authorization": env("COLLECTOR_KEY")}, query=["page"], debug_token="hush-debug", server_timing="debug"
    )
    edge.route("/*", to=edge.origin("site", origin.url, headers={"x-origin-key": "hush-origin"}))
    origin.default = Reply(200, {"set-cookie": "session=hush-set", "x-own": "hush-own"}, "hush-response")
    assert "hush" not in repr(edge.to_dict()["tracing"]["headers"])
    with running(edge) as served:
        httpx.post(
            f"{served.url}/a?page=2&token=hush-query",
            headers={
                "authorization": "Bearer hush-token",
                "cookie": "session=hush-cookie",
                "edge-debug": "hush-debug",
                "user-agent": "hush-agent",
                "referer": "https://hush.example/",
            },
            content="hush-body",
        )
    assert origin.requests[0].get("edge-debug") is None
    assert [span.attributes["url.query"] for span in collector.roots()] == ["page=2"]
    assert [seen.get("authorization") for seen in collector.requests] == ["hush-key"]
    assert b"hush" not in b"".join(seen.body for seen in collector.requests)


def test_invented_methods_and_long_paths_make_no_new_names(collector: Collector) -> None:
    edge = collector.edge()
    edge.route("/*", respond="x")
    with running(edge) as served:
        httpx.request("INVENTED", f"{served.url}/{'é' * 900}")
    (root,) = collector.roots()
    assert root.attributes["http.request.method"] == "_OTHER"
    assert len(root.attributes["url.path"]) <= 1024


def test_a_client_with_the_debug_token_is_traced_and_shown_the_timing(collector: Collector, origin: Origin) -> None:
    edge = collector.edge(ratio=0, server_timing="debug", debug_token="open")
    edge.route("/*", to=edge.origin("site", origin.url))
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "x")
    with running(edge) as served:
        shown = httpx.get(served.url, headers={"edge-debug": "open"}).headers["server-timing"]
        for headers in ({}, {"edge-debug": "wrong"}):
            assert "server-timing" not in httpx.get(served.url, headers=headers).headers
    (root,) = collector.roots()
    parts = [part.strip() for part in shown.split(",")]
    assert parts[0].startswith("edge;dur=") and parts[1] == "cache;desc=miss"
    assert any(part.startswith("origin;dur=") for part in parts) and parts[-1] == f"trace;desc={root.trace}"


def test_logs_and_exemplars_name_the_trace(collector: Collector, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    edge = collector.edge()
    edge.route("/*", respond="x")
    settings = Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", workers=1, access_log=str(log))
    with Server.start(edge, settings) as server:
        assert httpx.get(f"http://{server.addresses[0]}/").status_code == 200
        accept = {"accept": "application/openmetrics-text"}
        scrape = httpx.get(f"{server.admin_url}/metrics", headers=accept).text
        plain = httpx.get(f"{server.admin_url}/metrics").text
    (root,) = collector.roots()
    assert f' trace="{root.trace}"' in log.read_text()
    place = rf'_bucket{{cache="pass",le="[\d.]+"}} 1 # {{trace_id="{root.trace}"}} '
    assert re.search(place + r"0\.\d+ \d+\.\d{3}\n", scrape)
    assert root.trace not in plain


def test_nothing_is_sent_or_counted_without_an_endpoint(origin: Origin) -> None:
    edge = Edge("test", tracing=Tracing(ratio=1.0, server_timing="everybody"))
    edge.route("/*", to=edge.origin("site", origin.url))
    with running(edge) as served:
        answer = httpx.get(served.url)
        assert "origin;dur=" in answer.headers["server-timing"]
        assert PLACE.match(origin.requests[0].get("traceparent") or "")
        assert metric(served, "edgerouter_spans_waiting") == 0
        assert metric(served, "edgerouter_spans_total", '{result="queue-full"}') == 0
