"""Values of ``Tracing``, and the variables of OpenTelemetry that fill what it leaves open."""

from __future__ import annotations

from typing import Any

import pytest

from edgerouter import ConfigError, Edge, Tracing
from edgerouter.tracing import resolve

URL = "http://collector:4318"


def filled(given: dict[str, Any], **environ: str) -> dict[str, Any]:
    plan = {"tracing": given}
    resolve(plan, environ=environ)
    return plan["tracing"]


@pytest.mark.parametrize(
    ("given", "environ", "endpoint"),
    [
        ({}, {}, None),
        ({"endpoint": URL}, {}, f"{URL}/v1/traces"),
        ({"endpoint": f"{URL}/"}, {}, f"{URL}/v1/traces"),
        ({"endpoint": f"{URL}/own"}, {}, f"{URL}/own"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, f"{URL}/v1/traces"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{URL}/base/"}, f"{URL}/base/v1/traces"),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://other"}, URL),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"endpoint": f"{URL}/own"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other"}, f"{URL}/own"),
        ({"endpoint": URL}, {"OTEL_SDK_DISABLED": "true"}, None),
    ],
)
def test_the_endpoint_is_the_given_one_or_that_of_the_environment(
    given: dict[str, Any], environ: dict[str, str], endpoint: str | None
) -> None:
    assert filled(given, **environ).get("endpoint") == endpoint


def test_names_headers_attributes_and_time_come_from_the_environment_where_they_are_not_given() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x,X-Own=1",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,zone=b,region=c",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
    }
    got = filled({"headers": {"x-own": "mine"}, "attributes": {"zone": "a"}}, **environ)
    assert got["headers"] == {"x-own": "mine", "authorization": {"value": "Bearer x"}}
    assert (got["attributes"], got["service"], got["timeout"]) == ({"zone": "a", "region": "c"}, "other", 2.5)
    assert filled({}, **environ, OTEL_SERVICE_NAME="shop")["service"] == "shop"
    assert filled({"service": "own"}, **environ, OTEL_SERVICE_NAME="shop")["service"] == "own"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"OTEL_EXPORTER_OTLP_HEADERS": "secret-without-name"}, "OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "must be milliseconds"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "only http/protobuf is spoken"),
    ],
)
def test_a_wrong_variable_is_named_without_its_secret(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        filled({}, **environ)
    assert "secret-without" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.5}, "Tracing.ratio: 1.5: must be a number from 0 to 1"),
        ({"ratio": True}, "must be a number from 0 to 1"),
        ({"server_timing": "debug"}, "needs a debug_token"),
        ({"believe": "all"}, "must be one of nobody, proxies, everybody"),
        ({"queue_spans": 1}, "must be ≥ 64"),
        ({"keep_slow": 0}, "must be > 0 seconds"),
        ({"attributes": {"a": 1}}, "attributes"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tracing(**options)


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://user:hush@collector", "http://"])
def test_an_endpoint_that_is_no_url_is_refused_without_its_password(endpoint: str) -> None:
    edge = Edge("test", tracing=Tracing(endpoint=endpoint))
    edge.route("/*", respond="x")
    with pytest.raises(ConfigError, match=r"tracing\.endpoint: must") as refused:
        edge.compile()
    assert "hush" not in str(refused.value)


def test_a_debug_token_is_not_shown() -> None:
    assert "hush" not in repr(Tracing(debug_token="hush"))
