"""Load balancing: which member of a group gets a request first, and which ones stand in for it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from edgerouter import CacheLimits, CachePolicy, ConfigError, Context, Edge, Health, Limits, Request, cache
from edgerouter.testing import Running, running

from ..caching.large_objects.films import FILM, SLICE, Film, part
from ..metrics import metric
from ..origins import Origin, Reply, Seen, wait_until

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]

NAMES = ("first", "second", "third")


@pytest.fixture
def members() -> Iterator[list[Origin]]:
    """Three origins, each of which answers with its name."""
    with ExitStack() as stack:
        made = [Origin(name) for name in NAMES]
        for one in made:
            one.default = Reply(200, {}, one.name)
            stack.callback(one.close)
        yield made


def edge_of(members: list[Origin], *, settings: dict[str, Any] | None = None, **group: Any) -> Edge:
    """An edge that passes everything to a group of these."""
    edge = Edge("test")
    origins = [edge.origin(one.name, one.url, **(settings or {})) for one in members]
    edge.route("/*", to=edge.group("site", origins, **group), cache=cache.DISABLED)
    return edge


def spread(client: httpx.Client, count: int, **request: Any) -> Counter[str]:
    """The members that answer so many requests in a row."""
    return Counter(client.get("/", **request).text for _ in range(count))


def counts(members: list[Origin]) -> list[int]:
    return [one.count("/") for one in members]


# -- turns -------------------------------------------------------------------------------------------------------------


def test_members_have_turns(members: list[Origin], serve: Serve, client_for: ClientFor) -> None:
    client = client_for(serve(edge_of(members, balance="round_robin")))
    came = [client.get("/").text for _ in range(9)]
    assert set(came[:3]) == set(NAMES)
    assert came == came[:3] * 3


def test_without_a_balance_the_first_member_gets_all(
    members: list[Origin], serve: Serve, client_for: ClientFor
) -> None:
    client = client_for(serve(edge_of(members)))
    assert spread(client, 6) == {"first": 6}


def test_a_weight_is_a_share_of_the_turns(members: list[Origin], serve: Serve, client_for: ClientFor) -> None:
    weights = {"first": 3, "third": 2}
    client = client_for(serve(edge_of(members, balance="round_robin", weights=weights)))
    assert spread(client, 30) == {"first": 15, "second": 5, "third": 10}


def test_each_worker_gives_turns(members: list[Origin]) -> None:
    with running(edge_of(members, balance="round_robin"), workers=3) as served:
        came = Counter(httpx.get(served.url).text for _ in range(60))
    # Each worker is at most one request off.
    assert all(17 <= came[name] <= 23 for name in NAMES), came


def test_turns_go_on_after_a_reload(members: list[Origin], serve: Serve, client_for: ClientFor) -> None:
    served = serve(edge_of(members, balance="round_robin"))
    client = client_for(served)
    before = spread(client, 9)
    served.reload(edge_of(members[:2], balance="round_robin"))
    assert before == dict.fromkeys(NAMES, 3)
    assert spread(client, 8) == {"first": 4, "second": 4}


def test_a_request_with_a_body_has_its_turn_and_is_sent_once(
    members: list[Origin], serve: Serve, client_for: ClientFor
) -> None:
    client = client_for(serve(edge_of(members, balance="round_robin")))
    came = Counter(client.post("/", content=b"order").text for _ in range(6))
    assert came == dict.fromkeys(NAMES, 2)
    assert counts(members) == [2, 2, 2]


# -- failures ----------------------------------------------------------------------------------------------------------


def test_the_turns_of_a_member_that_is_down_are_shared_and_come_back(
    members: list[Origin], serve: Serve, client_for: ClientFor
) -> None:
    health = Health("/healthz", interval=0.1)
    for one in members:
        one.on("/healthz", Reply(200))
    served = serve(edge_of(members, balance="round_robin", settings={"health": health}))
    client = client_for(served)
    members[1].kill()
    # Nobody notices, from the first request on.
    assert {client.get("/").status_code for _ in range(6)} == {200}

    def is_healthy() -> bool:
        return metric(served, "edgerouter_origin_healthy", '{origin="second"}') == 1

    wait_until(lambda: not is_healthy(), what="the probes' verdict")
    shared = spread(client, 10)
    members[1].start()
    wait_until(is_healthy, what="its return")
    back = spread(client, 30)
    # A member that leaves or comes in the middle of a round may make a difference of one or two.
    assert set(shared) == {"first", "third"}
    assert abs(shared["first"] - shared["third"]) <= 2
    assert set(back) == set(NAMES)
    assert all(8 <= count <= 12 for count in back.values()), back


def test_the_chosen_members_error_leads_to_the_next_one(
    members: list[Origin], serve: Serve, client_for: ClientFor
) -> None:
    served = serve(edge_of(members, balance="round_robin"))
    client = client_for(served)
    members[0].default = Reply(503, {}, "no")
    came = spread(client, 6)
    assert set(came) == {"second", "third"}
    assert members[0].count("/") == 2
    assert metric(served, "edgerouter_failover_total", '{group="site"}') == 2


@pytest.mark.parametrize("balance", ["round_robin", "least_requests", "hash"])
def test_without_a_probe_a_member_that_is_back_is_found_by_a_trial(
    members: list[Origin], serve: Serve, client_for: ClientFor, balance: str
) -> None:
    client = client_for(serve(edge_of(members[:2], balance=balance)))
    members[0].kill()
    assert {client.get(f"/{at}").text for at in range(24)} == {"second"}
    members[0].start()
    paths = iter(range(1_000_000))
    wait_until(lambda: client.get(f"/{next(paths)}").text == "first", what="its trial")
    assert members[0].requests


def test_a_member_of_weight_0_is_requested_where_the_others_fail(
    members: list[Origin], serve: Serve, client_for: ClientFor
) -> None:
    client = client_for(serve(edge_of(members, balance="round_robin", weights={"third": 0})))
    assert spread(client, 6) == {"first": 3, "second": 3}
    members[0].kill()
    members[1].kill()
    assert spread(client, 12) == {"third": 12}


def test_when_all_fail_the_last_good_copy_is_served(members: list[Origin], serve: Serve, client_for: ClientFor) -> None:
    edge = Edge("test")
    origins = [edge.origin(one.name, one.url) for one in members]
    edge.route("/*", to=edge.group("site", origins, balance="round_robin"))
    for one in members:
        one.default = Reply(200, {"Cache-Control": "max-age=0, stale-if-error=600"}, "kept")
    client = client_for(serve(edge))
    assert client.get("/").text == "kept"
    for one in members:
        one.kill()
    response = client.get("/")
    assert (response.status_code, response.text) == (200, "kept")


# -- the fewest requests -----------------------------------------------------------------------------------------------


class Gate:
    """An answer that does not come until the test lets it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened = threading.Event()

    def __call__(self, seen: Seen) -> Reply:
        self.opened.wait(60)
        return Reply(200, {}, self.name)


