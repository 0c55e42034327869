"""The validator of ASGI, by the rules of its specification."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edgerouter.testing import AsgiError, validated

HTTP: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/a",
    "raw_path": b"/a",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"edge")],
    "client": ("127.0.0.1", 1),
    "server": ("edge", 80),
    "state": {},
}
SOCKET: dict[str, Any] = {**HTTP, "type": "websocket", "scheme": "ws", "subprotocols": ["chat"]}
LIFE: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}}
START = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"1")]}
BODY = {"type": "http.response.body", "body": b"x"}
FILES = {**HTTP, "extensions": {"http.response.pathsend": {}}}
FILE = {"type": "http.response.pathsend", "path": "/a"}
LATE = {**HTTP, "extensions": {"http.response.trailers": {}, "http.response.early_hint": {}}}
TRAILERS: dict[str, Any] = {"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]}
HINT: dict[str, Any] = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}
REQUEST = {"type": "http.request", "body": b"", "more_body": False}
CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}


def talk(scope: dict[str, Any], *messages: dict[str, Any]) -> None:
    """Has a server and an application exchange these messages; ``<`` are those of the server."""

    async def run() -> None:
        received = iter([message for message in messages if "<" in message])

        async def app(scope: Any, receive: Any, send: Any) -> None:
            for message in messages:
                if "<" in message:
                    await receive()
                else:
                    await send(message)

        async def receive() -> Any:
            return {key: value for key, value in next(received).items() if key != "<"}

        async def send(message: Any) -> None:
            pass

        await validated(app)(scope, receive, send)

    asyncio.run(run())


def came(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "<": True}


@pytest.mark.parametrize(
    ("scope", "messages"),
    [
        pytest.param(HTTP, [came(REQUEST), START, BODY], id="a request"),
        pytest.param(
            HTTP,
            [came({**REQUEST, "more_body": True}), came(REQUEST), START, {**BODY, "more_body": True}, BODY],
            id="pieces",
        ),
        pytest.param(HTTP, [came(REQUEST), came({"type": "http.disconnect"})], id="a client that leaves"),
        pytest.param(
            LATE,
            [{**START, "trailers": True}, BODY, {"type": "http.response.trailers", "headers": []}],
            id="trailers",
        ),
        pytest.param(
            LATE,
            [{**START, "trailers": True}, BODY, {**TRAILERS, "more_trailers": True}, TRAILERS],
            id="trailers in parts",
        ),
        pytest.param(LATE, [HINT, HINT, START, BODY], id="early hints"),
        pytest.param(
            SOCKET,
            [
                came(CONNECT),
                {**ACCEPT, "subprotocol": "chat"},
                came({"type": "websocket.receive", "text": "a"}),
                {"type": "websocket.send", "bytes": b"b"},
                came({"type": "websocket.disconnect", "code": 1000}),
            ],
            id="a socket",
        ),
        pytest.param(FILES, [START, FILE], id="a file"),
        pytest.param(SOCKET, [came(CONNECT), {"type": "websocket.close", "code": 1000}], id="a socket refused"),
        pytest.param(SOCKET, [{"type": "websocket.close", "code": 4404}], id="a socket refused before it connects"),
        pytest.param(
            SOCKET,
            [
                came(CONNECT),
                {"type": "websocket.http.response.start", "status": 403, "headers": []},
                {"type": "websocket.http.response.body", "body": b"no"},
            ],
            id="a denial",
        ),
        pytest.param(
            LIFE,
            [
                came({"type": "lifespan.startup"}),
                {"type": "lifespan.startup.complete"},
                came({"type": "lifespan.shutdown"}),
                {"type": "lifespan.shutdown.failed", "message": "a fault"},
            ],
            id="a lifespan",
        ),
    ],
)
def test_what_the_specification_allows_passes(scope: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    assert talk(scope, *messages) is None  # type: ignore[func-returns-value]  # it raises otherwise


@pytest.mark.parametrize(
    ("scope", "messages", "fault"),
    [
        pytest.param({**HTTP, "type": "ftp"}, [], "server: the scope has the type 'ftp'", id="type"),
        pytest.param({**HTTP, "asgi": {}}, [], "asgi is {}", id="asgi"),
        pytest.param({k: v for k, v in HTTP.items() if k != "headers"}, [], "lacks 'headers'", id="missing key"),
        pytest.param({**HTTP, "method": "get"}, [], "not in upper case", id="method"),
        pytest.param({**HTTP, "http_version": "2.0"}, [], "'2.0'", id="version"),
        pytest.param({**HTTP, "scheme": "ws"}, [], "scheme 'ws'", id="scheme"),
        pytest.param({**SOCKET, "scheme": "http"}, [], "scheme 'http'", id="scheme of a socket"),
        pytest.param({**HTTP, "query_string": "a=1"}, [], "query_string' is str, not bytes", id="query"),
        pytest.param({**HTTP, "raw_path": b"/a?b"}, [], "not apart from the path", id="raw_path"),
        pytest.param({**HTTP, "root_path": "/a/"}, [], "root_path", id="root_path"),
        pytest.param({**HTTP, "headers": [("host", "edge")]}, [], "not a pair of bytes", id="text headers"),
        pytest.param({**HTTP, "headers": [(b"Host", b"edge")]}, [], "not in lower case", id="case"),
        pytest.param({**HTTP, "headers": [(b":path", b"/")]}, [], "pseudo header", id="pseudo header"),
        pytest.param({**HTTP, "client": ("a", "1")}, [], "port '1'", id="port"),
        pytest.param({**HTTP, "client": "127.0.0.1"}, [], "not a pair", id="address"),
        pytest.param(HTTP, [came({"type": "http.request", "body": "x"})], "server: .* is str", id="text body"),
        pytest.param(HTTP, [came(REQUEST), came(REQUEST)], "after the end of the body", id="body after the end"),
        pytest.param(HTTP, [came(CONNECT)], "no message for an http", id="other message"),
        pytest.param(HTTP, [BODY], "application: .* before http.response.start", id="no start"),
        pytest.param(HTTP, [START, FILE], "does not offer it", id="no files"),
        pytest.param(FILES, [FILE], "pathsend was sent before http.response.start", id="a file first"),
        pytest.param(FILES, [START, FILE, BODY], "after the last one", id="after a file"),
        pytest.param(FILES, [START, {**FILE, "path": b"/a"}], "'path' is bytes", id="a path of bytes"),
        pytest.param(HTTP, [START, START], "sent twice", id="two starts"),
        pytest.param(HTTP, [START, BODY, BODY], "after the last one", id="body after the last"),
        pytest.param(HTTP, [{**START, "status": "200"}], "'status' is str", id="status"),
        pytest.param(HTTP, [{**START, "status": True}], "'status' is bool", id="true"),
        pytest.param(HTTP, [{**START, "status": 99}], "three digits", id="short status"),
        pytest.param(HTTP, [{**START, "headers": [(b"a", b"1\r\nb: 2")]}], "line break", id="injection"),
        pytest.param(HTTP, [{**START, "headers": {"a": "1"}}], "headers is dict", id="mapping"),
        pytest.param(HTTP, [{**START, "extra": 1}], "unknown key 'extra'", id="unknown key"),
        pytest.param(LATE, [START, BODY, {"type": "http.response.trailers", "headers": []}], "announce", id="trailers"),
        pytest.param(HTTP, [{**START, "trailers": True}, BODY, TRAILERS], "does not offer it", id="no trailers"),
        pytest.param(LATE, [{**START, "trailers": True}, TRAILERS], "before the end", id="trailers first"),
        pytest.param(
            LATE, [{**START, "trailers": True}, BODY, TRAILERS, TRAILERS], "after the last one", id="trailers again"
        ),
        pytest.param(HTTP, [HINT], "does not offer it", id="no early hints"),
        pytest.param(LATE, [START, HINT], "after http.response.start", id="late early hints"),
        pytest.param(LATE, [{**HINT, "links": ["</a>"]}], "not bytes of one line", id="a link of text"),
        pytest.param(LATE, [{**HINT, "links": [b"</a>\r\nx: 1"]}], "one line", id="a link of two lines"),
        pytest.param(LATE, [{"type": "http.response.early_hint"}], "lacks 'links'", id="no links"),
        pytest.param(HTTP, [ACCEPT], "no message of an http", id="socket message"),
        pytest.param(SOCKET, [came({"type": "websocket.receive", "text": "a"})], "state new", id="no connect"),
        pytest.param(SOCKET, [came(CONNECT), {"type": "websocket.send", "text": "a"}], "connecting", id="no accept"),
        pytest.param(SOCKET, [came(CONNECT), {**ACCEPT, "subprotocol": "x"}], "not offered", id="subprotocol"),
        pytest.param(
            SOCKET,
            [came(CONNECT), ACCEPT, {"type": "websocket.send", "text": "a", "bytes": b"b"}],
            "not both",
            id="both",
        ),
        pytest.param(LIFE, [{"type": "lifespan.startup.complete"}], "was expected", id="unexpected answer"),
        pytest.param(LIFE, [came({"type": "lifespan.shutdown"})], "startup", id="no startup"),
    ],
)
def test_what_it_forbids_is_refused_with_the_side_and_the_rule(
    scope: dict[str, Any], messages: list[dict[str, Any]], fault: str
) -> None:
    with pytest.raises(AsgiError, match=fault):
        talk(scope, *messages)
