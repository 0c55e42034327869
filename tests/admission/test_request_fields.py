"""Fields that only the edge, a route, a hook or a trusted proxy may set: a client's go, however spelt and placed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgerouter import ConfigError, Context, Edge, HeaderEdits, HeaderPolicy, Request, cache

from ..conftest import Serve
from ..origins import Origin, Reply
from ..raw import connect, read_all, responses

TABLE = Path(__file__).parents[2] / "docs" / "request-fields.md"


def rows() -> list[tuple[str, bool, bool]]:
    """Names of the table in the docs: whether one passes from a client, and from a trusted proxy."""
    found = []
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5 or not cells[1].startswith("`"):
            continue
        names = re.findall(r"`([^`]+)`", cells[1])
        found += [(name.replace("*", "Anything"), cells[2] == "passes", cells[3] == "passes") for name in names]
    assert found, f"{TABLE.name} has no table of fields"
    return found


def sent(url: str, fields: dict[str, str], body: bytes = b"") -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with connect(url) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{lines}\r\n".encode() + body)
        (answer,) = responses(read_all(sock))
    assert answer.status == 200


@pytest.mark.parametrize("trusted", [False, True])
def test_the_table_in_the_docs_is_what_an_origin_gets(trusted: bool, origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test", trusted_proxies=["127.0.0.1"] if trusted else [])
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    for name, client, proxy in rows():
        if name == "X-Team":
            continue
        passes = proxy if trusted else client
        sent(url, {name: "forged.example"})
        values = origin.requests[-1].all(name)
        assert any("forged" in value for value in values) == passes, name
        twin = name.replace("-", "_")
        if twin != name:
            sent(url, {twin: "forged"})
            assert origin.requests[-1].all(twin) == [], twin


def test_a_trusted_proxy_sets_what_the_plan_names(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test", trusted_proxies=["127.0.0.1"], trusted_proxy_fields=["CF-Connecting-IP", "CloudFront-Viewer-*"])
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    names = ("CF-Connecting-IP", "CloudFront-Viewer-Country", "CF-IPCountry", "CF_Connecting_IP", "Remote-User")
    sent(serve(edge).url, dict.fromkeys(names, "1"))
    seen = origin.requests[0]
    assert [name for name in names if seen.get(name)] == ["CF-Connecting-IP", "CloudFront-Viewer-Country"]


def test_a_proxy_field_that_would_do_nothing_is_refused() -> None:
    for fields, proxies, why in (
        (["X-Request-ID"], ["10.0.0.0/8"], "other fields pass without"),
        (["CF-*"], ["10.0.0.0/8"], "other fields pass without"),
        (["CF-Connecting-IP"], [], "name the proxy in trusted_proxies"),
    ):
        edge = Edge("test", trusted_proxies=proxies, trusted_proxy_fields=fields)
        edge.route("/*", to=edge.origin("first", "http://127.0.0.1:1"))
        with pytest.raises(ConfigError, match=why):
            edge.compile()


def set_by_origin(edge: Edge, url: str) -> None:
    edge.route("/*", to=edge.origin("first", url, headers={"X-Api-Key": "right"}), cache=cache.DISABLED)


def set_by_route(edge: Edge, url: str) -> None:
    policy = HeaderPolicy(request=HeaderEdits(set={"X-Api-Key": "right"}))
    edge.route("/*", to=edge.origin("first", url), cache=cache.DISABLED, headers=policy)


def set_by_origin_request(edge: Edge, url: str) -> None:
    edge.route("/*", to=edge.origin("first", url), cache=cache.DISABLED)

    @edge.on("origin_request", "/*")
    def hook(request: Request, ctx: Context) -> None:
        request.headers["x-api-key"] = "right"


def set_by_viewer_request(edge: Edge, url: str) -> None:
    edge.route("/*", to=edge.origin("first", url), cache=cache.DISABLED)

    @edge.on("viewer_request", "/*")
    def hook(request: Request, ctx: Context) -> None:
        request.headers["x-api-key"] = "right"


@pytest.mark.parametrize("by", [set_by_origin, set_by_route, set_by_origin_request, set_by_viewer_request])
def test_what_is_set_for_the_origin_has_no_twin(by: Callable[[Edge, str], None], origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test")
    by(edge, origin.url)
    sent(serve(edge).url, {"X_Api_Key": "forged", "X-Api_Key": "forged", "X-Api-Key": "forged", "X_Other": "kept"})
    fields = {name.lower(): value for name, value in origin.requests[0].headers}
    assert {name: value for name, value in fields.items() if "api" in name} == {"x-api-key": "right"}
    assert fields["x_other"] == "kept"


def trailed(url: str, announced: str, trailers: str) -> None:
    with connect(url) as sock:
        sock.sendall(
            f"POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nTrailer: {announced}\r\nX-Known: head\r\n"
            f"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n".encode()
        )
        (answer,) = responses(read_all(sock))
    assert answer.status == 200


def test_trailers_pass_the_same_rules_as_the_head(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test")
    policy = HeaderPolicy(request=HeaderEdits(remove=["X-Removed"], set={"X-Api-Key": "right"}))
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED, headers=policy)
    url = serve(edge).url
    names = ("X-Sum", "X-User-ID", "X_User_ID", "X-Forwarded-For", "X-Api-Key", "X_Api_Key", "X-Removed", "X-Known")
    trailed(url, ", ".join(names), "".join(f"{name}: late\r\n" for name in (*names, "X-Unannounced")))
    seen = origin.requests[0]
    assert (seen.body, seen.get("trailer")) == (b"ok", "x-sum")
    assert [(name.lower(), value) for name, value in seen.trailers] == [("x-sum", "late")]


def test_a_trailer_field_goes_with_its_trailers(origin: Origin, serve: Serve) -> None:
    origin.on("/", Reply(200, {}, "x"))
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    trailed(serve(edge).url, "X-User-ID", "X-User-ID: late\r\n")
    assert origin.requests[0].get("trailer") is None


@pytest.mark.parametrize("te", ["", "TE: trailers\r\n"])
@pytest.mark.parametrize("stored", [False, True])
def test_a_response_announces_trailers_only_where_they_come(
    te: str, stored: bool, origin: Origin, serve: Serve
) -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTrailer: X-Sum, Set-Cookie\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=b\r\n\r\n"
    )
    origin.default = Reply(raw=raw)
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.STANDARD if stored else cache.DISABLED)
    url = serve(edge).url
    for _ in range(2):
        with connect(url) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close, TE\r\n{te}\r\n".encode())
            data = read_all(sock)
        trailers = bool(te) and not stored
        assert (b"trailer:" in data.lower(), b"x-sum: 7" in data.lower()) == (trailers, trailers)
        assert b"a=b" not in data


@pytest.mark.parametrize(
    ("method", "value", "forwarded", "status"),
    [
        ("OPTIONS", "0", None, 204),
        ("OPTIONS", "00", None, 204),
        ("OPTIONS", "1", "0", 200),
        ("OPTIONS", "10", "9", 200),
        ("OPTIONS", "99999999999999999999", "18446744073709551614", 200),
        ("OPTIONS", "ten", "ten", 200),
        ("OPTIONS", "+1", "+1", 200),
        ("GET", "0", "0", 200),
        ("POST", "0", "0", 200),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_an_options_ends_after_its_last_hop(
    method: str, value: str, forwarded: str | None, status: int, stored: bool, origin: Origin, serve: Serve
) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.STANDARD if stored else cache.DISABLED)
    with connect(serve(edge).url) as sock:
        head = f"{method} / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nMax-Forwards: {value}\r\n"
        sock.sendall(f"{head}Content-Length: 0\r\n\r\n".encode() if method == "POST" else f"{head}\r\n".encode())
        (answer,) = responses(read_all(sock))
    assert answer.status == status
    assert [seen.get("max-forwards") for seen in origin.requests] == ([] if forwarded is None else [forwarded])
    status_field = answer.get("cache-status")
    if forwarded is None:
        assert status_field == "edgerouter; detail=options"
        assert answer.get("allow") == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    else:
        assert status_field is not None and "; fwd=" in status_field


@pytest.mark.parametrize(
    ("target", "methods", "allowed"),
    [
        ("*", ["GET", "OPTIONS"], "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("http://a.example", ["GET", "OPTIONS"], "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("/", ["GET", "OPTIONS"], "GET, OPTIONS"),
    ],
)
def test_an_options_that_the_edge_answers_names_the_methods(
    target: str, methods: list[str], allowed: str, origin: Origin, serve: Serve
) -> None:
    """RFC 9110 §9.3.7: of the edge, or of the route where the request may go no further."""
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), methods=methods)
    with connect(serve(edge).url) as sock:
        head = f"OPTIONS {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nMax-Forwards: 0\r\n\r\n"
        sock.sendall(head.encode())
        (answer,) = responses(read_all(sock))
    assert (answer.status, answer.get("allow")) == (204, allowed)
    assert origin.requests == []
