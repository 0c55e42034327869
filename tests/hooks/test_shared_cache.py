"""Hooks and the shared cache: what a hook makes of one visitor's request is never another visitor's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest

from edgerouter import CachePolicy, Context, Edge, ForwardPolicy, Jwt, Request, Response
from edgerouter.errors import ConfigError

from ..identity.tokens import SECRET, bearer, token
from ..origins import Origin, Reply, Seen
from .variants import Made, article, is_hit, status


def test_the_articles_hook_gives_a_to_a_and_b_to_b(made: Made, origin: Origin) -> None:
    client = made(article)
    for _ in range(2):
        for variant in ("a", "b"):
            response = client.get("/page", headers={"cookie": f"variant={variant}"})
            assert response.text == f"variant {variant}"
    assert is_hit(response)
    assert client.get("/page").status_code == 302
    assert len(origin.requests) == 2


def test_a_constant_hook_keeps_the_response_a_hit_for_all(made: Made, origin: Origin) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("origin_request", "/*")
        def constant(request: Request, ctx: Context) -> None:
            request.headers["x-hooked"] = "constant"
            request.headers.discard("cookie")
            request.headers.update({"x-more": "1"})
            ctx.log.warning("a line in the log reads nothing")

    client = made(declare)
    client.get("/page", headers={"cookie": "who=1", "user-agent": "one"})
    other = client.get("/page", headers={"cookie": "who=2", "user-agent": "two"})
    assert (other.text, is_hit(other), len(origin.requests)) == ("variant constant", True, 1)


@pytest.mark.parametrize("read", ["cookies", "get", "field"])
def test_a_cookie_or_field_that_a_hook_reads_selects(made: Made, origin: Origin, read: str) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("origin_request", "/*")
        def reads(request: Request, ctx: Context) -> None:
            if read == "field":
                found = request.headers.get("x-plan", "-")
            elif read == "get":
                found = request.cookies.get("variant", "-")
            else:
                try:
                    found = request.cookies["variant"]
                except KeyError:
                    found = "-"
            request.headers["x-hooked"] = found

    client = made(declare)
    questions: list[dict[str, str]] = [{"cookie": f"variant={value}", "x-plan": value} for value in ("a", "b", "")]
    for question in (*questions, {}):
        want = f"variant {question['x-plan'] if question else '-'}"
        first = client.get("/page", headers=question)
        second = client.get("/page", headers={**question, "user-agent": "another"})
        assert (first.text.strip(), is_hit(first)) == (want.strip(), False)
        assert (second.text.strip(), is_hit(second)) == (want.strip(), True)
    if read != "field":
        # Other cookies were not read.
        assert is_hit(client.get("/page", headers={"cookie": "other=1; variant=a"}))
    assert len(origin.requests) == 4


@pytest.mark.parametrize("phase", ["origin_request", "origin_response"])
@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda request: request.client, id="client"),
        pytest.param(lambda request: request.id, id="id"),
        pytest.param(lambda request: request.geo.country, id="geo"),
        pytest.param(lambda request: sorted(request.headers), id="every field"),
        pytest.param(lambda request: len(request.headers), id="how many fields"),
        pytest.param(lambda request: request.headers.get("x-forwarded-for"), id="the chain of addresses"),
        pytest.param(lambda request: request.claims, id="the token"),
        pytest.param(None, id="the id of the context"),
    ],
)
def test_what_nothing_later_can_be_compared_with_is_not_stored(
    made: Made, origin: Origin, phase: Any, read: Callable[[Request], object] | None
) -> None:
    def declare(edge: Edge) -> None:
        if phase == "origin_request":

            @edge.on("origin_request", "/*")
            def asks(request: Request, ctx: Context) -> None:
                ctx.log.debug("reads nothing")
                request.headers["x-hooked"] = str(read(request) if read else ctx.request_id)[:20]

        else:

            @edge.on("origin_response", "/*")
            def answers(request: Request, response: Response, ctx: Context) -> None:
                response.headers["x-hooked"] = str(read(request) if read else ctx.request_id)[:20]

    client = made(declare)
    for _ in range(2):
        response = client.get("/page")
        assert "hit" not in status(response)
    assert "detail=hook" in status(response)
    assert len(origin.requests) == 2


def test_a_response_hook_selects_by_what_it_reads_too(made: Made, origin: Origin) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("origin_response", "/*")
        def stamp(request: Request, response: Response, ctx: Context) -> None:
            response.headers["x-for"] = request.cookies.get("variant", "-")

    client = made(declare)
    for _ in range(2):
        for variant in ("a", "b"):
            response = client.get("/page", headers={"cookie": f"variant={variant}"})
            assert response.headers["x-for"] == variant
    assert is_hit(response)


def test_fields_that_a_viewer_hook_sets_or_removes_are_part_of_the_key(made: Made, origin: Origin) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("viewer_request", "/*")
        def mark(request: Request, ctx: Context) -> None:
            if (variant := request.cookies.get("variant")) is not None:
                request.headers["x-hooked"] = variant
            else:
                request.headers.discard("x-hooked")

    client = made(declare)
    for _ in range(2):
        for variant in ("a", "b", "", None):
            headers = {} if variant is None else {"cookie": f"variant={variant}"}
            response = client.get("/page", headers={**headers, "x-hooked": "forged"})
            assert response.text.strip() == f"variant {variant}".strip()
    assert is_hit(response)
    assert len(origin.requests) == 4


def test_a_path_that_a_viewer_hook_sets_is_the_one_that_is_keyed(made: Made, origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, {"Cache-Control": "max-age=60"}, seen.target)

    def declare(edge: Edge) -> None:
        @edge.on("viewer_request", "/*")
        def move(request: Request, ctx: Context) -> None:
            request.path = f"/{request.cookies.get('variant', 'none')}{request.path}"
            request.query_string = "from=hook"

    client = made(declare)
    for _ in range(2):
        for variant in ("a", "b"):
            response = client.get("/page?own=1", headers={"cookie": f"variant={variant}"})
            assert response.text == f"/{variant}/page?from=hook"
    assert is_hit(response)


@pytest.mark.parametrize("phase", ["viewer_request", "origin_request", "origin_response"])
def test_a_request_on_which_a_hook_failed_open_is_not_stored(
    made: Made, origin: Origin, phase: Literal["viewer_request", "origin_request", "origin_response"]
) -> None:
    def declare(edge: Edge) -> None:
        if phase == "origin_response":

            @edge.on("origin_response", "/*", fail="open")
            def answers(request: Request, response: Response, ctx: Context) -> None:
                if "x-fail" in request.headers:
                    raise RuntimeError("on purpose")

        else:

            @edge.on(phase, "/*", fail="open")
            def asks(request: Request, ctx: Context) -> None:
                if "x-fail" in request.headers:
                    raise RuntimeError("on purpose")
                request.headers["x-hooked"] = "marked"

    client = made(declare)
    for _ in range(2):
        failed = client.get("/page", headers={"x-fail": "1"})
        assert "stored" not in status(failed)
        assert "detail=hook-failed" in status(failed)
        assert failed.text == ("variant None")
    good = client.get("/page")
    assert good.text == ("variant None" if phase == "origin_response" else "variant marked")
    assert "stored" in status(good)
    assert is_hit(client.get("/page"))


def test_varies_is_taken_in_place_of_what_is_read(made: Made, origin: Origin) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("origin_request", "/nothing", varies=[])
        def looks(request: Request, ctx: Context) -> None:
            str(request.client)

        @edge.on("origin_request", "/by", varies=["x-plan", "cookie:variant"])
        def by(request: Request, ctx: Context) -> None:
            fields = dict(request.headers)
            request.headers["x-hooked"] = f"{fields.get('x-plan')} {request.cookies.get('variant')}"

    client = made(declare)
    client.get("/nothing", headers={"user-agent": "one"})
    assert is_hit(client.get("/nothing", headers={"user-agent": "two"}))
    for _ in range(2):
        for plan, variant in (("p", "a"), ("p", "b"), ("q", "a")):
            response = client.get("/by", headers={"x-plan": plan, "cookie": f"variant={variant}; x=1"})
            assert response.text == f"variant {plan} {variant}"
    assert is_hit(response)


@pytest.mark.parametrize(
    ("phase", "varies", "problem"),
    [
        ("viewer_request", ["x-a"], "varies"),
        ("viewer_response", [], "varies"),
        ("origin_request", ["*"], "varies[0]"),
        ("origin_request", ["x-a", "cookie:"], "varies[1]"),
        ("origin_response", ["a b"], "varies[0]"),
        ("origin_request", [1], "varies[0]"),
    ],
)
def test_varies_that_means_nothing_is_refused_where_it_is_written(phase: Any, varies: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match="varies") as raised:
        Edge("test").on(phase, "/*", varies=varies)(
            (lambda request, ctx: None) if phase.endswith("request") else (lambda request, response, ctx: None)
        )
    assert problem in str(raised.value)


def test_the_field_in_which_the_edge_writes_addresses_selects_nothing(origin: Origin) -> None:
    by_hook, by_key = Edge("hook"), Edge("key")
    for edge in (by_hook, by_key):
        edge.route("/*", to=edge.origin("first", origin.url), cache=CachePolicy())
    by_hook.on("origin_request", "/*", varies=["X-Forwarded-For"])(lambda request, ctx: None)
    by_key.route("/by", to="first", cache=CachePolicy(headers=["X-Forwarded-For"]))
    for edge, place in ((by_hook, r"varies\[0\]"), (by_key, r"cache\.headers\[0\]")):
        with pytest.raises(ConfigError, match=rf"{place}.*is written by the edge for each client"):
            edge.compile()


def test_a_claim_that_the_key_has_may_be_read_and_another_may_not(made: Made, origin: Origin) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("origin_request", "/*")
        def reads(request: Request, ctx: Context) -> None:
            assert request.claims is not None
            name = "sub" if request.path == "/sub" else "role"
            request.headers["x-hooked"] = str(request.claims.get(name))

    auth = Jwt.hs256(SECRET)
    client = made(declare, auth=auth, cache=CachePolicy(claims=["sub"]))
    for _ in range(2):
        for sub in ("u1", "u2"):
            response = client.get("/sub", headers=bearer(token({"sub": sub, "role": "r", "exp": 4102444800})))
            assert response.text == f"variant {sub}"
    assert is_hit(response)
    for role in ("r1", "r2"):
        response = client.get("/role", headers=bearer(token({"sub": "u", "role": role, "exp": 4102444800})))
        assert response.text == f"variant {role}"
        assert "detail=hook" in status(response)


def test_a_parameter_that_the_key_has_may_be_read_and_others_are_not_seen(made: Made, origin: Origin) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("origin_response", "/*")
        def reads(request: Request, response: Response, ctx: Context) -> None:
            response.headers["x-saw"] = request.query_string

    client = made(declare, cache=CachePolicy(query=["page"]), forward=ForwardPolicy(query=["page"]))
    first = client.get("/list?page=1&session=s1")
    second = client.get("/list?page=1&session=s2")
    assert (first.headers["x-saw"], second.headers["x-saw"]) == ("page=1", "page=1")
    assert is_hit(second)


def test_requests_that_wait_for_one_another_get_only_what_is_theirs(made: Made, origin: Origin) -> None:
    client = made(article)
    variants = ["a", "b", "c", "d"] * 8

    def ask(variant: str) -> str:
        return client.get("/together", headers={"cookie": f"variant={variant}"}).text

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, variants))
    assert answers == [f"variant {variant}" for variant in variants]


def test_a_validation_that_a_hook_had_another_part_in_leaves_nothing_stored(made: Made, origin: Origin) -> None:
    reading = {"on": False}

    def answer(seen: Seen) -> Reply:
        if seen.get("if-none-match"):
            return Reply(304, {"ETag": '"1"', "Cache-Control": "max-age=0"})
        return Reply(200, {"ETag": '"1"', "Cache-Control": "max-age=0"}, f"variant {seen.get('x-hooked')}")

    origin.default = answer

    def declare(edge: Edge) -> None:
        @edge.on("origin_request", "/*")
        def sometimes(request: Request, ctx: Context) -> None:
            request.headers["x-hooked"] = request.cookies.get("variant", "-") if reading["on"] else "constant"

    client = made(declare)
    assert client.get("/page").text == "variant constant"
    assert "fwd-status=304" in status(client.get("/page"))
    reading["on"] = True
    client.get("/page", headers={"cookie": "variant=a"})
    assert client.get("/page", headers={"cookie": "variant=b"}).text == "variant b"


def test_a_stale_response_is_refreshed_behind_for_the_visitors_that_it_is_for(made: Made, origin: Origin) -> None:
    def answer(seen: Seen) -> Reply:
        return Reply(
            200,
            {"Cache-Control": "max-age=0, stale-while-revalidate=60", "X-Count": str(len(origin.requests))},
            f"variant {seen.get('x-hooked')}",
        )

    origin.default = answer

    def declare(edge: Edge) -> None:
        @edge.on("viewer_request", "/viewer")
        @edge.on("origin_request", "/origin")
        def mark(request: Request, ctx: Context) -> None:
            request.headers["x-hooked"] = request.cookies.get("variant", "-")

    client = made(declare)
    for path in ("/viewer", "/origin"):
        for turn in range(6):
            for variant in ("a", "b"):
                response = client.get(path, headers={"cookie": f"variant={variant}"})
                assert response.text == f"variant {variant}", (path, turn)
        assert is_hit(response)


def test_routes_that_share_a_url_do_not_share_what_only_one_has_a_hook_for(made: Made, origin: Origin) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("origin_request", "/hooked/*")
        def mark(request: Request, ctx: Context) -> None:
            request.headers["x-hooked"] = "yes"

        edge.route("/hooked/*", to=edge.origin("same", origin.url), strip_prefix="/hooked")

    client = made(declare)
    assert client.get("/hooked/page").text == "variant yes"
    assert client.get("/page").text == "variant None"
    assert client.get("/hooked/page").text == "variant yes"


def test_parts_of_a_request_are_dictionaries_for_functions_and_show_names_only_to_hooks(
    made: Made, origin: Origin
) -> None:
    seen: list[object] = []

    def declare(edge: Edge) -> None:
        @edge.function("/look")
        def look(request: Request, ctx: Context) -> Response:
            seen.append(isinstance(request.query, Mapping))
            seen.append(request.query == {"a": "1"})
            seen.append({**request.cookies})
            return Response.json({"query": request.query, "cookies": request.cookies})

        @edge.on("viewer_request", "/look")
        def peep(request: Request, ctx: Context) -> None:
            seen.append(repr(request.cookies))

    client = made(declare)
    response = client.get("/look?a=1&a=2", headers={"cookie": "secret=s"})
    assert response.json() == {"query": {"a": "1"}, "cookies": {"secret": "s"}}
    assert seen == ["<Values secret>", True, True, {"secret": "s"}]
