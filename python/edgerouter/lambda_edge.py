"""Handlers written for AWS Lambda@Edge as hooks: ``attach(edge, handler, "viewer-request")``.

A handler gets the event that CloudFront makes (``event["Records"][0]["cf"]``) and returns the request, or a response,
under the same rules: fields that are read-only or not shown, sizes of bodies, statuses. A handler that breaks one costs
its request a 502, as at CloudFront. The event is read lazily, because the fields that a handler in an origin phase has
read select among stored responses.
"""

from __future__ import annotations

import base64
import binascii
import inspect
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from edgerouter.errors import ConfigError, Problem
from edgerouter.lambda_event import Fields, Lazy, broken, is_hidden, values_of

if TYPE_CHECKING:
    from edgerouter._core import Context, Headers, Request, Response
    from edgerouter.edge import Edge
    from edgerouter.routes import Phase

__all__ = ["EventType", "LambdaContext", "attach"]

EventType: TypeAlias = Literal["viewer-request", "origin-request", "origin-response", "viewer-response"]
"""The triggers of Lambda@Edge, each the phase of the same name."""

Handler: TypeAlias = Callable[[Any, Any], Any]

_TYPES: tuple[EventType, ...] = ("viewer-request", "origin-request", "origin-response", "viewer-response")
#: Fields that a function may read and not change.
_READ_ONLY: dict[str, frozenset[str]] = {
    "viewer-request": frozenset(["content-length", "host", "transfer-encoding", "via"]),
    "origin-request": frozenset(
        [
            "accept-encoding",
            "content-length",
            "if-modified-since",
            "if-none-match",
            "if-range",
            "if-unmodified-since",
            "transfer-encoding",
            "via",
        ]
    ),
    "origin-response": frozenset(["transfer-encoding", "via"]),
    "viewer-response": frozenset(["content-encoding", "content-length", "transfer-encoding", "warning", "via"]),
}
#: Bytes of a response that a function makes, with its head; seconds that it may take.
_LARGEST = {"viewer": 40 * 1024, "origin": 1024 * 1024}
_SECONDS = {"viewer": 5.0, "origin": 30.0}
#: Characters of path and query together.
_LONGEST_TARGET = 8_192


def attach(
    edge: Edge,
    handler: Handler,
    event_type: EventType,
    pattern: str = "/*",
    *,
    host: str | None = None,
    timeout: float | None = None,
    domain: str = "",
) -> None:
    """Declares ``handler(event, context)`` as the hook of a trigger.

    ``event_type``  the trigger: the handler runs in the phase of the same name
    ``pattern``, ``host``  as for ``Edge.on``
    ``timeout``  seconds that it may take; ``None``: 5 for viewer triggers and 30 for origin triggers, as at CloudFront
    ``domain``  ``distributionDomainName`` in the event, otherwise the host of the request; ``distributionId`` is the
    name of the edge
    """
    if event_type not in _TYPES:
        raise ConfigError([Problem("lambda_edge.attach", str(event_type), f"must be one of {', '.join(_TYPES)}")])
    if inspect.iscoroutinefunction(handler):
        message = "is async, and Lambda calls plain functions; write def, or a hook of edgerouter"
        raise ConfigError([Problem("lambda_edge.attach", getattr(handler, "__qualname__", "?"), message)])
    side = event_type.partition("-")[0]
    seconds = _SECONDS[side] if timeout is None else timeout
    config = {"distributionDomainName": domain, "distributionId": edge.name, "eventType": event_type}
    hook = _response_hook(handler, config) if event_type.endswith("response") else _request_hook(handler, config)
    # The log and the metrics name the user's own function.
    for attribute in ("__module__", "__qualname__", "__name__"):
        if (value := getattr(handler, attribute, None)) is not None:
            setattr(hook, attribute, value)
    phase = cast("Phase", event_type.replace("-", "_"))
    edge.on(phase, pattern, host=host, timeout=seconds)(hook)


