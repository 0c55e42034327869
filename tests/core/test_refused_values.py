"""Every field of a policy takes a value or refuses it with a ``ConfigError`` that names it: nothing else is raised."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import edgerouter
from edgerouter import (
    Abort,
    Acme,
    AddressPolicy,
    BasicAuth,
    Binding,
    CachePolicy,
    Certificate,
    ConfigError,
    Context,
    Cors,
    Edge,
    ErrorPage,
    Experiment,
    FetchHosts,
    GeoPolicy,
    Group,
    Health,
    Isolation,
    Jwt,
    Limits,
    Origin,
    Prefetch,
    RateLimit,
    Request,
    Response,
    Rewrite,
    Secret,
    SignedUrls,
    Tls,
    When,
)
from edgerouter.checks import Value
from edgerouter.identity import KeySource
from edgerouter.settings import Settings


class Odd:
    """An object of no known kind, whose text cannot be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


NONSENSE: dict[str, Any] = {
    "none": None,
    "empty": "",
    "text": "x",
    "outside ascii": "é☃",
    "line end": "a\r\nb",
    "null": "a\0b",
    "half a surrogate pair": "\ud800",
    "long": "a" * 100_000,
    "bytes": b"x",
    "negative": -1,
    "zero": 0,
    "2**64": 2**64,
    "more than a float": 10**400,
    "more digits than a text": 10**5000,
    "nan": float("nan"),
    "infinite": float("inf"),
    "tiny": 5e-324,
    "large": 1e300,
    "true": True,
    "complex": 1j,
    "object": Odd(),
    "list of none": [None],
    "list of numbers": [1],
    "list": [],
    "mapping": {},
    "mapping of none": {None: None},
    "mapping of others": {"ada": "x"},
    "class": int,
    "mixed set": {1, "a"},
}

SECRET = Secret.literal("x" * 40)

#: The least that makes a value of the kind.
LEAST: dict[type, dict[str, Any]] = {
    Acme: {"names": ["a.example"], "storage": "certificates"},
    AddressPolicy: {"allow": ["10.0.0.0/8"]},
    BasicAuth: {"users": "users"},
    Binding: {"name": "DB", "kind": "kv", "url": "memory:"},
    Certificate: {"chain": "a.pem", "key": "a.key"},
    Cors: {"origins": ["https://a.example"]},
    ErrorPage: {"body": "x"},
    Experiment: {"name": "home", "variants": {"a": 1, "b": 1}},
    FetchHosts: {"hosts": ["a.example"]},
    GeoPolicy: {"country_fields": ["x-country"]},
    Group: {"name": "site", "members": ["o"]},
    Health: {"path": "/"},
    Jwt: {"keys": KeySource(kind="secret", algorithm="HS256", secret=SECRET)},
    KeySource: {"kind": "secret", "algorithm": "HS256", "secret": SECRET},
    Origin: {"name": "o", "url": "http://a.example"},
    Prefetch: {"urls": ["https://a.example/"]},
    RateLimit: {"name": "all", "requests": 5},
    Rewrite: {"pattern": "/a", "to": "/b"},
    Secret: {"value": "x"},
    SignedUrls: {"secrets": {"k": SECRET}},
    Tls: {"certificates": [Certificate("a.pem", "a.key")]},
    When: {"header": "x-a"},
    CachePolicy: {},
    Isolation: {},
    Settings: {},
}
LEAST |= {type(getattr(Limits(), group)): {} for group in Limits.__struct_fields__}
#: Policies without a field that must be given.
LEAST |= {
    kind: {}
    for name in edgerouter.__all__
    if isinstance(kind := getattr(edgerouter, name), type)
    and issubclass(kind, Value)
    and not any(it.default is it.empty for it in inspect.signature(kind).parameters.values())
    and kind not in LEAST
    and name not in ("ErrorPage", "When", "HtmlEdit")
}


