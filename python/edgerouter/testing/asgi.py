"""A validator of ASGI 3.0: scopes, messages and their order, of the server as of the application.

``validated(app)`` is an application that behaves as ``app`` does and raises ``AsgiError`` at the first scope or message
that the specification (asgi.readthedocs.io, HTTP and WebSocket 2.5, Lifespan 2.0) does not allow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

__all__ = ["AsgiError", "validated"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


class AsgiError(AssertionError):
    """A scope or a message that ASGI does not allow; the text names the side, the key and the rule."""


def validated(app: App) -> App:
    """The same application, checked; so is the server that calls it."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        check_scope(scope)
        conversation = _CONVERSATIONS[scope["type"]](scope)

        async def receives() -> Message:
            message = await receive()
            conversation.received(message)
            return message

        async def sends(message: Message) -> None:
            conversation.sends(message)
            await send(message)

        await app(scope, receives, sends)

    return checked


def _fail(side: str, what: str) -> None:
    raise AsgiError(f"{side}: {what}")


def _known(side: str, message: Message, required: dict[str, Any], optional: dict[str, Any]) -> None:
    """Checks that the required keys are there, and the types of all."""
    kind = message.get("type")
    for key, types in required.items():
        if key not in message:
            _fail(side, f"{kind} lacks {key!r}")
        _typed(side, f"{kind} {key!r}", message[key], types)
    for key, types in optional.items():
        if message.get(key) is not None:
            _typed(side, f"{kind} {key!r}", message[key], types)
    for key in message:
        if key not in required and key not in optional and key != "type" and not key.startswith("http.response."):
            _fail(side, f"{kind} has the unknown key {key!r}")


def _typed(side: str, name: str, value: Any, types: Any) -> None:
    # ``True`` is an ``int`` to Python only.
    if not isinstance(value, types) or (types is int and isinstance(value, bool)):
        _fail(side, f"{name} is {type(value).__name__}, not {getattr(types, '__name__', types)}")


def _fields(side: str, where: str, headers: Any) -> None:
    if isinstance(headers, (str, bytes, dict)) or not isinstance(headers, Iterable):
        _fail(side, f"{where}: headers is {type(headers).__name__}, not pairs of bytes")
    for pair in headers:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(it, bytes) for it in pair):
            _fail(side, f"{where}: the header {pair!r} is not a pair of bytes")
        name, value = pair
        # Django sends names in the case of its own, which servers accept.
        if not name or (side == "server" and name != name.lower()):
            _fail(side, f"{where}: the header name {name!r} is not in lower case")
        if name.startswith(b":"):
            _fail(side, f"{where}: the header {name!r} is a pseudo header of HTTP/2")
        if any(mark in value for mark in (b"\r", b"\n", b"\0")):
            _fail(side, f"{where}: the value of {name!r} has a line break or NUL")


def _address(where: str, value: Any, *, socket: bool) -> None:
    if value is None:
        return
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not isinstance(value[0], str):
        _fail("server", f"{where} {value!r} is not a pair of host and port")
    port = value[1]
    if isinstance(port, bool) or not (isinstance(port, int) or (socket and port is None)):
        _fail("server", f"{where} has the port {port!r}, which is not a number")