def _request_hook(handler: Handler, config: dict[str, str]) -> Callable[..., Any]:
    kind = config["eventType"]

    def hook(request: Request, ctx: Context) -> Response | None:
        fields = Fields(request.headers)
        shown = _request_of(request, fields, kind)
        returned = handler(_event(config, request, ctx, {"request": shown}), LambdaContext(ctx))
        if not isinstance(returned, Mapping):
            raise broken(f"returned {type(returned).__name__}; return the request, or a response with a status")
        if "status" in returned:
            return _made(returned, kind)
        _apply_request(returned, shown, fields, request, kind)
        return None

    return hook


def _response_hook(handler: Handler, config: dict[str, str]) -> Callable[..., Any]:
    kind = config["eventType"]

    def hook(request: Request, response: Response, ctx: Context) -> None:
        if kind == "viewer-response" and response.status >= 400:
            return
        fields = Fields(response.headers)
        shown = {"status": str(response.status), "statusDescription": _phrase(response.status), "headers": fields}
        sent = _request_of(request, Fields(request.headers), kind)
        returned = handler(_event(config, request, ctx, {"request": sent, "response": shown}), LambdaContext(ctx))
        if not isinstance(returned, Mapping) or "status" not in returned:
            raise broken("must return the response, which has a status")
        status = _status(returned["status"])
        if status != response.status:
            if kind == "viewer-response":
                raise broken(f"changed the status to {status}, which a viewer-response function must not")
            response.status = status
        if "body" in returned:
            if kind == "viewer-response":
                raise broken("set a body, which a viewer-response function must not")
            content = _body(returned)
            _check_size(content, (), kind)
            response.body = content
        _apply_fields(returned.get("headers", fields), fields, response.headers, kind)

    return hook


def _event(config: dict[str, str], request: Request, ctx: Context, parts: dict[str, Any]) -> dict[str, Any]:
    later: dict[str, Callable[[], Any]] = {"requestId": lambda: ctx.request_id}
    if not config["distributionDomainName"]:
        later["distributionDomainName"] = lambda: request.host
    return {"Records": [{"cf": {"config": Lazy(config, later), **parts}}]}


def _request_of(request: Request, fields: Fields, kind: str) -> Lazy:
    known = {"method": request.method, "uri": request.path, "headers": fields}
    later: dict[str, Callable[[], Any]] = {"clientIp": lambda: request.client}
    if kind.startswith("viewer"):
        return Lazy({**known, "querystring": request.query_string}, later)
    return Lazy(known, {**later, "querystring": lambda: request.query_string})


def _apply_request(returned: Mapping[str, Any], shown: Lazy, fields: Fields, request: Request, kind: str) -> None:
    """Changes the request to what the handler returned."""
    for name in ("body", "origin"):
        if name in returned:
            raise broken(f"set {name} of the request; hooks have none: declare a route or a function for it")
    if returned.get("method", request.method) != request.method:
        raise broken("changed the method, which is read-only")
    # A value that was not read is not one that was changed.
    if not shown.unread("clientIp") and returned.get("clientIp", request.client) != request.client:
        raise broken("changed clientIp, which is read-only")
    uri = returned.get("uri", request.path)
    if not isinstance(uri, str) or not uri.startswith("/"):
        raise broken(f"set uri to {uri!r:.100}, which does not begin with a slash")
    query: Any = None
    if returned is not shown or not shown.unread("querystring"):
        query = returned.get("querystring", "")
        if not isinstance(query, str) or "#" in query or any(it <= " " or it == "\x7f" for it in query):
            raise broken("set a querystring with spaces, control characters or #")
    if len(uri) + len(query or "") >= _LONGEST_TARGET:
        raise broken(f"made uri and querystring longer than {_LONGEST_TARGET - 1} characters")
    if uri != request.path:
        request.path = uri
    if query is not None and query != request.query_string:
        request.query_string = query
    _apply_fields(returned.get("headers", {}), fields, request.headers, kind)