@pytest.mark.parametrize("kind", LEAST, ids=lambda kind: kind.__name__)
def test_a_policy_refuses_nonsense_by_the_name_of_its_field(kind: type[Value]) -> None:
    kind(**LEAST[kind])
    for field in inspect.signature(kind).parameters:
        for name, value in NONSENSE.items():
            try:
                kind(**{**LEAST[kind], field: value})
            except ConfigError as refused:
                text = str(refused)
                assert kind.__name__ in text, (field, name)
                assert len(text) < 2_000, (field, name)


def _declarations(folder: Path) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any], Any]]:
    def fresh() -> Edge:
        edge = Edge("t")
        edge.origin("o", "http://a.example")
        return edge

    def answers(request: Request, ctx: Context) -> Response:
        return Response("x")

    def plain() -> None: ...

    async def application(scope: object, receive: object, send: object) -> None: ...

    yield "Edge", lambda **given: Edge(**given), {"name": "t"}, Edge
    of_edges: dict[str, dict[str, Any]] = {
        "route": {"pattern": "/a", "to": "o"},
        "group": {"name": "g", "members": ["o"]},
        "listen": {"address": "127.0.0.1:0"},
        "files": {"prefix": "/f", "folder": str(folder)},
        "images": {"pattern": "/i/*", "sources": ["images.example"]},
        "kv": {"name": "KV", "url": "memory:"},
        "database": {"name": "DB", "url": "sqlite:a.db"},
        "documents": {"name": "DOCS", "url": "sqlite:a.db"},
        "prefetch": {"urls": ["https://a.example/"]},
        "service_worker": {"path": "/sw.js"},
        "geo": {"country_fields": ["x-country"]},
        "mount": {"path": "/m", "app": application},
    }
    for name, least in of_edges.items():
        yield (
            name,
            partial(lambda method, /, **given: getattr(fresh(), method)(**given), name),
            least,
            getattr(Edge, name),
        )
    yield "function", lambda **given: fresh().function(**given)(answers), {"pattern": "/f"}, Edge.function
    yield "on", lambda **given: fresh().on(**given)(answers), {"phase": "viewer_request"}, Edge.on
    yield "start", lambda **given: fresh().on(**given)(plain), {"phase": "start"}, Edge.on
    yield "schedule", lambda **given: fresh().schedule(**given)(plain), {"expression": "* * * * *"}, Edge.schedule