def check_scope(scope: Scope) -> None:
    """Checks a connection scope."""
    kind = scope.get("type")
    if kind not in _CONVERSATIONS:
        _fail("server", f"the scope has the type {kind!r}, not http, websocket or lifespan")
    asgi = scope.get("asgi")
    if not isinstance(asgi, dict) or not isinstance(asgi.get("version"), str):
        _fail("server", f"{kind} scope: asgi is {asgi!r}, not a dictionary with a version")
    if "state" in scope:
        _typed("server", f"{kind} scope 'state'", scope["state"], dict)
    if kind == "lifespan":
        return
    required: dict[str, Any] = {"path": str, "query_string": bytes, "headers": Iterable}
    if kind == "http":
        required["method"] = str
    optional = {"http_version": str, "scheme": str, "raw_path": bytes, "root_path": str, "extensions": dict}
    for key, types in required.items():
        if key not in scope:
            _fail("server", f"{kind} scope lacks {key!r}")
        _typed("server", f"{kind} scope {key!r}", scope[key], types)
    for key, types in optional.items():
        if scope.get(key) is not None:
            _typed("server", f"{kind} scope {key!r}", scope[key], types)
    if kind == "http" and scope["method"] != scope["method"].upper():
        _fail("server", f"the method {scope['method']!r} is not in upper case")
    if scope.get("http_version", "1.1") not in ("1.0", "1.1", "2", "3"):
        _fail("server", f"the http_version {scope['http_version']!r} is not 1.0, 1.1, 2 or 3")
    if scope.get("scheme", "http") not in (("http", "https") if kind == "http" else ("ws", "wss")):
        _fail("server", f"{kind} scope has the scheme {scope['scheme']!r}")
    if b"?" in scope.get("raw_path", b"") or scope["query_string"].startswith(b"?"):
        _fail("server", "the query is not apart from the path, without its ?")
    root = scope.get("root_path", "")
    if root and (not root.startswith("/") or root.endswith("/")):
        _fail("server", f"root_path {root!r} does not begin with a slash, or ends with one")
    _fields("server", f"{kind} scope", scope["headers"])
    _address("client", scope.get("client"), socket=False)
    _address("server", scope.get("server"), socket=True)
    if kind == "websocket" and not all(isinstance(it, str) for it in scope.get("subprotocols", ())):
        _fail("server", "subprotocols is not a list of str")


class _Http:
    """The messages of a request."""

    def __init__(self, scope: Scope) -> None:
        self.request_over = False
        self.gone = False
        self.begun = False
        self.over = False
        self.trailers = False
        self.extensions = scope.get("extensions") or {}

    def received(self, message: Message) -> None:
        kind = message.get("type")
        if kind == "http.request":
            _known("server", message, {}, {"body": bytes, "more_body": bool})
            if self.request_over or self.gone:
                _fail("server", "http.request came after the end of the body")
            self.request_over = not message.get("more_body", False)
        elif kind == "http.disconnect":
            self.gone = True
        else:
            _fail("server", f"{kind!r} is no message for an http application")

    def offered(self, kind: str) -> None:
        if kind not in self.extensions:
            _fail("application", f"{kind} was sent to a server that does not offer it")

    def sends(self, message: Message) -> None:
        kind = message.get("type")
        if kind == "http.response.start":
            _known("application", message, {"status": int}, {"headers": Iterable, "trailers": bool})
            if self.begun:
                _fail("application", "http.response.start was sent twice")
            if not 100 <= message["status"] <= 999:
                _fail("application", f"the status {message['status']} has not three digits")
            _fields("application", kind, message.get("headers", ()))
            self.begun = True
            self.trailers = bool(message.get("trailers", False))
        elif kind == "http.response.body":
            _known("application", message, {}, {"body": bytes, "more_body": bool})
            if not self.begun:
                _fail("application", "http.response.body was sent before http.response.start")
            if self.over:
                _fail("application", "http.response.body was sent after the last one")
            self.over = not message.get("more_body", False)
        elif kind == "http.response.pathsend":
            _known("application", message, {"path": str}, {})
            self.offered(kind)
            if not self.begun or self.over:
                _fail("application", "http.response.pathsend was sent before http.response.start, or after the end")
            self.over = True
        elif kind == "http.response.trailers":
            self.offered(kind)
            _known("application", message, {}, {"headers": Iterable, "more_trailers": bool})
            if not (self.trailers and self.over):
                _fail("application", f"{kind} was sent without its announcement, before the end, or after the last one")
            _fields("application", kind, message.get("headers", ()))
            self.trailers = bool(message.get("more_trailers", False))
        elif kind == "http.response.early_hint":
            self.offered(kind)
            _known("application", message, {"links": Iterable}, {})
            if self.begun:
                _fail("application", f"{kind} was sent after http.response.start")
            for link in message["links"]:
                if not isinstance(link, bytes) or any(mark in link for mark in (b"\r", b"\n", b"\0")):
                    _fail("application", f"{kind}: the link {link!r} is not bytes of one line")
        elif not (isinstance(kind, str) and kind.startswith("http.response.")):
            _fail("application", f"{kind!r} is no message of an http application")


