"""Pages under the names of static files are not stored (web cache deception)."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from edgerouter import CachePolicy, Edge, _core, cache

from ..origins import Origin, Reply
from ..responses import is_hit

GUARDED = CachePolicy(default_ttl=60, extension_guard=True)
Site = Callable[..., httpx.Client]


@pytest.mark.parametrize(
    ("policy", "path", "kind", "status", "stored"),
    [
        (GUARDED, "/account/x.css", "text/html", 200, False),
        (GUARDED, "/account/x.css", "text/css", 200, True),
        (GUARDED, "/account/x.JS", "application/json", 200, False),
        (GUARDED, "/account/x.css;a=b", "text/html; charset=utf-8", 200, False),
        (GUARDED, "/account;x.css", "text/html", 200, False),
        (GUARDED, "/account/x.css", "text/css, text/html", 200, False),
        (GUARDED, "/account", "text/html", 200, True),
        (GUARDED, "/page.html", "text/html", 200, True),
        (CachePolicy(negative_ttl={404: 60}, extension_guard=True), "/gone.css", "text/html", 404, True),
        (CachePolicy(default_ttl=60), "/account/x.css", "text/html", 200, True),
        (cache.OPTIMIZED, "/account/x.css", "text/html", 200, False),
        (cache.OPTIMIZED, "/x.css", "text/css", 200, True),
    ],
)
def test_a_page_under_the_name_of_a_static_file_is_not_stored(
    origin: Origin, site: Site, policy: CachePolicy, path: str, kind: str, status: int, stored: bool
) -> None:
    origin.default = Reply(status, {"content-type": kind}, "content")
    client = site(cache=policy)
    first, second = client.get(path), client.get(path)
    assert is_hit(second) == stored
    assert origin.count() == (1 if stored else 2)
    assert ("extension" in first.headers["cache-status"]) == (not stored)


def test_explain_and_check_name_the_guard() -> None:
    edge = Edge("test")
    to = edge.origin("site", "http://x")
    edge.route("/*", to=to, cache=GUARDED)
    edge.route("/loose/*", to=to, cache=CachePolicy(default_ttl=60))
    response = (200, [("content-type", "text/html")])
    steps = edge.explain("GET", "http://h/account/x.css", response=response)
    assert any(step["decision"] == "no: extension" and "extension_guard" in step["reason"] for step in steps)
    rules = {(lint["path"], lint["rule"]) for lint in _core.lint(edge.encode())}
    assert ("routes[1]", "cache-deception") in rules
    assert ("routes[0]", "cache-deception") not in rules
