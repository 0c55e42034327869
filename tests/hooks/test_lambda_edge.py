"""Handlers written for Lambda@Edge: the event of CloudFront's documentation, its examples and its rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edgerouter import ConfigError, Edge, cache, lambda_edge
from edgerouter.lambda_edge import EventType
from edgerouter.testing import Client, Received, Reply

#: The keys of the examples in the developer guide, "Lambda@Edge event structure", without the origin.
REQUEST = {"clientIp", "headers", "method", "querystring", "uri"}
RESPONSE = {"headers", "status", "statusDescription"}
CONFIG = {"distributionDomainName", "distributionId", "eventType", "requestId"}

Handler = Callable[[Any, Any], Any]


def shown(request: Received) -> Reply:
    names = ("x-variant", "x-edge-function", "user-agent", "host")
    seen = {name: request.get(name) for name in names if request.get(name) is not None}
    headers = [("cache-control", "max-age=60"), ("server", "mine")]
    if request.path == "/picture.jpg":
        headers += [("set-cookie", "a=1"), ("set-cookie", "b=2")]
    return Reply(200, headers, json.dumps({"target": request.target, **seen}))


def served(handler: Handler, event_type: EventType, **options: Any) -> Client:
    edge = Edge("EDFDVBD6EXAMPLE")
    edge.route("/*", to=edge.origin("site", "http://origin.example"), cache=cache.STANDARD)
    lambda_edge.attach(edge, handler, event_type, domain="d111111abcdef8.cloudfront.net", **options)
    return Client(edge, origins={"site": shown}, host="d111111abcdef8.cloudfront.net")


@pytest.mark.parametrize("event_type", ["viewer-request", "origin-request", "origin-response", "viewer-response"])
def test_the_event_has_the_shape_of_the_documentation(event_type: EventType) -> None:
    seen: list[Any] = []

    def handler(event: Any, context: Any) -> Any:
        seen.append(json.loads(json.dumps(event)))
        assert context.get_remaining_time_in_millis() > 0 and context.function_name.endswith("handler")
        cf = event["Records"][0]["cf"]
        return cf["response" if event_type.endswith("response") else "request"]

    with served(handler, event_type) as client:
        client.address = "203.0.113.178"
        answer = client.get("/picture.jpg?size=large", headers={"user-agent": "curl/7.66.0", "accept": "*/*"})
        assert answer.status_code == 200
    cf = seen[0]["Records"][0]["cf"]
    assert cf["config"].keys() == CONFIG and cf["request"].keys() == REQUEST
    assert cf["config"]["distributionId"] == "EDFDVBD6EXAMPLE" and cf["config"]["eventType"] == event_type
    assert cf["config"]["distributionDomainName"] == "d111111abcdef8.cloudfront.net"
    request = cf["request"]
    assert (request["clientIp"], request["method"]) == ("203.0.113.178", "GET")
    assert (request["uri"], request["querystring"]) == ("/picture.jpg", "size=large")
    assert request["headers"]["user-agent"] == [{"key": "User-Agent", "value": "curl/7.66.0"}]
    assert "connection" not in request["headers"]
    if event_type.startswith("viewer"):
        assert request["headers"]["host"] == [{"key": "Host", "value": "d111111abcdef8.cloudfront.net"}]
    if event_type.endswith("response"):
        assert cf["response"].keys() == RESPONSE
        assert (cf["response"]["status"], cf["response"]["statusDescription"]) == ("200", "OK")
        assert cf["response"]["headers"]["server"] == [{"key": "Server", "value": "mine"}]
        assert [it["value"] for it in cf["response"]["headers"]["set-cookie"]] == ["a=1", "b=2"]


def ab_test(event: Any, context: Any) -> Any:
    """The A/B function of the reference article, in Python as the developer guide writes it."""
    request = event["Records"][0]["cf"]["request"]
    headers = request["headers"]
    headers["x-edge-function"] = [{"key": "x-edge-function", "value": "processed"}]
    for line in headers.get("cookie", []):
        for pair in line["value"].split(";"):
            name, _, value = pair.strip().partition("=")
            if name == "variant":
                headers["x-variant"] = [{"key": "x-variant", "value": value}]
                return request
    return {
        "status": "302",
        "statusDescription": "Found",
        "headers": {
            "location": [{"key": "Location", "value": request["uri"]}],
            "set-cookie": [{"key": "Set-Cookie", "value": "variant=a; Path=/"}, {"value": "seen=1"}],
        },
    }


def test_a_function_edits_the_request_or_answers_it() -> None:
    with served(ab_test, "viewer-request") as client:
        first = client.get("/home")
        assert (first.status_code, first.headers["location"]) == (302, "/home")
        assert first.headers.get_list("set-cookie") == ["variant=a; Path=/", "seen=1"]
        client.cookies.clear()
        for variant in ("a", "b", "a"):
            found = client.get("/home", headers={"cookie": f"variant={variant}"}).json()
            assert (found["x-variant"], found["x-edge-function"]) == (variant, "processed")
        # The field that the function set is part of the key.
        assert client.cache.hit and client.origins["site"].count("/home") == 2


def test_a_function_gives_a_field_the_lines_of_another_one() -> None:
    def handler(event: Any, context: Any) -> Any:
        # As an example in the documentation of AWS does with Last-Modified.
        headers = event["Records"][0]["cf"]["request"]["headers"]
        headers["x-variant"] = [headers["user-agent"][0]]
        return event["Records"][0]["cf"]["request"]

    with served(handler, "origin-request") as client:
        found = client.get("/page", headers={"user-agent": "own"}).json()
        assert (found["user-agent"], found["x-variant"]) == ("own", "own")


def test_a_function_changes_path_and_query() -> None:
    def handler(event: Any, context: Any) -> Any:
        request = event["Records"][0]["cf"]["request"]
        request["uri"] = request["uri"].replace("/old/", "/new/")
        request["querystring"] = "&".join(sorted(request["querystring"].lower().split("&")))
        return request

    with served(handler, "viewer-request") as client:
        assert client.get("/old/a?B=2&a=1").json()["target"] == "/new/a?a=1&b=2"
        client.get("/old/a?A=1&b=2")
        assert client.cache.hit


def test_the_fields_that_an_origin_function_reads_select_and_no_others() -> None:
    def handler(event: Any, context: Any) -> Any:
        request = event["Records"][0]["cf"]["request"]
        mobile = "Mobile" in request["headers"].get("user-agent", [{"value": ""}])[0]["value"]
        request["headers"]["x-variant"] = [{"key": "X-Variant", "value": "mobile" if mobile else "desktop"}]
        return request

    with served(handler, "origin-request") as client:
        for agent, variant, hit in (
            ("Mobile", "mobile", False),
            ("Desk", "desktop", False),
            ("Mobile", "mobile", True),
        ):
            found = client.get("/page", headers={"user-agent": agent, "accept-language": agent})
            assert (found.json()["x-variant"], client.cache.hit) == (variant, hit)
        client.address = "203.0.113.9"
        client.get("/page", headers={"user-agent": "Mobile", "accept-language": "another"})
        assert client.cache.hit


def test_an_origin_function_that_reads_the_client_keeps_its_response_from_others() -> None:
    def handler(event: Any, context: Any) -> Any:
        request = event["Records"][0]["cf"]["request"]
        request["headers"]["x-variant"] = [{"value": request["clientIp"]}]
        return request

    with served(handler, "origin-request") as client:
        for address in ("203.0.113.1", "203.0.113.2"):
            client.address = address
            assert client.get("/page").json()["x-variant"] == address
            assert not client.cache.stored and client.cache.detail == "hook"


def test_an_answer_of_an_origin_function_is_stored_and_that_of_a_viewer_function_is_not() -> None:
    calls: list[str] = []

    def handler(event: Any, context: Any) -> Any:
        calls.append(event["Records"][0]["cf"]["config"]["eventType"])
        headers = {"cache-control": [{"value": "max-age=60"}]}
        return {"status": 200, "headers": headers, "body": "aGVsbG8=", "bodyEncoding": "base64"}

    for event_type, expected in (("origin-request", 1), ("viewer-request", 2)):
        calls.clear()
        with served(handler, event_type) as client:  # type: ignore[arg-type]  # they are types of events
            assert [client.get("/a").text for _ in range(2)] == ["hello", "hello"]
        assert len(calls) == expected


def test_response_functions_change_fields_and_an_origin_one_status_and_body() -> None:
    def secure(event: Any, context: Any) -> Any:
        response = event["Records"][0]["cf"]["response"]
        response["headers"]["strict-transport-security"] = [{"key": "Strict-Transport-Security", "value": "max-age=1"}]
        del response["headers"]["server"]
        return response

    def replaced(event: Any, context: Any) -> Any:
        return {**event["Records"][0]["cf"]["response"], "status": "418", "body": "short and stout"}

    with served(secure, "viewer-response") as client:
        for _ in range(2):
            answer = client.get("/a")
            assert answer.headers["strict-transport-security"] == "max-age=1" and "server" not in answer.headers
        client.origins["site"].on("/fails", 500)
        assert "strict-transport-security" not in client.get("/fails").headers
    with served(replaced, "origin-response") as client:
        answer = client.get("/a")
        assert (answer.status_code, answer.text, answer.headers["server"]) == (418, "short and stout", "mine")


def edit(change: Callable[[Any], Any]) -> Handler:
    """A handler that changes the request, or the response, and returns it unless the change gives another value."""

    def handler(event: Any, context: Any) -> Any:
        cf = event["Records"][0]["cf"]
        part = cf.get("response") or cf["request"]
        result = change(part)
        return part if result is None else result

    return handler


def setting(name: str, value: str = "x") -> Callable[[Any], Any]:
    return lambda part: part["headers"].update({name: [{"key": name, "value": value}]})


def putting(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda part: part.update({name: value})


def giving(**response: Any) -> Callable[[Any], Any]:
    return lambda part: {"status": "200", **response}


@pytest.mark.parametrize(
    ("event_type", "change", "reason"),
    [
        pytest.param("viewer-request", setting("host"), "header host, which is read-only", id="host"),
        pytest.param("viewer-request", setting("via"), "header via, which is read-only", id="via"),
        pytest.param("origin-request", setting("if-none-match"), "if-none-match, which is read-only", id="condition"),
        pytest.param("origin-request", setting("accept-encoding"), "accept-encoding, which is read", id="coding"),
        pytest.param("origin-response", setting("transfer-encoding"), "transfer-encoding, which is", id="framing"),
        pytest.param("viewer-response", setting("content-encoding"), "content-encoding, which is", id="content"),
        pytest.param("viewer-request", setting("connection"), "connection, which is not allowed", id="connection"),
        pytest.param("viewer-request", setting("x-amzn-a"), "x-amzn-a, which is not allowed", id="x-amzn"),
        pytest.param("viewer-request", setting("X-Case"), "not in lower case", id="case"),
        pytest.param("viewer-request", putting("method", "POST"), "method, which is read-only", id="method"),
        pytest.param("viewer-request", putting("clientIp", "1.1.1.1"), "clientIp, which is read-only", id="client"),
        pytest.param("viewer-request", putting("uri", "page"), "does not begin with a slash", id="uri"),
        pytest.param("viewer-request", putting("querystring", "a b"), "querystring with spaces", id="query"),
        pytest.param("viewer-request", putting("uri", "/" + "a" * 8_192), "longer than 8191", id="long"),
        pytest.param("viewer-request", putting("body", {"action": "replace"}), "set body of the request", id="body"),
        pytest.param("origin-request", putting("origin", {}), "set origin of the request", id="origin"),
        pytest.param("viewer-request", putting("headers", []), "set headers to list", id="headers"),
        pytest.param("viewer-request", lambda part: "no", "returned str", id="text"),
        pytest.param("viewer-request", giving(body="x" * 41_000), "make 40960", id="viewer size"),
        pytest.param("origin-request", giving(body="x" * 1_048_577), "make 1048576", id="origin size"),
        pytest.param("viewer-request", giving(body=b"x"), "body that is bytes", id="bytes"),
        pytest.param("viewer-request", giving(body="?", bodyEncoding="base64"), "not in Base64", id="base64"),
        pytest.param("viewer-request", giving(body="x", bodyEncoding="hex"), "must be text or base64", id="encoding"),
        pytest.param("viewer-request", giving(status="99"), "from 200 to 599", id="low status"),
        pytest.param("viewer-request", giving(headers={"via": [{"value": "x"}]}), "must not have", id="made via"),
        pytest.param("viewer-request", giving(headers={"a": "x"}), "not to a list of key and value", id="made text"),
        pytest.param("viewer-request", giving(headers={"a": [{"key": "b", "value": "x"}]}), "with the key", id="key"),
        pytest.param("viewer-response", putting("status", "201"), "changed the status to 201", id="viewer status"),
        pytest.param("viewer-response", putting("body", "x"), "set a body", id="viewer body"),
        pytest.param("origin-response", lambda part: {}, "must return the response", id="no status"),
    ],
)
def test_a_broken_rule_costs_the_request_a_502_with_the_reason(
    event_type: EventType, change: Callable[[Any], Any], reason: str
) -> None:
    with served(edit(change), event_type) as client:
        answer = client.get("/a?q=1")
        assert answer.status_code == 502 and reason in answer.text


@pytest.mark.parametrize("copied", [False, True], ids=["the same", "a copy"])
def test_a_handler_may_return_a_dictionary_of_its_own(copied: bool) -> None:
    def handler(event: Any, context: Any) -> Any:
        request = event["Records"][0]["cf"]["request"]
        request = json.loads(json.dumps(request)) if copied else request
        request["headers"]["x-variant"] = [{"key": "X-Variant", "value": "own"}]
        request["headers"].pop("user-agent", None)
        return request

    with served(handler, "viewer-request") as client:
        found = client.get("/a", headers={"user-agent": "curl"}).json()
        assert found["x-variant"] == "own" and "user-agent" not in found


def joins(headers: Any) -> Any:
    return headers | {"x-variant": [{"value": "own"}]}


def joins_in_place(headers: Any) -> Any:
    headers |= {"x-variant": [{"value": "own"}]}
    return headers


def joins_at_the_end(headers: Any) -> Any:
    return {"x-variant": [{"value": "own"}]} | headers


def spreads(headers: Any) -> Any:
    return {**headers, "x-variant": [{"value": "own"}]}


@pytest.mark.parametrize("event_type", ["viewer-request", "origin-request"])
@pytest.mark.parametrize("changed", [joins, joins_in_place, joins_at_the_end, spreads], ids=lambda it: it.__name__)
def test_fields_are_joined_as_those_of_any_dictionary(event_type: EventType, changed: Callable[[Any], Any]) -> None:
    def handler(event: Any, context: Any) -> Any:
        request = event["Records"][0]["cf"]["request"]
        request["headers"] = changed(request["headers"])
        return request

    with served(handler, event_type) as client:
        found = client.get("/a", headers={"user-agent": "curl"}).json()
        assert found["x-variant"] == "own" and found["user-agent"] == "curl"


def test_fields_are_in_lower_case_and_may_be_taken_one_by_one_or_all() -> None:
    def handler(event: Any, context: Any) -> Any:
        headers = event["Records"][0]["cf"]["response"]["headers"]
        assert "Server" not in headers and headers.get("Server") is None
        assert list(reversed(headers)) == list(headers)[::-1]
        via = headers["via"]
        name, _ = headers.popitem()
        assert name not in headers
        headers.clear()
        assert not headers and "server" not in headers
        headers["x-left"], headers["via"] = [{"key": "X-Left", "value": "1"}], via
        return event["Records"][0]["cf"]["response"]

    with served(handler, "origin-response") as client:
        answer = client.get("/picture.jpg")
        assert answer.status_code == 200 and answer.headers["x-left"] == "1"
        assert "server" not in answer.headers and "set-cookie" not in answer.headers


def test_the_domain_of_the_distribution_is_the_host_of_the_request() -> None:
    def handler(event: Any, context: Any) -> Any:
        config = event["Records"][0]["cf"]["config"]
        return {"status": 200, "body": f"{config['distributionDomainName']} {config['distributionId']}"}

    edge = Edge("EDFDVBD6EXAMPLE")
    edge.route("/*", to=edge.origin("site", "http://origin.example"))
    lambda_edge.attach(edge, handler, "viewer-request")
    with Client(edge, origins={"site": shown}) as client:
        assert client.get("http://www.example.com/a").text == "www.example.com EDFDVBD6EXAMPLE"


def test_what_cannot_be_attached_is_refused() -> None:
    async def waits(event: Any, context: Any) -> Any: ...

    with pytest.raises(ConfigError, match="must be one of viewer-request"):
        lambda_edge.attach(Edge("e"), ab_test, "viewer_request")  # type: ignore[arg-type]  # it is refused
    with pytest.raises(ConfigError, match="is async"):
        lambda_edge.attach(Edge("e"), waits, "viewer-request")
