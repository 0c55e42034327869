"""Key-value stores in DynamoDB: signatures, credentials, errors of the service. The operations are in ``test_kv``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from edgerouter import ConfigError, Context, DataLimits, Edge, Request
from edgerouter.functions import Kv

from ..processes import free_port
from .conftest import Asking, refused
from .servers import DynamoServer

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "a-session-token//of=temporary+credentials"


class Service:
    """A server with given answers, in their order; the last answer again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = [(200, {})]
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.held = threading.Event()
        self.held.set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                operation = self.headers["x-amz-target"].split(".")[1]
                if json.loads(body).get("Key", {}).get("sk") == {"S": "edgerouter"}:
                    # The edge looks at its bindings every few seconds.
                    return self.answer(200, {})
                service.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
                service.held.wait(10)
                answers = service.answers
                status, content = answers.pop(0) if len(answers) > 1 else answers[0]
                assert operation in ("GetItem", "PutItem", "UpdateItem")
                return self.answer(status, content)

            def answer(self, status: int, content: Any) -> None:
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"dynamodb://edge-kv?endpoint=http://127.0.0.1:{self.server.server_port}&region=eu-central-1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def fails(self, kind: str, status: int = 400, message: str = "no") -> tuple[int, Any]:
        return status, {"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", "message": message}

    def close(self) -> None:
        self.held.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    made = Service()
    yield made
    made.close()


def get(request: Request, ctx: Context) -> Any:
    return refused(lambda: ctx.env.KV.get("k"))


def put(request: Request, ctx: Context) -> Any:
    return refused(lambda: ctx.env.KV.put("k", "v"))