class _WebSocket:
    """The messages of a WebSocket."""

    def __init__(self, scope: Scope) -> None:
        self.offered = list(scope.get("subprotocols", ()))
        self.state = "new"
        self.denied = _Http(scope)

    def received(self, message: Message) -> None:
        kind = message.get("type")
        if (self.state == "new") != (kind == "websocket.connect"):
            _fail("server", f"{kind!r} came in the state {self.state}")
        if kind == "websocket.connect":
            self.state = "connecting"
        elif kind == "websocket.receive":
            _known("server", message, {}, {"bytes": bytes, "text": str})
            _one_of("server", message)
            if self.state != "open":
                _fail("server", f"websocket.receive came in the state {self.state}")
        elif kind == "websocket.disconnect":
            _known("server", message, {}, {"code": int, "reason": str})
            self.state = "closed"
        else:
            _fail("server", f"{kind!r} is no message for a websocket application")

    def sends(self, message: Message) -> None:
        kind = message.get("type")
        if kind == "websocket.accept":
            _known("application", message, {}, {"subprotocol": str, "headers": Iterable})
            if self.state != "connecting":
                _fail("application", f"websocket.accept was sent in the state {self.state}")
            _fields("application", kind, message.get("headers", ()))
            chosen = message.get("subprotocol")
            if chosen is not None and chosen not in self.offered:
                _fail("application", f"the subprotocol {chosen!r} was not offered")
            self.state = "open"
        elif kind == "websocket.send":
            _known("application", message, {}, {"bytes": bytes, "text": str})
            _one_of("application", message)
            if self.state not in ("open", "closed"):
                _fail("application", f"websocket.send was sent in the state {self.state}")
        elif kind == "websocket.close":
            _known("application", message, {}, {"code": int, "reason": str})
            # Litestar refuses a path without a look at the first message.
            if self.state not in ("new", "connecting", "open", "closed"):
                _fail("application", f"websocket.close was sent in the state {self.state}")
            self.state = "closed"
        elif isinstance(kind, str) and kind.startswith("websocket.http.response."):
            if self.state not in ("connecting", "denied"):
                _fail("application", f"{kind} was sent in the state {self.state}")
            self.state = "denied"
            self.denied.sends({**message, "type": kind.removeprefix("websocket.")})
        else:
            _fail("application", f"{kind!r} is no message of a websocket application")


def _one_of(side: str, message: Message) -> None:
    if (message.get("bytes") is None) == (message.get("text") is None):
        _fail(side, f"{message['type']} must have bytes or text, and not both")


class _Lifespan:
    """The messages of a lifespan."""

    def __init__(self, scope: Scope) -> None:
        self.expected: list[str] = ["lifespan.startup"]
        self.answers: set[str] = set()

    def received(self, message: Message) -> None:
        kind = message.get("type")
        if kind not in self.expected:
            _fail("server", f"{kind!r} came, and {self.expected or 'nothing'} was expected")
        self.expected = ["lifespan.shutdown"] if kind == "lifespan.startup" else []
        self.answers = {f"{kind}.complete", f"{kind}.failed"}

    def sends(self, message: Message) -> None:
        kind = message.get("type")
        if kind not in self.answers:
            _fail("application", f"{kind!r} was sent, and one of {sorted(self.answers)} was expected")
        _known("application", message, {}, {"message": str} if str(kind).endswith("failed") else {})
        self.answers = set()


_CONVERSATIONS: dict[Any, Any] = {"http": _Http, "websocket": _WebSocket, "lifespan": _Lifespan}