def _apply_fields(returned: Any, shown: Fields, headers: Headers, kind: str) -> None:
    """Changes the fields to those that the handler returned."""
    if not isinstance(returned, Mapping):
        raise broken(f"set headers to {type(returned).__name__}")
    if returned is not shown:
        # A dictionary of the handler's own has all fields.
        for name in {*shown, *returned}:
            if name not in returned:
                del shown[name]
            else:
                shown[name] = returned[name]
    for name, values in list(shown.changed()):
        if name != name.lower():
            raise broken(f"set the header {name!r}, whose key is not in lower case")
        if is_hidden(name):
            raise broken(f"added the header {name}, which is not allowed")
        if name in _READ_ONLY[kind]:
            raise broken(f"changed the header {name}, which is read-only in {kind}")
        headers.discard(name)
        for value in values:
            headers.add(name, value)


def _made(returned: Mapping[str, Any], kind: str) -> Response:
    """The response that a handler made in a request phase."""
    from edgerouter._core import Response, may_have_content

    given = returned.get("headers") or {}
    if not isinstance(given, Mapping):
        raise broken(f"set headers to {type(given).__name__}")
    fields = []
    for name, lines in given.items():
        low = name.lower()
        if is_hidden(low) or low in ("content-length", "transfer-encoding", "via", "warning"):
            raise broken(f"added the header {name}, which a response that a function makes must not have")
        fields += [(low, value) for value in values_of(low, lines)]
    content = _body(returned)
    _check_size(content, fields, kind)
    status = _status(returned["status"])
    return Response(content if may_have_content(status) else b"", status, fields)


def _status(given: object) -> int:
    try:
        status = int(cast("str", given))
    except (TypeError, ValueError):
        status = 0
    if isinstance(given, bool) or not 200 <= status <= 599:
        raise broken(f"set the status {given!r:.40}, which is not one from 200 to 599")
    return status


def _body(returned: Mapping[str, Any]) -> bytes:
    body, encoding = returned.get("body", ""), returned.get("bodyEncoding", "text")
    if not isinstance(body, str):
        raise broken(f"set a body that is {type(body).__name__}, not str")
    if encoding == "text":
        return body.encode()
    if encoding != "base64":
        raise broken(f"set bodyEncoding to {encoding!r:.40}; it must be text or base64")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise broken("set a body that is not in Base64") from None


def _check_size(content: bytes, fields: Iterable[tuple[str, str]], kind: str) -> None:
    most = _LARGEST[kind.partition("-")[0]]
    size = len(content) + sum(len(name) + len(value) + 4 for name, value in fields)
    if size > most:
        raise broken(f"made a response of {size} bytes; {kind} functions may make {most}")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class LambdaContext:
    """The second argument of a handler: the part of Lambda's context that does not depend on AWS.

    ``function_version``, ``memory_limit_in_mb``  as CloudFront has them; nothing is limited by the second
    ``client_context``, ``identity``  ``None``, as at CloudFront
    """

    memory_limit_in_mb = "128"
    function_version = "1"
    client_context = None
    identity = None

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    @property
    def function_name(self) -> str:
        """The handler's name."""
        return self._ctx.name

    @property
    def aws_request_id(self) -> str:
        """The id of the request; reading it in an origin phase keeps the response from being stored."""
        return self._ctx.request_id

    @property
    def invoked_function_arn(self) -> str:
        """The handler's name in the form of an ARN."""
        return f"arn:aws:lambda:us-east-1:000000000000:function:{self._ctx.name}:1"

    @property
    def log_group_name(self) -> str:
        """The handler's name in the form of a log group; its logs are in the edge's own log."""
        return f"/aws/lambda/us-east-1.{self._ctx.name}"

    @property
    def log_stream_name(self) -> str:
        """The same for a stream."""
        return "edgerouter"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds that are left."""
        return max(0, int(self._ctx.remaining() * 1_000))