def test_a_slow_member_gets_fewer_requests(members: list[Origin], serve: Serve, client_for: ClientFor) -> None:
    served = serve(edge_of(members[:2], balance="least_requests"))
    client = client_for(served)
    gate = Gate("first")
    members[0].on("/slow", gate)
    members[1].on("/slow", Gate("second"))
    with httpx.Client(base_url=served.url, timeout=60) as held:
        slow = threading.Thread(target=held.get, args=("/slow",))
        slow.start()
        wait_until(lambda: any(one.count("/slow") for one in members), what="the slow request")
        [busy] = [one for one in members if one.count("/slow")]
        [idle] = [one for one in members[:2] if one is not busy]
        came = spread(client, 8)
        for one in members[:2]:
            answer = one.answers["/slow"]
            assert isinstance(answer, Gate)
            answer.opened.set()
        slow.join()
    assert came == {idle.name: 8}
    wait_until(lambda: client.get("/").text == busy.name, what="its next request")


def test_members_without_requests_have_turns(members: list[Origin], serve: Serve, client_for: ClientFor) -> None:
    client = client_for(serve(edge_of(members, balance="least_requests")))
    assert spread(client, 9) == dict.fromkeys(NAMES, 3)


# -- hashes ------------------------------------------------------------------------------------------------------------

PATHS = [f"/{number}" for number in range(60)]