def test_a_request_is_signed_as_the_tools_of_aws_sign_it(
    asking: Asking, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    asking.open(service.url)
    assert asking.plain(lambda request, ctx: ctx.env.KV.put("grüß", "dich", ttl=60)) is True
    headers, body = service.requests[0]
    signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"} == set(signed)
    request = AWSRequest("POST", f"http://{headers['host']}/", data=body, headers={it: headers[it] for it in signed})
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", SECRET, TOKEN), "dynamodb", "eu-central-1")
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    assert headers["authorization"].endswith(f"Signature={signature}")
    assert "Credential=AKIDEXAMPLE/" in headers["authorization"]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("ResourceNotFoundException", "there is no table edge-kv in eu-central-1; make it"),
        ("AccessDeniedException", "the access key may not do dynamodb:GetItem on the table edge-kv"),
        ("ExpiredTokenException", "the session token has expired; renew AWS_SESSION_TOKEN"),
        ("UnrecognizedClientException", "the access key or its token is not known there; set AWS_ACCESS_KEY_ID"),
        ("InvalidSignatureException", "the secret does not belong to the access key"),
        ("ValidationException", "DynamoDB refused GetItem: ValidationException: "),
    ],
)
def test_an_error_of_the_service_has_a_remedy_and_no_secret(
    asking: Asking, service: Service, monkeypatch: pytest.MonkeyPatch, kind: str, says: str
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    asking.open(service.url)
    message = "no" if kind == "ValidationException" else f"x-amz-security-token:{TOKEN}"
    service.answers = [service.fails(kind, message=message)]
    text = asking.plain(get)
    assert text.startswith("BindingError: KV: ") and says in text
    assert TOKEN not in text and SECRET not in text
    assert len(service.requests) == 1


def test_requests_are_repeated_where_that_is_safe_and_only_so_often(asking: Asking, service: Service) -> None:
    asking.open(service.url)
    throttled = service.fails("ProvisionedThroughputExceededException")
    broken = service.fails("InternalServerError", 500)
    found = (200, {"Item": {"kv_value": {"S": "found"}}})

    def requests(question: Any, *answers: tuple[int, Any]) -> tuple[int, str]:
        service.requests.clear()
        service.answers = [*answers]
        text = asking.plain(question)
        return len(service.requests), text

    read = lambda request, ctx: ctx.env.KV.get("k")  # noqa: E731
    assert requests(read, throttled, throttled, found) == (3, "found")
    assert requests(read, broken, found) == (2, "found")
    tries, text = requests(put, throttled)
    assert tries == 4 and "the table edge-kv is throttled, 4 times in a row; retry later" in text
    tries, text = requests(put, broken)
    assert tries == 1 and "cannot be reached: DynamoDB: it answered 500 to PutItem" in text
    tries, text = requests(get, (200, b"<html>"))
    assert tries == 1 and "its answer is no JSON" in text
    tries, text = requests(get, (200, {"Item": {"sk": {"S": "k"}}}))
    assert tries == 1 and "the item of this key has no kv_value" in text


def test_a_server_that_is_frozen_or_gone_ends_the_call_only(asking: Asking, service: Service) -> None:
    asking.open(service.url, limits=DataLimits(timeout=1))
    service.held.clear()
    assert "no answer within 1 s" in asking.plain(get)
    service.held.set()
    assert asking.plain(lambda request, ctx: ctx.env.KV.get("k")) is None
    asking.running.reload(asking.edge(f"dynamodb://edge-kv?endpoint=http://127.0.0.1:{free_port()}"))
    assert "cannot be reached: DynamoDB: " in asking.plain(get)


def test_credentials_are_read_from_a_file_and_again_when_they_have_expired(
    asking: Asking, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "edge")
    asking.open(service.url)
    assert f"there are no credentials: {file}: No such file" in asking.plain(get)
    file.write_text("[default]\naws_access_key_id = OTHER\n[edge]\naws_access_key_id = FIRST\n")
    text = asking.plain(get)
    assert "has no key and secret for the profile edge" in text and "FIRST" not in text
    for key in ("FIRST", "SECOND"):
        file.write_text(f"[edge]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n")
        service.answers = [(200, {})] if key == "FIRST" else [service.fails("ExpiredTokenException"), (200, {})]
        assert asking.plain(lambda request, ctx: ctx.env.KV.get("k")) is None
        assert f"Credential={key}/" in service.requests[-1][0]["authorization"]


def test_values_are_items_that_other_programs_read(asking: Asking, dynamo: DynamoServer, dynamo_url: str) -> None:
    asking.open(f"{dynamo_url}&partition=shop")
    table = dynamo_url.split("//")[1].split("?")[0]

    def question(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        kv.put("text", "é", metadata={"by": "ops"}, ttl=60)
        kv.put("seven", "007")
        return [kv.add("count", 5), kv.add("seven"), kv.add("seven"), refused(lambda: kv.put("k", "x" * 409_600))]

    added = asking.plain(question)
    assert added[:3] == [5, 8, 9]
    assert "BindingError: KV: value: has 409605 bytes with its keys and metadata" in added[3]

    def item(key: str) -> Any:
        found = dynamo.call("GetItem", TableName=table, Key={"pk": {"S": "shop"}, "sk": {"S": key}})
        return found["Item"]

    assert item("text")["kv_value"] == {"B": "w6k="} and item("text")["kv_metadata"] == {"S": '{"by":"ops"}'}
    seconds = int(item("text")["ttl"]["N"])
    assert 0 <= seconds * 1_000 - int(item("text")["kv_expires"]["N"]) < 1_000
    assert item("count")["kv_number"] == {"N": "5"} and "ttl" not in item("count")


def test_a_url_that_cannot_be_right_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, serve: Any) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_DYNAMODB"):
        monkeypatch.delenv(name, raising=False)

    def of(url: str) -> Edge:
        edge = Edge("test")
        edge.kv("KV", url)
        return edge

    for url, message in (
        ("dynamodb://AKIA:hunter2@edge-kv", "must hold no credentials"),
        ("dynamodb://kv", "must name a table"),
        ("dynamodb://edge-kv?endpoint=ftp://hunter2", "has an endpoint that is none"),
    ):
        with pytest.raises(ConfigError, match=rf"bindings\[0\].url: {message}") as caught:
            of(url).compile()
        assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="needs a region"):
        serve(of("dynamodb://edge-kv"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "127.0.0.1:1")
    with pytest.raises(ConfigError, match="needs AWS_ENDPOINT_URL_DYNAMODB to be"):
        serve(of("dynamodb://edge-kv"))
