"""`edgerouter cache` and its endpoints: what is stored, why, for how long still, and what a request would find."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import Context, Edge, Experiment, Request, Response, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply
from ..processes import command
from .inspected import asked

Serve = Callable[[Edge], Running]


@pytest.fixture
def served(origin: Origin, serve: Serve) -> Running:
    """An edge in whose cache there is one of each: plain, varying, by an experiment, by a function, unshareable."""
    origin.on("/plain", Reply(200, {"Cache-Control": "s-maxage=600, max-age=60", "ETag": '"v1"'}, "plain"))
    origin.on("/old", Reply(200, {"Expires": "Fri, 01 Jan 2100 00:00:00 GMT", "Content-Type": "text/css"}, "old"))
    origin.on("/vary", Reply(200, {"Cache-Control": "max-age=60", "Vary": "Accept-Language, Cookie"}, "vary"))
    origin.on("/home", Reply(200, {"Cache-Control": "max-age=60"}, "home"))
    origin.on("/private", Reply(200, {"Cache-Control": "private"}, "mine"))
    edge = Edge("test")
    site = edge.origin("first", origin.url)
    edge.route("/home", to=site, experiment=Experiment("home", variants={"a": 1, "b": 0}, cookie="home"))
    edge.route("/never", to=site, cache=cache.DISABLED)
    edge.route("/*", to=site)

    @edge.function("/function")
    def function(request: Request, ctx: Context) -> str:
        ctx.caches.open("own").put("https://other.example/thing", Response("a", headers={"Cache-Control": "max-age=5"}))
        return "done"

    running = serve(edge)
    with httpx.Client(base_url=running.url) as client:
        for path in ("/plain", "/plain", "/old?x=1", "/home", "/private", "/function"):
            assert client.get(path).status_code == 200
        for language in ("de", "fr"):
            client.get("/vary", headers={"Accept-Language": language, "Cookie": "session=secret"})
    return running


def test_stats_count_what_is_stored_and_by_which_rule(served: Running) -> None:
    found = asked(served, "stats")
    assert (found["responses"], found["fresh"], found["stale"]) == (6, 6, 0)
    assert (found["urls_with_variants"], found["not_shareable"], found["by_functions"]) == (2, 1, 1)
    assert found["by_status"] == {"200": 6}
    assert found["by_lifetime_rule"] == {
        "s-maxage (RFC 9111 §5.2.2.10)": 1,
        "max-age (RFC 9111 §5.2.2.1)": 4,
        "Expires (RFC 9111 §5.3)": 1,
    }
    assert {host["host"]: host["responses"] for host in found["hosts"]} == {"127.0.0.1": 5, "other.example": 1}
    assert 0 < found["memory"]["bytes"] <= found["memory"]["capacity"] and found["memory"]["entries"] == 9
    assert found["complete"] is True


def test_ages_in_the_view_of_the_cache_follow_the_clock_of_the_edge(served: Running) -> None:
    served.set_clock(300)
    [entry] = asked(served, "entries", prefix="/plain")["entries"]
    assert entry["age"] >= 300 and entry["age"] + entry["ttl"] == 600
    assert asked(served, "entry", url=f"{served.url}/plain")["stored"][0]["age"] >= 300


def test_an_entry_says_why_it_is_there_and_for_how_long(served: Running) -> None:
    [entry] = asked(served, "entries", prefix="/plain")["entries"]
    assert entry["why"] == "s-maxage (RFC 9111 §5.2.2.10)"
    assert (entry["lifetime"], entry["fresh"], entry["etag"]) == (600, True, '"v1"')
    assert entry["age"] + entry["ttl"] == 600
    assert (entry["url"], entry["status"], entry["length"]) == (f"{served.url}/plain", 200, 5)
    assert (entry["variant"], entry["function"], entry["uses"], entry["tier"]) == ([], None, 1, "memory")
    assert entry["bytes"] > 5


def test_variants_are_told_by_what_selects_them_and_nothing_personal_is_shown(served: Running) -> None:
    entries = asked(served, "entries", prefix="/vary")["entries"]
    assert sorted(entry["variant"] for entry in entries) == [
        ["accept-language: de", "cookie: …"],
        ["accept-language: fr", "cookie: …"],
    ]
    [home] = asked(served, "entries", prefix="/home")["entries"]
    assert home["variant"] == ["experiment home=a"]
    [own] = asked(served, "entries", host="other.example")["entries"]
    assert own["function"] == {"cache": "own", "scheme": "https"}
    assert "secret" not in httpx.get(f"{served.admin_url}/v1/cache/entries").text


def test_a_page_goes_on_where_the_last_one_ended(served: Running) -> None:
    whole = [entry["url"] for entry in asked(served, "entries")["entries"]]
    paged: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = asked(served, "entries", limit=1, **cursor)
        assert len(page["entries"]) <= 1
        paged += [entry["url"] for entry in page["entries"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert (len(whole), paged) == (6, whole)


def test_what_is_invalidated_is_not_listed_any_more(served: Running, origin: Origin) -> None:
    origin.default = Reply(204)
    assert httpx.delete(f"{served.url}/vary").status_code in (200, 204)
    assert asked(served, "entries", prefix="/vary")["entries"] == []


def test_a_url_is_looked_up_as_a_request_for_it_would_be(served: Running) -> None:
    plain = asked(served, "entry", url=f"{served.url}/plain")
    assert (plain["key"], plain["decision"], plain["found"]["lifetime"]) == (f"{served.url}/plain", "hit", 600)
    validated = asked(served, "entry", url=f"{served.url}/plain", header="Cache-Control: no-cache")
    assert validated["decision"] == "request-no-cache"
    german = asked(served, "entry", url=f"{served.url}/vary", header=["Accept-Language: de", "Cookie: session=secret"])
    assert german["found"]["variant"][0] == "accept-language: de" and len(german["stored"]) == 2
    other = asked(served, "entry", url=f"{served.url}/vary", header="Accept-Language: it")
    assert (other["decision"], other["found"], len(other["stored"])) == ("miss", None, 2)
    variant = asked(served, "entry", url=f"{served.url}/home", header="Cookie: home=a")
    assert variant["found"]["variant"] == ["experiment home=a"]
    never = asked(served, "entry", url=f"{served.url}/never")
    assert never["key"] is None and any(step["phase"] == "key" for step in never["steps"])


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("entries", {"limit": "0"}, "limit"),
        ("entries", {"limit": "1001"}, "limit"),
        ("entries", {"limit": "x"}, "limit"),
        ("entries", {"cursor": "x"}, "cursor"),
        ("entries", {"prefix": "static"}, "prefix"),
        ("entries", {"hosts": "x"}, "hosts"),
        ("entries", {"host": ""}, "host"),
        ("entries", {"tag": ""}, "tag"),
        ("entries", {"limit": ["1", "2"]}, "limit"),
        ("stats", {"x": "1"}, "x"),
        ("entry", {}, "url"),
        ("entry", {"url": "/plain"}, "url"),
        ("entry", {"url": ["http://h/", "http://i/"]}, "url"),
        ("entry", {"url": "http://h/", "header": "nonsense"}, "header"),
        ("entry", {"url": "http://h/", "client": "x"}, "client"),
    ],
)
def test_wrong_input_is_refused_by_its_name(served: Running, path: str, query: dict[str, Any], field: str) -> None:
    response = httpx.get(f"{served.admin_url}/v1/cache/{path}", params=query)
    assert (response.status_code, response.json()["error"]["field"]) == (400, field)


def test_a_cursor_from_nowhere_is_the_end(served: Running) -> None:
    assert asked(served, "entries", cursor=f"{2**60}.{2**60}") == {"entries": [], "next": None}


def test_the_command_prints_tables_and_json(served: Running) -> None:
    admin = ("--admin", served.admin_url)
    stats = command("cache", "stats", *admin)
    assert stats.returncode == 0, stats.stderr
    assert "6 (6 fresh, 0 stale)" in stats.stdout and "s-maxage (RFC 9111 §5.2.2.10)" in stats.stdout
    listed = command("cache", "ls", *admin, "--prefix", "/plain")
    assert listed.returncode == 0 and f"{served.url}/plain" in listed.stdout and "\x1b" not in listed.stdout
    machine = json.loads(command("cache", "ls", *admin, "--limit", "2", "--json").stdout)
    assert (len(machine["entries"]), machine["more"]) == (2, True)
    got = command("cache", "get", *admin, f"{served.url}/vary", "-H", "Accept-Language: de")
    assert got.returncode == 0 and "for other requests" in got.stdout
    details = command("cache", "get", *admin, f"{served.url}/plain").stdout
    assert "by s-maxage (RFC 9111 §5.2.2.10)" in details and '"v1"' in details


def test_the_exit_code_says_whether_there_is_something(served: Running) -> None:
    found = command("cache", "get", "--admin", served.admin_url, "http://127.0.0.1/nothing")
    assert (found.returncode, found.stdout.splitlines()[-1]) == (1, "nothing is stored for it")


def test_mistakes_are_one_line_with_a_remedy(served: Running) -> None:
    for arguments, expected in (
        (("ls", "--prefix", "static"), "error: prefix: is of a path, so it must start with /"),
        (("get", "/plain"), "error: url: must be absolute"),
    ):
        done = command("cache", *arguments, "--admin", served.admin_url)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1) and done.stderr.startswith(expected)
    for address, expected in (
        ("127.0.0.1:1", "nothing listens here; start the edge with --admin 127.0.0.1:1"),
        ("nowhere", "must be HOST:PORT"),
        (served.url, "is it an edge's admin listener?"),
    ):
        done = command("cache", "stats", "--admin", address)
        assert done.returncode == 1 and expected in done.stderr, done.stderr
    assert command("cache", "ls", "--limit", "0").returncode == 2