def homes(client: httpx.Client) -> dict[str, str]:
    return {path: client.get(path).text for path in PATHS}


def test_a_url_has_its_member_whoever_requests_it(members: list[Origin]) -> None:
    with running(edge_of(members, balance="hash"), workers=3) as served:
        runs = []
        for _ in range(3):
            with httpx.Client(base_url=served.url, timeout=60) as client:
                runs.append(homes(client))
    assert runs[0] == runs[1] == runs[2]
    assert all(count >= 8 for count in Counter(runs[0].values()).values()), runs[0]
    assert set(runs[0].values()) == set(NAMES)


def test_a_member_that_leaves_moves_only_its_own_urls(
    members: list[Origin], serve: Serve, client_for: ClientFor
) -> None:
    served = serve(edge_of(members, balance="hash"))
    client = client_for(served)
    before = homes(client)
    served.reload(edge_of([members[0], members[2]], balance="hash"))
    after = homes(client)
    stayed = {path: name for path, name in before.items() if name != "second"}
    assert {path: after[path] for path in stayed} == stayed
    moved = Counter(after[path] for path in PATHS if path not in stayed)
    assert set(moved) == {"first", "third"}


def test_a_member_that_is_down_has_its_urls_spread_over_the_others(
    members: list[Origin], serve: Serve, client_for: ClientFor
) -> None:
    client = client_for(serve(edge_of(members, balance="hash")))
    before = homes(client)
    members[1].kill()
    after = homes(client)
    assert {path for path in PATHS if after[path] != before[path]} == {
        path for path in PATHS if before[path] == "second"
    }
    assert {after[path] for path in PATHS if before[path] == "second"} == {"first", "third"}


def test_explain_names_the_member_that_serves(members: list[Origin], serve: Serve, client_for: ClientFor) -> None:
    edge = edge_of(members, balance="hash", weights={"third": 2})
    served = serve(edge)
    found = homes(client_for(served))

    def told(path: str) -> str:
        steps = edge.explain("GET", f"{served.url}{path}")
        [decision] = [step["decision"] for step in steps if step["phase"] == "fetch"]
        return str(decision).partition(",")[0]

    assert {path: told(path) for path in PATHS} == found


@pytest.mark.parametrize(
    ("by", "field"),
    [pytest.param("header:x-user", "X-User", id="a field"), pytest.param("cookie:sid", "Cookie", id="a cookie")],
)
def test_a_value_has_its_member_and_a_request_without_it_a_turn(
    members: list[Origin], serve: Serve, client_for: ClientFor, by: str, field: str
) -> None:
    client = client_for(serve(edge_of(members, balance="hash", by=by)))

    def homes_of(path: str) -> list[str]:
        values = [f"sid={number}" for number in range(30)]
        return [client.get(path, headers={field: value}).text for value in values]

    assert homes_of("/a") == homes_of("/b")
    assert set(homes_of("/a")) == set(NAMES)
    assert spread(client, 9) == dict.fromkeys(NAMES, 3)


def test_an_address_has_its_member(members: list[Origin], serve: Serve, client_for: ClientFor) -> None:
    edge = Edge("test", trusted_proxies=["127.0.0.1"])
    origins = [edge.origin(one.name, one.url) for one in members]
    edge.route("/*", to=edge.group("site", origins, balance="hash", by="address"), cache=cache.DISABLED)
    client = client_for(serve(edge))
    clients = [f"192.0.2.{number}" for number in range(30)]
    runs = [
        [client.get(path, headers={"X-Forwarded-For": address}).text for address in clients] for path in ("/a", "/b")
    ]
    assert runs[0] == runs[1]
    assert set(runs[0]) == set(NAMES)


