"""Fields that restrict browsers, set on every response and never stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Edge, Hsts, SecurityHeaders, _core
from edgerouter.testing import Running

from ..conftest import Serve
from ..origins import Origin, Reply
from ..responses import is_hit

Client = Callable[[Running], httpx.Client]
STRICT = SecurityHeaders(
    hsts=Hsts(max_age=31_536_000, include_subdomains=True, preload=True),
    csp="default-src 'self'; img-src * data:",
    permissions_policy="camera=(), geolocation=(self)",
    coop="same-origin",
    coep="require-corp",
    corp="same-origin",
)
FIELDS = {
    "content-security-policy": "default-src 'self'; img-src * data:",
    "permissions-policy": "camera=(), geolocation=(self)",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "strict-origin-when-cross-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
}
HSTS = "strict-transport-security"


def test_every_response_has_the_fields_hits_errors_and_304s_included(
    origin: Origin, serve: Serve, client_for: Client
) -> None:
    fields = {"cache-control": "max-age=60", "etag": '"1"', "x-frame-options": "DENY", HSTS: "max-age=1"}
    origin.on("/x", Reply(200, fields, "content"))
    edge = Edge("test", trusted_proxies=["127.0.0.1"], security=STRICT)
    to = edge.origin("first", origin.url)
    edge.route("/*", to=to, methods=["GET"])
    edge.route("/own", to=to, security=SecurityHeaders(frame="DENY", nosniff=False, referrer_policy=None))
    client = client_for(serve(edge))
    responses = [
        client.get("/x"),
        client.get("/x"),
        client.get("/x", headers={"if-none-match": '"1"'}),
        client.get("/none"),
        client.post("/x"),
    ]
    assert [response.status_code for response in responses] == [200, 200, 304, 404, 405]
    assert is_hit(responses[1])
    for response in responses:
        assert {name: response.headers.get(name) for name in FIELDS} == FIELDS
        assert HSTS not in response.headers
    over_https = client.get("/x", headers={"x-forwarded-proto": "https"})
    assert over_https.headers[HSTS] == "max-age=31536000; includeSubDomains; preload"
    own = client.get("/own", headers={"x-forwarded-proto": "https"})
    assert own.headers["x-frame-options"] == "DENY"
    assert not {HSTS, "content-security-policy", "x-content-type-options"} & set(own.headers)


def test_fields_of_the_origin_are_kept_where_the_policy_says_so(
    origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {"content-security-policy": "default-src 'none'"}, "content")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), security=SecurityHeaders(csp="img-src *", override=False))
    response = client_for(serve(edge)).get("/x")
    assert response.headers["content-security-policy"] == "default-src 'none'"
    assert response.headers["x-frame-options"] == "SAMEORIGIN"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"csp": "default-src self"}, "needs quotes in default-src"),
        ({"csp": "script-src sha256-YWJj"}, "is a hash"),
        ({"csp": "script-src 'nonce-abc'"}, "the same in all responses"),
        ({"csp": "img-src *; img-src x"}, "img-src twice"),
        ({"csp": "img-src café.example"}, "one line of ASCII text"),
        ({"permissions_policy": "camera=none"}, "must be features"),
        ({"nosniff": False, "frame": None, "referrer_policy": None}, "it sets no field"),
    ],
)
def test_a_mistake_that_browsers_pass_over_is_refused(fields: dict[str, Any], message: str) -> None:
    edge = Edge("test")
    edge.route("/*", respond="x", security=SecurityHeaders(**fields))
    with pytest.raises(ConfigError, match=message):
        edge.compile()


@pytest.mark.parametrize(
    ("fields", "rule", "message"),
    [
        ({"csp": "scirpt-src 'self'"}, "csp", "scirpt-src is no directive"),
        ({"csp": "script-src 'unsafe-inlien'"}, "csp", "'unsafe-inlien' in script-src is no keyword"),
        ({"csp": "script-src 'sha256-YWJj'"}, "csp", "not the base64 of 32 bytes"),
        ({"csp_report_only": "img-src *"}, "csp", "nobody gets a report"),
        ({"hsts": Hsts()}, "hsts", "no listener has TLS"),
    ],
)
def test_check_names_what_browsers_do_not_follow(fields: dict[str, Any], rule: str, message: str) -> None:
    site = Edge("test", security=SecurityHeaders(**fields))
    site.route("/*", respond="x")
    route = Edge("test")
    route.route("/*", respond="x", security=SecurityHeaders(**fields))
    for edge, path in [(site, "security"), (route, "routes[0]")]:
        (advice,) = _core.lint(edge.encode())
        assert (advice["path"], advice["rule"]) == (path, rule)
        assert message in advice["message"]


def wrong(**fields: object) -> dict[str, Any]:
    """Fields that the types would not allow."""
    return fields


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hsts(preload=True), "include_subdomains=True"),
        (lambda: Hsts(max_age=60, include_subdomains=True, preload=True), "31536000"),
        (lambda: SecurityHeaders(**wrong(frame="ALLOWALL")), "must be one of DENY, SAMEORIGIN"),
        (lambda: SecurityHeaders(**wrong(referrer_policy="none")), "must be one of no-referrer"),
        (lambda: SecurityHeaders(**wrong(hsts=True)), "must be a Hsts or None"),
    ],
    ids=["preload alone", "a short preload", "frame", "referrer", "hsts"],
)
def test_a_wrong_value_is_refused_at_its_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
