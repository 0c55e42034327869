"""Rate limits: requests of a client, a field, a cookie or a claim in a time, through the socket."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Edge, HttpLimits, Jwt, Limits, RateLimit, SecurityHeaders, cache
from edgerouter.testing import Running, running

from ..conftest import Serve
from ..identity.tokens import SECRET, bearer, token
from ..metrics import metric
from ..origins import Origin, Reply
from ..raw import exchange, responses
from ..responses import is_hit

Client = Callable[[Running], httpx.Client]
Make = Callable[..., tuple[Running, httpx.Client]]
#: One an hour: no test is slow enough for a second one.
HOUR = 3_600


@pytest.fixture
def make(origin: Origin, serve: Serve, client_for: Client) -> Make:
    def make(*limits: RateLimit, **route: Any) -> tuple[Running, httpx.Client]:
        origin.default = Reply(200, {"cache-control": "max-age=60", "ratelimit": "of the origin"}, "content")
        edge = Edge("test", trusted_proxies=["127.0.0.1"])
        edge.route("/*", to=edge.origin("first", origin.url), rate_limit=limits, **route)
        served = serve(edge)
        return served, client_for(served)

    return make


def statuses(client: httpx.Client, count: int, path: str = "/x", **headers: str) -> list[int]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [client.get(path, headers=named).status_code for _ in range(count)]


def test_a_client_over_its_burst_gets_429_with_the_time_of_its_next_request(origin: Origin, make: Make) -> None:
    served, client = make(RateLimit("api", 2, per=2 * HOUR))
    first, second, third = (client.get("/x") for _ in range(3))
    assert [response.status_code for response in (first, second, third)] == [200, 200, 429]
    # Hits count, and the fields are not stored with the response.
    assert is_hit(second)
    assert {response.headers["ratelimit-policy"] for response in (first, second, third)} == {'"api";q=2;w=7200'}
    assert first.headers["ratelimit"] == '"api";r=1;t=3600'
    assert second.headers["ratelimit"].startswith('"api";r=0;t=7')
    assert third.headers["ratelimit"].startswith('"api";r=0;t=7')
    assert 3_590 <= int(third.headers["retry-after"]) <= 3_600
    assert third.headers["cache-control"] == "no-store"
    assert "detail=rate-limited" in third.headers["cache-status"]
    assert origin.count() == 1
    name = "edgerouter_rate_limit_requests_total"
    counted = [metric(served, name, f'{{limit="api",result="{result}"}}') for result in ("passed", "refused")]
    assert counted == [2, 1]


def test_the_quota_comes_back_at_an_even_pace(make: Make) -> None:
    served, client = make(RateLimit("api", 2, per=2 * HOUR))
    assert statuses(client, 3) == [200, 200, 429]
    served.set_clock(HOUR + 1)
    assert statuses(client, 2) == [200, 429]
    served.set_clock(24 * HOUR)
    assert statuses(client, 3) == [200, 200, 429]
    # A clock that is set back makes nobody wait longer than for one request.
    served.set_clock(0)
    response = client.get("/x")
    assert (response.status_code, int(response.headers["retry-after"]) <= HOUR) == (429, True)


def test_clients_networks_fields_and_cookies_are_counted_apart(make: Make) -> None:
    for by, same, other in (
        ("address", {"x_forwarded_for": "192.0.2.1"}, {"x_forwarded_for": "192.0.2.2"}),
        ("address", {"x_forwarded_for": "2001:db8::1"}, {"x_forwarded_for": "2001:db8:0:1::1"}),
        ("network", {"x_forwarded_for": "192.0.2.1"}, {"x_forwarded_for": "192.0.3.1"}),
        ("header:X-Key", {"x_key": "a"}, {"x_key": "b"}),
        ("cookie:session", {"cookie": "session=a"}, {"cookie": "session=b"}),
    ):
        _, client = make(RateLimit("api", 1, per=HOUR, by=by))
        assert statuses(client, 2, **same) == [200, 429], by
        assert statuses(client, 2, **other) == [200, 429], by
    _, client = make(RateLimit("api", 1, per=HOUR, by="network"))
    assert statuses(client, 1, x_forwarded_for="192.0.2.1") == [200]
    assert statuses(client, 1, x_forwarded_for="192.0.2.254") == [429]
    _, client = make(RateLimit("api", 2, per=HOUR, by="route"))
    assert [statuses(client, 1, x_forwarded_for=f"192.0.2.{last}") for last in (1, 2, 3)] == [[200], [200], [429]]


def test_leaving_the_field_out_counts_for_the_address(make: Make) -> None:
    _, client = make(RateLimit("api", 1, per=HOUR, by="header:X-Key"))
    assert statuses(client, 2) == [200, 429]
    assert statuses(client, 1, x_key="") == [429]
    assert statuses(client, 1, x_key="a") == [200]


def test_a_limit_by_address_comes_before_the_token_and_one_by_claim_after_it(origin: Origin, make: Make) -> None:
    served, client = make(
        RateLimit("address", 3, per=HOUR),
        RateLimit("user", 1, per=HOUR, by="claim:sub"),
        auth=Jwt.hs256(SECRET),
        cache=cache.DISABLED,
    )
    users = [bearer(token({"sub": sub, "exp": 4_000_000_000}))["authorization"] for sub in ("u1", "u2")]
    assert statuses(client, 2, authorization=users[0], x_forwarded_for="192.0.2.1") == [200, 429]
    assert statuses(client, 1, authorization=users[1], x_forwarded_for="192.0.2.2") == [200]
    # Guessing tokens is limited by the address, before any is verified.
    guessed = statuses(client, 4, authorization="Bearer x.y.z", x_forwarded_for="192.0.2.3")
    assert guessed == [403, 403, 403, 429]
    both = client.get("/x", headers={"authorization": users[1], "x-forwarded-for": "192.0.2.4"})
    assert both.headers["ratelimit-policy"] == '"address";q=3;w=3600, "user";q=1;w=3600'
    assert metric(served, "edgerouter_rate_limit_requests_total", '{limit="user",result="refused"}') == 2


def test_a_request_that_one_limit_refuses_counts_for_none(make: Make) -> None:
    _, client = make(
        RateLimit("wide", 3, per=3 * HOUR),
        RateLimit("narrow", 1, per=HOUR, by="header:X-Key"),
        RateLimit("user", 1, per=HOUR, by="claim:sub"),
        auth=Jwt.hs256(SECRET),
    )
    one, other = (bearer(token({"sub": sub, "exp": 4_000_000_000}))["authorization"] for sub in ("u1", "u2"))
    assert statuses(client, 3, authorization=one, x_key="a") == [200, 429, 429]
    # The claim of u1 is used up, and what the limits before it have counted comes back.
    assert statuses(client, 3, authorization=one, x_key="b") == [429, 429, 429]
    refused = client.get("/x", headers={"authorization": one, "x-key": "b"}).headers["ratelimit"]
    assert refused.startswith('"wide";r=2;t=3600, "narrow";r=1;t=0, "user";r=0;t=')
    assert statuses(client, 1, authorization=other, x_key="b") == [200]
    # A request whose token is refused has counted: guessing is limited.
    assert statuses(client, 3, authorization="Bearer x.y.z", x_key="c") == [403, 429, 429]


def test_routes_that_name_one_limit_share_its_counts_and_a_reload_keeps_them(
    origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {}, "content")

    def edge() -> Edge:
        edge = Edge("test")
        to = edge.origin("first", origin.url)
        shared = RateLimit("api", 2, per=HOUR)
        edge.route("/a", to=to, rate_limit=shared)
        edge.route("/b", to=to, rate_limit=shared)
        edge.route("/c", to=to)
        return edge

    served = serve(edge())
    client = client_for(served)
    assert [client.get(path).status_code for path in ("/a", "/b", "/a", "/c")] == [200, 200, 429, 200]
    served.reload(edge())
    assert [client.get(path).status_code for path in ("/b", "/c")] == [429, 200]


def test_workers_share_the_counts(origin: Origin) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), rate_limit=RateLimit("api", 10, per=10 * HOUR))
    passed: list[int] = []
    with running(edge, workers=4) as served:

        def get() -> None:
            with httpx.Client(base_url=served.url) as client:
                passed.extend(statuses(client, 5))

        threads = [threading.Thread(target=get) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert (len(passed), passed.count(200), passed.count(429)) == (40, 10, 30)


def test_a_request_over_the_burst_may_wait_for_its_turn(make: Make) -> None:
    served, _ = make(RateLimit("api", 10, per=1, burst=1, delay=0.5))
    # They are there together, however slow the client is.
    one = b"GET /x HTTP/1.1\r\nHost: a\r\n"
    answers = responses(exchange(served.url, (one + b"\r\n") * 3 + one + b"Connection: close\r\n\r\n"))
    assert [answer.status for answer in answers] == [200, 200, 200, 200]
    name = "edgerouter_rate_limit_requests_total"
    assert metric(served, name, '{limit="api",result="delayed"}') >= 1
    assert metric(served, "edgerouter_rate_limit_waiting") == 0


def test_a_request_that_may_not_wait_because_too_many_do_is_refused(
    origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {}, "content")
    edge = Edge("test", limits=Limits(http=HttpLimits(delayed_requests=0)))
    limit = RateLimit("api", 1, per=10, burst=1, delay=30)
    edge.route("/*", to=edge.origin("first", origin.url), rate_limit=limit)
    client = client_for(serve(edge))
    assert statuses(client, 3) == [200, 429, 429]
    # Those that were refused have not counted, so one interval is enough.
    assert client.get("/x").headers["ratelimit"] == '"api";r=0;t=10'


def test_more_keys_than_the_table_has_room_for_are_forgotten_and_counted(
    origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
    edge = Edge("test", trusted_proxies=["127.0.0.1"], limits=Limits(http=HttpLimits(rate_keys=1_024)))
    edge.route("/*", to=edge.origin("first", origin.url), rate_limit=RateLimit("api", 1, per=HOUR, by="header:X-Key"))
    served = serve(edge)
    client = client_for(served)
    for number in range(1_500):
        assert client.get("/x", headers={"x-key": str(number)}).status_code == 200
    assert metric(served, "edgerouter_rate_limit_keys_forgotten_total") > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a b"}, "letters, digits"),
        ({"requests": 0}, "must be ≥ 1"),
        ({"per": 0}, "must be > 0 seconds"),
        ({"per": 0.5}, "whole seconds"),
        ({"per": 90_000}, "a day"),
        ({"by": "ip"}, 'must be "address"'),
        ({"by": "header:a b"}, 'must be "address"'),
        ({"burst": 0}, "must be ≥ 1"),
        ({"delay": 60}, "≤ 30 seconds"),
    ],
)
def test_a_limit_that_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RateLimit(**{"name": "api", "requests": 5, **fields})


def test_limits_of_one_name_must_be_the_same() -> None:
    edge = Edge("test")
    edge.route("/a", respond="a", rate_limit=RateLimit("api", 5))
    edge.route("/b", respond="b", rate_limit=[RateLimit("api", 6)])
    with pytest.raises(ConfigError, match=r"routes\[1\]\.rate_limits\[0\]\.name: .*another limit with other values"):
        edge.compile()
    with pytest.raises(ConfigError, match="would count twice"):
        edge.route("/c", respond="c", rate_limit=[RateLimit("x", 5), RateLimit("x", 5)])


def test_a_limit_of_the_site_counts_the_requests_of_all_routes(origin: Origin, serve: Serve) -> None:
    origin.on("/a", Reply(200, {}, "a"))
    edge = Edge("test", rate_limit=RateLimit("site", 3, per=HOUR))
    edge.route("/a", to=edge.origin("first", origin.url), rate_limit=RateLimit("a", 1, per=HOUR))
    edge.route("/b", respond="b")
    with httpx.Client(base_url=serve(edge).url) as client:
        first = client.get("/a")
        assert (first.status_code, first.headers["ratelimit-policy"]) == (200, '"site";q=3;w=3600, "a";q=1;w=3600')
        assert [client.get("/b").status_code for _ in range(2)] == [200, 200]
        assert [client.get(path).status_code for path in ("/a", "/b")] == [429, 429]
        assert client.get("/none").status_code == 404


def test_another_spelling_of_a_path_does_not_get_round_its_policies(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "content")
    edge = Edge("test", rate_limit=RateLimit("site", 100, per=HOUR))
    first = edge.origin("first", origin.url)
    edge.route("/*", to=first)
    edge.route("/login", to=first, rate_limit=RateLimit("login", 1, per=HOUR))
    edge.route("/plain/*", to=first)
    edge.route("/secure/*", to=first, viewer="https-only")
    edge.route("/framed/*", to=first, security=SecurityHeaders(frame="DENY"))
    with httpx.Client(base_url=serve(edge).url) as client:
        for path, status in (
            ("/login", 200),
            ("/login", 429),
            ("//login", 400),
            ("/login;a=b", 400),
            ("/x%2F..%2Flogin", 400),
            ("//secure/a", 400),
            ("//framed/a", 400),
            ("//plain/a", 200),
        ):
            response = client.get(path, extensions={"target": path.encode()})
            assert response.status_code == status, path
    assert [seen.target for seen in origin.requests] == ["/login", "//plain/a"]