# -- other ways to a group ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balance", ["round_robin", "least_requests", "hash"])
def test_the_parts_of_a_large_object_come_from_one_member(
    members: list[Origin], serve: Serve, client_for: ClientFor, balance: str
) -> None:
    """Members whose validators are their own: a part of one does not fit to the other's."""
    films = [Film(etag=f'"{one.name}"') for one in members]
    for one, film in zip(members, films, strict=True):
        one.on("/film", film)
    edge = Edge("test", limits=Limits(cache=CacheLimits(slice_bytes=SLICE, read_ahead_bytes=1 << 16)))
    origins = [edge.origin(one.name, one.url) for one in members]
    group = edge.group("site", origins, balance=balance)  # type: ignore[arg-type]
    edge.route("/*", to=group, cache=CachePolicy(fill="first"))
    client = client_for(serve(edge))
    for first in (0, 5 * SLICE, 2 * SLICE, 8 * SLICE, 3 * SLICE):
        response = part(client, f"{first}-{first + 99}")
        assert (response.status_code, response.content) == (206, FILM[first : first + 100])
    assert client.get("/film").content == FILM
    # One may have begun it. All that came after is from the member of the URL.
    requested = sorted(len(film.asked) for film in films)
    assert requested[0] == 0
    assert requested[1] <= 1


def test_a_shared_fetch_is_one_request_at_one_member(members: list[Origin], serve: Serve) -> None:
    edge = Edge("test")
    origins = [edge.origin(one.name, one.url) for one in members]
    edge.route("/*", to=edge.group("site", origins, balance="round_robin"))
    gate = Gate("shared")
    for one in members:
        one.default = lambda seen: Reply(200, {"Cache-Control": "max-age=60"}, gate(seen).body)
    served = serve(edge)
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(httpx.get(served.url).text)) for _ in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(counts(members)) == 1, what="the first request")
    gate.opened.set()
    for thread in threads:
        thread.join()
    assert texts == ["shared"] * 6
    assert sum(counts(members)) == 1


def test_a_function_reaches_all_members_by_the_name_of_the_group(
    members: list[Origin], serve: Serve, client_for: ClientFor
) -> None:
    edge = edge_of(members, balance="round_robin")

    @edge.function("/by-name")
    def by_name(request: Request, ctx: Context) -> str:
        return " ".join(ctx.fetch("/", origin="site", cache="no-store").body.decode() for _ in range(6))

    client = client_for(serve(edge))
    assert Counter(client.get("/by-name").text.split()) == dict.fromkeys(NAMES, 2)


def test_the_metrics_name_the_member_that_answered(members: list[Origin], serve: Serve, client_for: ClientFor) -> None:
    served = serve(edge_of(members, balance="round_robin"))
    spread(client_for(served), 9)

    def answered(name: str) -> float:
        return metric(served, "edgerouter_origin_requests_total", f'{{origin="{name}",result="2xx"}}')

    assert [answered(name) for name in NAMES] == [3, 3, 3]


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"balance": "random"}, 'Group.balance: "random": must be one of order, round_robin, least_requests, hash'),
        ({"balance": "hash", "by": "ip"}, 'Group.by: "ip": must be "url", "address", "header:NAME" or "cookie:NAME"'),
        ({"balance": "hash", "by": "header:a b"}, 'Group.by: "header:a b": must be "url"'),
        ({"balance": "hash", "by": 7}, "Group.by: 7: must be"),
        (
            {"balance": "round_robin", "by": "url"},
            'Group.by: "url": is the part of a request that is hashed, and needs',
        ),
        ({"weights": {"first": 2}}, "Group.weights: {'first': 2}: needs balance=\"round_robin\""),
        (
            {"balance": "hash", "weights": {"fist": 2}},
            "Group.weights['fist']: \"fist\": is not a member; there are first, second",
        ),
        (
            {"balance": "round_robin", "weights": {"first": -1}},
            "Group.weights['first']: -1: must be a whole number from 0 to 65535",
        ),
        (
            {"balance": "round_robin", "weights": {"first": 0, "second": 0}},
            "must leave a member with a weight above 0",
        ),
        ({"balance": "round_robin", "weights": [1, 2]}, "Group.weights: [1, 2]: must be a mapping of names of members"),
    ],
    ids=["balance", "by", "a field", "no text", "by alone", "weights alone", "no member", "below 0", "all 0", "a list"],
)
def test_a_wrong_value_is_refused_with_its_place_and_remedy(group: dict[str, Any], message: str) -> None:
    edge = Edge("test")
    origins = [edge.origin(name, "http://127.0.0.1:1") for name in NAMES[:2]]
    with pytest.raises(ConfigError) as refused:
        edge.group("site", origins, **group)
    assert message in str(refused.value)