def test_a_declaration_refuses_nonsense_as_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    for name, declare, least, shown in _declarations(tmp_path):
        declare(**least)
        for argument in inspect.signature(shown).parameters:
            if argument == "self":
                continue
            for kind, value in NONSENSE.items():
                try:
                    declare(**{**least, argument: value})
                except ConfigError:
                    continue
                except Exception as error:  # noqa: BLE001  # whatever it is, it is not what users are promised
                    pytest.fail(f"{name}({argument}={kind}): {type(error).__name__}: {error}")


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Edge("t", limits=0), r"Edge\.limits: 0: must be a Limits"),  # type: ignore[arg-type]
        (lambda: Edge("t").route("/", respond="", errors=[]), r"routes\[0\]\.errors: \[\]: must be"),  # type: ignore[arg-type]
        (lambda: Edge("t").route("/", respond="", headers=""), r'routes\[0\]\.headers: "": must be a HeaderPolicy'),  # type: ignore[arg-type]
        (lambda: Edge("t").on("start", host=""), r"on\.host: has no effect"),  # type: ignore[call-overload]
        (lambda: Edge("t").on("start", serial=True), r"on\.serial: has no effect"),  # type: ignore[call-overload]
        (lambda: Edge("t").mount("/a", print, interface=""), "no ASGI or WSGI application"),  # type: ignore[arg-type]
        (lambda: Edge("t").mount("/a", print, interface="wsgi", cache="standard"), r"cache: .*must be a CachePolicy"),  # type: ignore[arg-type]
        (lambda: Edge("t").schedule("* * * * *", timeout=None)(print), r"schedule\.timeout: None: must be seconds"),  # type: ignore[arg-type]
        (lambda: Edge("t").on("start", timeout=1e9)(print), r"timeout: 1000000000\.0: must be .*a week"),
        (lambda: BasicAuth({"ada": "hash"}), r"BasicAuth\.users: must be a file with lines USER:HASH"),  # type: ignore[arg-type]
        (lambda: CachePolicy(ttl=10**400), r"CachePolicy\.ttl: 10+\.\.\.: is too large"),
        (lambda: CachePolicy(negative_ttl={404: math.inf}), r"negative_ttl\[404\]: inf: is too large"),
        (lambda: CachePolicy(negative_ttl={404: math.nan}), r"negative_ttl\[404\]: nan: must be ≥ 0 seconds"),
    ],
    ids=[
        "limits", "errors", "headers", "host of start", "serial of start", "interface", "cache of mount",
        "timeout of schedule", "timeout of start", "users", "number without a float", "infinite negative_ttl",
        "negative_ttl that is no number",
    ],
)  # fmt: skip
def test_values_that_were_once_taken_in_silence_are_refused(declare: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        declare()


def test_a_secret_in_the_wrong_place_is_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        KeySource(kind="secret", algorithm="HS256", secret="do-not-show")  # type: ignore[arg-type]
    assert "do-not-show" not in str(refused.value)
    assert "KeySource.secret: must be a Secret" in str(refused.value)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ("x", "Abort: headers must be a mapping of names to texts, as in"),
        (5, "Abort: headers must be a mapping of names to texts, as in"),
        ([("a", "b")], "Abort: headers must be a mapping of names to texts, as in"),
        ({"a": 5}, "Abort: headers: the value of a must be a str, not int"),
        ({5: "a"}, "Abort: headers: a name must be a str, not int"),
        ({None: None}, "Abort: headers: a name must be a str, not NoneType"),
        ({"a b": "c"}, 'Abort: headers: "a b" is no field name'),
        ({"a": "b\n"}, "Abort: headers: the value of a may not hold line ends"),
    ],
    ids=repr,
)
def test_an_abort_refuses_headers_that_are_none(headers: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Abort(429, headers=headers)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x-count": 5}, "headers: the value of x-count must be a str, not int: write str(value)"),
        ({5: "a"}, "headers: a name must be a str, not int: write str(name)"),
        (5, "headers: must be a mapping of names to texts, or pairs of both, not int"),
        ("x: y", "headers: must be a mapping of names to texts, or pairs of both, not str"),
        ([("a", "b", "c")], "headers: must be a mapping of names to texts, or pairs of both, not tuple"),
    ],
    ids=["number as value", "number as name", "number", "text", "three in a pair"],
)
def test_a_response_names_the_header_that_it_cannot_have(headers: Any, message: str) -> None:
    with pytest.raises(TypeError) as refused:
        Response("x", headers=headers)
    assert str(refused.value) == message


def test_a_mistake_in_a_plan_shows_the_beginning_of_a_long_value() -> None:
    edge = Edge("t")
    edge.route("/*", to="o" * 100_000)
    with pytest.raises(ConfigError) as refused:
        edge.compile()
    assert "routes[0].to: " in str(refused.value)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Health("/", interval=5e-324), r"health\.interval: 5e-324: must be ≥ 0\.000000001 seconds"),
        (Health("/", interval=0.0005), r"health\.interval: 0\.0005: must be ≥ 0\.001 seconds"),
    ],
    ids=["nothing", "half a millisecond"],
)
def test_an_interval_that_leaves_no_time_is_refused(policy: Health, message: str) -> None:
    edge = Edge("t")
    edge.route("/*", to=edge.origin("o", "http://a.example", health=policy))
    with pytest.raises(ConfigError, match=message):
        edge.compile()
