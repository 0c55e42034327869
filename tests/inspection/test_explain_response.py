"""`edgerouter explain --response-header`: what would become of an answer, with the section that says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgerouter import CachePolicy, Edge, ErrorPage, Jwt

from ..identity.tokens import SECRET, bearer, token

DATE = ("Date", "Tue, 14 Nov 2023 22:13:20 GMT")
NOW = 1_700_000_000


def told(
    status: int,
    *fields: tuple[str, str],
    headers: list[tuple[str, str]] | None = None,
    method: str = "GET",
    **route: object,
) -> dict[str, tuple[str, str]]:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", "http://127.0.0.1:9"), **route)  # type: ignore[arg-type]
    steps = edge.explain(method, "http://h/a", headers or [], now=NOW, response=(status, fields))
    return {step["phase"]: (step["decision"], step["reason"]) for step in steps}


@pytest.mark.parametrize(
    ("status", "fields", "decision", "section"),
    [
        (200, [("Cache-Control", "no-store")], "no: no-store", "§5.2.2.5"),
        (200, [("Cache-Control", "private")], "no: private", "§5.2.2.7"),
        (200, [("Cache-Control", "max-age=9"), ("Vary", "*")], "no: vary-star", "§4.1"),
        (200, [("Cache-Control", "max-age=9"), ("Set-Cookie", "a=b")], "no: set-cookie", "§7.3"),
        (206, [("Cache-Control", "max-age=9"), ("Content-Range", "bytes 0-1/2")], "no: partial", "§3.3"),
        (500, [], "no: status", "§3"),
        (200, [("Cache-Control", "max-age=9")], "yes", "§3"),
    ],
)
def test_storing_is_decided_with_its_section(
    status: int, fields: list[tuple[str, str]], decision: str, section: str
) -> None:
    found = told(status, DATE, *fields)
    assert found["store"][0] == decision and section in found["store"][1]
    assert ("lifetime" in found) == (decision == "yes")


@pytest.mark.parametrize(
    ("fields", "lifetime", "rule"),
    [
        ([("Cache-Control", "max-age=60, s-maxage=10")], "10 s", "s-maxage (RFC 9111 §5.2.2.10)"),
        ([("Cache-Control", "max-age=60")], "60 s", "max-age (RFC 9111 §5.2.2.1)"),
        ([("Cache-Control", "max-age=60"), ("Age", "20")], "60 s, of which 20 s", "max-age"),
        ([("Expires", "Tue, 14 Nov 2023 22:13:50 GMT")], "30 s", "Expires (RFC 9111 §5.3)"),
        ([("Last-Modified", "Tue, 14 Nov 2023 22:11:40 GMT")], "10 s", "heuristic (RFC 9111 §4.2.2)"),
    ],
)
def test_the_lifetime_names_its_rule(fields: list[tuple[str, str]], lifetime: str, rule: str) -> None:
    found = told(200, DATE, *fields)["lifetime"]
    assert found[0].startswith(lifetime) and found[1].startswith(rule)


def test_what_comes_after_is_told_for_hits_stale_ones_and_failures() -> None:
    found = told(200, DATE, ("Cache-Control", "max-age=60, stale-while-revalidate=30, stale-if-error=90"))
    assert found["hit"] == ("the stored response", "it is fresh (RFC 9111 §4.2)")
    assert found["stale"] == (
        "after 60 s: the stored response, stale, refreshed behind",
        "stale-while-revalidate (RFC 5861 §3)",
    )
    assert found["origin fails"] == ("the stored response, stale, for 90 s", "stale-if-error (RFC 5861 §4)")
    strict = told(200, DATE, ("Cache-Control", "max-age=60, must-revalidate"), ("ETag", '"a"'))
    assert strict["stale"][0] == "after 60 s: validates it with the origin (RFC 9111 §4.3.1)"
    assert strict["origin fails"][0] == "the failure" and "must-revalidate" in strict["origin fails"][1]
    kept = told(200, DATE, ("Cache-Control", "max-age=60"), cache=CachePolicy(sick_grace=600))
    assert "sick_grace" in kept["origin fails"][1]
    assert kept["no origin answers"] == ("as when it fails", "the same rule holds")


@pytest.mark.parametrize(
    ("own", "asked", "window", "whose"),
    [
        ("max-age=60", "stale-if-error=50", 50, "of the request"),
        ("max-age=60", "no-cache, stale-if-error=50", 50, "of the request"),
        ("max-age=60, stale-if-error=90", "stale-if-error=50", 90, "stale-if-error (RFC"),
        ("max-age=60, stale-if-error=90", "no-cache, stale-if-error=50", 50, "of the request"),
    ],
)
def test_the_window_on_a_failure_names_who_allows_it(own: str, asked: str, window: int, whose: str) -> None:
    found = told(200, DATE, ("Cache-Control", own), headers=[("Cache-Control", asked)])
    decision, reason = found["origin fails"]
    assert decision == f"the stored response, stale, for {window} s" and whose in reason


def test_nothing_is_requested_for_only_if_cached() -> None:
    found = told(200, DATE, ("Cache-Control", "max-age=60"), headers=[("Cache-Control", "only-if-cached")])
    assert found["hit"][0] == "the stored response"
    assert found["stale"][0] == "after 60 s: 504, and no origin is requested" and "§5.2.1.7" in found["stale"][1]
    assert "origin fails" not in found and "no origin answers" not in found
    stale = told(200, DATE, ("Cache-Control", "max-age=60"), headers=[("Cache-Control", "only-if-cached, max-stale")])
    assert stale["stale"][0] == "after 60 s: the stored response, stale"


@pytest.mark.parametrize(
    ("fields", "policy", "served", "why"),
    [
        (("Cache-Control", "max-age=60"), {}, True, "RFC 9111 §4.2.4"),
        (("Cache-Control", "max-age=60"), {"stale_when_disconnected": 0}, False, "stale_when_disconnected=0"),
        (("Cache-Control", "max-age=60"), {"stale_if_error": 0}, False, "stale_if_error"),
        (("Cache-Control", "max-age=60, stale-if-error=0"), {}, False, "its own stale-if-error"),
        (("Cache-Control", "max-age=60, must-revalidate"), {}, False, "must-revalidate"),
    ],
)
def test_it_says_what_is_served_while_no_origin_can_be_reached(
    fields: tuple[str, str], policy: dict[str, Any], served: bool, why: str
) -> None:
    found = told(200, DATE, fields, ("ETag", '"a"'), cache=CachePolicy(**policy))["no origin answers"]
    assert (found[0] == "the stored response, stale, for 86400 s") == served
    assert (found[0] == "the failure") != served and why in found[1]


def test_fields_of_the_request_change_what_is_stored_and_reused() -> None:
    found = told(200, DATE, ("Cache-Control", "max-age=60"), headers=[("Cache-Control", "no-cache")])
    assert "request-no-cache" in found["hit"][1]
    authorized = told(200, DATE, ("Cache-Control", "max-age=60"), headers=[("Authorization", "Basic eDp5")])
    assert authorized["store"] == ("no: authorization", "RFC 9111 §3.5")
    shared = told(
        200,
        DATE,
        ("Cache-Control", "max-age=60"),
        headers=list(bearer(token()).items()),
        auth=Jwt.hs256(SECRET, leeway=10**9, shared=True),
    )
    assert shared["store"][0] == "yes"
    assert told(200, DATE, ("Cache-Control", "max-age=60"), method="POST").get("lifetime") is None


def test_the_command_takes_an_origins_answer(tmp_path: Path) -> None:
    site = tmp_path / "app.py"
    site.write_text(
        "from edgerouter import Edge\nedge = Edge('t')\nedge.route('/*', to=edge.origin('o', 'http://127.0.0.1:9'))\n"
    )

    def explain(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edgerouter", "explain", str(site), "GET", "/a", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = explain("--response-header", "Cache-Control: s-maxage=10", "--response-status", "404")
    assert done.returncode == 0 and "s-maxage (RFC 9111 §5.2.2.10)" in done.stdout, done.stderr
    assert explain("--response-header", "nonsense").returncode == 2
    assert explain("--response-status", "99").returncode == 2


@pytest.mark.parametrize(
    ("fill", "decision"),
    [("second", "a second request fills"), ("first", "fills slices"), ("never", "bytes of an object")],
)
def test_explain_says_what_a_range_fills(fill: str, decision: str) -> None:
    cache = CachePolicy(fill=fill)  # type: ignore[arg-type]
    found = told(200, DATE, headers=[("Range", "bytes=0-0")], cache=cache)["range"]
    assert decision in found[0] and f'fill="{fill}"' in found[1]
    assert "range" not in told(200, DATE, cache=cache)


def test_explain_says_that_a_preflight_goes_through() -> None:
    asks = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "PUT")]
    auth = Jwt.hs256(SECRET)
    assert told(200, headers=asks, method="OPTIONS", auth=auth)["identify"][0] == "401"
    found = told(200, headers=asks, method="OPTIONS", auth=auth, preflight="origin")["identify"]
    assert found[0] == "nobody" and "preflight" in found[1]


def test_the_page_for_a_status_is_told() -> None:
    pages = {404: "/404.html", 502: ErrorPage(body="Back soon.")}
    assert told(404, DATE, errors=pages)["error page"] == ("/404.html", "the route's errors, 404")
    assert told(404, DATE, errors=pages, method="POST")["error page"][0] == "none"
    assert told(502, DATE, errors=pages, method="POST")["error page"][0] == "the edge's own, of 10 bytes"
    assert "error page" not in told(200, DATE, errors=pages)
