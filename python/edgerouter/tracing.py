"""Traces of requests: which are kept, where they are sent, and whose are continued. Nothing here does I/O."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from edgerouter.cache import Duration, Selection, check_selection
from edgerouter.checks import Check, Value, is_token
from edgerouter.errors import ConfigError, Problem
from edgerouter.secrets import Secret
from edgerouter.secrets import keep as keep_secret

__all__ = ["Tracing"]

_PATH = "/v1/traces"
_PREFIX = "OTEL_EXPORTER_OTLP_"


class Tracing(Value, frozen=True, kw_only=True):
    """Traces of requests, sent by OTLP over HTTP to a collector or a service (``docs/tracing.md``).

    ``endpoint``  its URL, such as ``http://127.0.0.1:4318``; ``/v1/traces`` is appended to one without a path.
        ``None``: of the variables ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` and ``OTEL_EXPORTER_OTLP_ENDPOINT``, and
        nothing is sent where neither is set
    ``headers``  fields of requests to it, which may be secrets
    ``service``  ``service.name``; ``None``: of ``OTEL_SERVICE_NAME``, or the edge's name
    ``attributes``  further attributes of the service, such as ``{"deployment.environment.name": "production"}``
    ``ratio``  the share of requests whose traces are kept, chosen before they are answered
    ``keep_errors``  keeps the traces of responses with status 500 and above, too
    ``keep_slow``  keeps the traces of responses whose head took longer, too; ``None``: not for that reason
    ``believe``  the senders whose ``traceparent`` and ``tracestate`` are continued: ``"nobody"``, ``"proxies"``
        (``trusted_proxies``) or ``"everybody"``. The trace of another sender is linked
    ``query``  query parameters that spans show; the path is always shown
    ``server_timing``  the clients whose responses have ``Server-Timing``: ``"nobody"``, ``"debug"`` (those that send
        the debug token) or ``"everybody"``
    ``debug_token``  the value of ``Edge-Debug`` with which a request is always traced. No origin gets this field
    ``queue_spans``  spans that may wait to be sent; more are dropped and counted
    ``timeout``  time for one request to the receiver
    """

    endpoint: str | None = None
    headers: Mapping[str, str | Secret] = {}
    service: str | None = None
    attributes: Mapping[str, str] = {}
    ratio: float = 0.01
    keep_errors: bool = True
    keep_slow: Duration | None = 1
    believe: Literal["nobody", "proxies", "everybody"] = "proxies"
    query: Selection = "none"
    server_timing: Literal["nobody", "debug", "everybody"] = "nobody"
    debug_token: Secret | str | None = None
    queue_spans: int = 8192
    timeout: Duration = 10

    def _check(self, check: Check) -> None:
        check.text("endpoint", "service", optional=True)
        check.headers("headers", also=Secret)
        check.pairs("attributes")
        if isinstance(self.ratio, bool) or not isinstance(self.ratio, (int, float)) or not 0 <= self.ratio <= 1:
            check.fail("ratio", "must be a number from 0 to 1")
        check.flag("keep_errors")
        check.seconds("keep_slow", optional=True, positive=True)
        check.choice("believe", ("nobody", "proxies", "everybody"))
        check_selection(check, "query")
        check.choice("server_timing", ("nobody", "debug", "everybody"))
        if self.debug_token is not None:
            keep_secret(check, "debug_token", self.debug_token)
        elif self.server_timing == "debug":
            check.fail("server_timing", "needs a debug_token")
        check.whole("queue_spans", least=64, most=1_000_000)
        check.seconds("timeout", positive=True)


def resolve(plan: MutableMapping[str, Any], *, environ: Mapping[str, str] | None = None) -> None:
    """Fills what the plan leaves open from the environment, as OpenTelemetry's specification says."""
    given = plan.get("tracing")
    if not isinstance(given, dict):
        return
    environment = os.environ if environ is None else environ

    def found(name: str) -> str | None:
        # An empty variable is one that is not set.
        return environment.get(_PREFIX + name, "").strip() or None

    tracing = {**given}
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        tracing["endpoint"] = None
    elif tracing.get("endpoint") is None:
        if endpoint := found("TRACES_ENDPOINT"):
            tracing["endpoint"] = endpoint
        elif endpoint := found("ENDPOINT"):
            tracing["endpoint"] = endpoint.rstrip("/") + _PATH
        protocol = found("TRACES_PROTOCOL") or found("PROTOCOL")
        if tracing.get("endpoint") and protocol not in (None, "http/protobuf"):
            message = f'{_PREFIX}PROTOCOL is "{protocol}": only http/protobuf is spoken; set {_PREFIX}TRACES_PROTOCOL'
            raise ConfigError([Problem("tracing.endpoint", None, f"{message}, or Tracing(endpoint=)")])
    elif isinstance(endpoint := tracing["endpoint"], str) and _has_no_path(endpoint):
        tracing["endpoint"] = endpoint.rstrip("/") + _PATH
    headers = _listed(found("TRACES_HEADERS") or found("HEADERS"), f"{_PREFIX}HEADERS")
    known = tracing.get("headers") or {}
    if headers and isinstance(known, dict):
        own = {name.lower() for name in known}
        more = {name: {"value": value} for name, value in headers.items() if name.lower() not in own and value}
        if bad := [name for name in more if not is_token(name)]:
            raise ConfigError([Problem("tracing.headers", bad[0], f"{_PREFIX}HEADERS has a name that is no header's")])
        tracing["headers"] = {**known, **more}
    attributes = _listed(environment.get("OTEL_RESOURCE_ATTRIBUTES"), "OTEL_RESOURCE_ATTRIBUTES")
    if isinstance(own_attributes := tracing.get("attributes", {}), dict):
        named = attributes.pop("service.name", None)
        tracing["attributes"] = {**attributes, **own_attributes}
        if tracing.get("service") is None and (service := environment.get("OTEL_SERVICE_NAME") or named):
            tracing["service"] = service
    if "timeout" not in given and (milliseconds := found("TRACES_TIMEOUT") or found("TIMEOUT")) is not None:
        if not milliseconds.isascii() or not milliseconds.isdigit() or int(milliseconds) == 0:
            raise ConfigError([Problem("tracing.timeout", milliseconds, f"{_PREFIX}TIMEOUT must be milliseconds")])
        tracing["timeout"] = int(milliseconds) / 1000
    plan["tracing"] = tracing


def _has_no_path(url: str) -> bool:
    try:
        return urlsplit(url).path in ("", "/")
    except ValueError:
        return False


def _listed(text: str | None, variable: str) -> dict[str, str]:
    """Pairs as W3C Baggage writes them, without properties."""
    pairs = {}
    for pair in (text or "").split(","):
        if not pair.strip():
            continue
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ConfigError([Problem("tracing", None, f"{variable} must be name=value pairs, separated by commas")])
        pairs[unquote(name.strip())] = unquote(value.strip())
    return pairs
