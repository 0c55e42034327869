"""Serving stale while no origin can be reached (RFC 9111 §4.2.4)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import httpx
import pytest

from edgerouter import CachePolicy, ConfigError, Edge
from edgerouter.testing import Running

from ..conftest import Serve
from ..origins import Origin, Reply, Seen
from .conftest import Cached, MakeCached, status_of

FRESH = {"Cache-Control": "max-age=10", "ETag": '"a"'}
DAY = 86_400


def counted(edge: Running, outcome: str) -> int:
    for line in httpx.get(f"{edge.admin_url}/metrics").text.splitlines():
        if line.startswith("edgerouter_requests_total") and f'cache="{outcome}"' in line:
            return int(float(line.rsplit(" ", 1)[1]))
    return 0


def says_disconnected(response: httpx.Response) -> bool:
    status = status_of(response)
    return "; hit; ttl=-" in status and status.endswith("detail=disconnected") and "fwd" not in status


def test_a_stale_response_is_served_for_a_day_while_the_origin_refuses(cached: Cached) -> None:
    path = cached.answer(FRESH)
    cached.get(path)
    cached.origin.kill()
    cached.at(3600)
    for _ in range(2):
        response = cached.get(path)
        assert (response.status_code, response.text) == (200, "body")
        assert says_disconnected(response), status_of(response)
    head = cached.client.head(path)
    assert head.status_code == 200 and says_disconnected(head)
    cached.at(10 + DAY + 100)
    assert cached.get(path).status_code == 502


def test_the_metrics_count_responses_served_while_disconnected(cached: Cached) -> None:
    path = cached.answer(FRESH)
    cached.get(path)
    cached.origin.kill()
    cached.at(3600)
    cached.get(path)
    assert counted(cached.edge, "disconnected") == 1


def resets(seen: Seen, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def closes(seen: Seen, connection: socket.socket) -> None:
    connection.close()


@pytest.mark.parametrize("how", [resets, closes])
def test_a_connection_that_ends_without_an_answer_is_a_disconnection(
    cached: Cached, how: Callable[[Seen, socket.socket], None]
) -> None:
    path = cached.answer(FRESH)
    cached.get(path)
    cached.origin.on(path, how)
    cached.at(3600)
    assert says_disconnected(cached.get(path))


def test_a_first_byte_that_does_not_come_is_a_disconnection(origin: Origin, serve: Serve) -> None:
    never = threading.Event()
    origin.on("/x", Reply(200, {"Cache-Control": "max-age=10"}, "body"))
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url, first_byte_timeout=1))
    served = serve(edge)
    with httpx.Client(base_url=served.url, timeout=20) as client:
        client.get("/x")

        def silent(seen: Seen) -> None:
            never.wait(20)

        origin.on("/x", silent)
        served.set_clock(60)
        assert says_disconnected(client.get("/x"))
        never.set()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_answer_of_an_origin_is_none(cached: Cached, status: int) -> None:
    path = cached.answer(FRESH)
    cached.get(path)
    cached.origin.on(path, Reply(status, {}, "bad"))
    cached.at(3600)
    assert cached.get(path).status_code == status


def test_an_answer_that_is_no_http_is_none(cached: Cached) -> None:
    path = cached.answer(FRESH)
    cached.get(path)
    cached.origin.on(path, Reply(raw=b"SSH-2.0-OpenSSH_9.6\r\n"))
    cached.at(3600)
    assert cached.get(path).status_code == 502


@pytest.mark.parametrize("answering", ["first", "second"])
def test_one_member_that_answers_is_enough_to_be_connected(
    origin: Origin, second: Origin, serve: Serve, answering: str
) -> None:
    origin.on("/x", Reply(200, {"Cache-Control": "max-age=10"}, "body"))
    edge = Edge("test")
    group = edge.group("site", [edge.origin("first", origin.url), edge.origin("second", second.url)])
    edge.route("/*", to=group)
    served = serve(edge)
    with httpx.Client(base_url=served.url, timeout=20) as client:
        client.get("/x")
        served.set_clock(3600)
        for one, name in ((origin, "first"), (second, "second")):
            if name == answering:
                one.on("/x", Reply(503, {}, "bad"))
            else:
                one.kill()
        assert client.get("/x").status_code in (502, 503)
        (origin if answering == "first" else second).kill()
        assert says_disconnected(client.get("/x"))


@pytest.mark.parametrize(
    "directives",
    [
        "max-age=10, must-revalidate",
        "max-age=10, proxy-revalidate",
        "max-age=10, no-cache",
        "s-maxage=10",
        "s-maxage=10, stale-while-revalidate=5",
        "max-age=10, stale-if-error=0",
        "max-age=10, stale-if-error=60",
    ],
)
def test_what_the_origin_says_wins(cached: Cached, directives: str) -> None:
    path = cached.answer({"Cache-Control": directives, "ETag": '"a"'})
    cached.get(path)
    cached.origin.kill()
    cached.at(3600)
    assert cached.get(path).status_code == 502


def test_a_window_of_the_origin_may_be_longer_than_the_default(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": f"max-age=10, stale-if-error={3 * DAY}"})
    cached.get(path)
    cached.origin.kill()
    cached.at(2 * DAY)
    response = cached.get(path)
    assert response.status_code == 200 and "detail=stale-if-error" in status_of(response)


@pytest.mark.parametrize(
    ("policy", "at", "status"),
    [
        ({"stale_when_disconnected": 0}, 60, 502),
        ({"stale_when_disconnected": 100}, 60, 200),
        ({"stale_when_disconnected": 100}, 3600, 502),
        ({"stale_if_error": 0}, 60, 502),
        ({"stale_if_error": 30}, 60, 502),
        ({"stale_if_error": 100}, 60, 200),
        ({"sick_grace": 30}, 60, 502),
        ({"grace": 30}, 60, 200),
    ],
)
def test_the_policy_says_how_long(make_cached: MakeCached, policy: dict[str, object], at: int, status: int) -> None:
    cached = make_cached(**policy)
    path = cached.answer(FRESH)
    cached.get(path)
    cached.origin.kill()
    cached.at(at)
    assert cached.get(path).status_code == status


def test_a_request_with_no_cache_gets_the_failure(cached: Cached) -> None:
    path = cached.answer(FRESH)
    cached.get(path)
    cached.origin.kill()
    cached.at(3600)
    assert cached.get(path, cache_control="no-cache").status_code == 502
    assert cached.get(path, pragma="no-cache").status_code == 502
    assert says_disconnected(cached.get(path, cache_control="max-age=0")), "what a reload says"


@pytest.mark.parametrize(
    ("status", "fields", "served"),
    [
        (200, {"Cache-Control": "max-age=10"}, True),
        (200, {"Cache-Control": "max-age=0", "ETag": '"a"'}, True),
        (301, {"Cache-Control": "max-age=10", "Location": "/y"}, True),
        (404, {"Cache-Control": "max-age=10"}, True),
        (410, {"Cache-Control": "max-age=10"}, True),
        (403, {"Cache-Control": "max-age=10"}, False),
        (500, {"Cache-Control": "max-age=10"}, False),
        (501, {"Cache-Control": "max-age=10"}, False),
        # Validated for each visitor: nobody ever said that one's is another's.
        (200, {"ETag": '"a"'}, False),
    ],
)
def test_only_what_was_meant_to_be_used_again_stands_in(
    cached: Cached, status: int, fields: dict[str, str], served: bool
) -> None:
    path = cached.answer(fields, status=status)
    cached.get(path)
    cached.origin.kill()
    cached.at(3600)
    response = cached.get(path)
    assert response.status_code == (status if served else 502)
    assert says_disconnected(response) == served


def test_a_purge_ends_use_while_disconnected_unless_it_is_soft(cached: Cached) -> None:
    hard, soft = cached.answer(FRESH), cached.answer(FRESH)
    for path in (hard, soft):
        cached.get(path)
    cached.edge.server.purge(paths=[hard])
    cached.edge.server.purge(paths=[soft], soft=True)
    cached.origin.kill()
    cached.at(5)
    assert cached.get(hard).status_code == 502
    assert says_disconnected(cached.get(soft))


def test_an_unsafe_request_ends_use_while_disconnected(cached: Cached) -> None:
    path = cached.answer(FRESH)
    cached.get(path)
    cached.client.post(path)
    cached.origin.kill()
    cached.at(3600)
    assert cached.get(path).status_code == 502


@pytest.mark.parametrize("ends", ["purge", "post"])
def test_what_is_invalidated_while_the_origin_is_asked_does_not_stand_in(cached: Cached, ends: str) -> None:
    path, go = cached.answer({"Cache-Control": "max-age=10, stale-if-error=600"}), threading.Event()
    cached.get(path)

    def dies(seen: Seen) -> Reply | None:
        if seen.method == "POST":
            return Reply(200, {}, "done")
        go.wait(60)
        return None

    cached.origin.on(path, dies)
    cached.at(60)
    answers: list[int] = []
    waits = threading.Thread(target=lambda: answers.append(cached.get(path).status_code))
    waits.start()
    cached.origin.wait_for(2, path)
    if ends == "purge":
        cached.edge.server.purge(paths=[path])
    else:
        httpx.post(cached.edge.url + path)
    go.set()
    waits.join(60)
    assert answers == [502]


def test_followers_get_the_stored_response_too_when_the_origin_is_gone(cached: Cached) -> None:
    path, go = cached.answer(FRESH), threading.Event()
    cached.get(path)

    def held(seen: Seen) -> None:
        go.wait(60)

    cached.origin.on(path, held)
    cached.at(3600)
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(httpx.get(cached.edge.url + path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    cached.origin.wait_for(2, path)
    go.set()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 4 and all(map(says_disconnected, answers))


def test_a_window_that_nothing_would_use_is_refused() -> None:
    for beside in ({"stale_if_error": 60}, {"sick_grace": 60}):
        with pytest.raises(ConfigError, match="stale_when_disconnected"):
            CachePolicy(stale_when_disconnected=100, **beside)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="stale_when_disconnected"):
        CachePolicy(stale_when_disconnected=-1)
