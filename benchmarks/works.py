"""The works that are measured, and the proof that each server really does them.

Before anything is timed, every server must answer with the right status, body and length, and the origin's own count
of requests must stand still for a hit and grow by one for each proxied request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.processes import BenchError

BODY_1K = bytes(ord("a") + i % 26 for i in range(1024))
BODY_100K = bytes(ord("a") + i % 26 for i in range(102_400))
BODY_10M = (BODY_1K[:26] * (10 * (1 << 20) // 26 + 1))[: 10 << 20]


FORM = "application/x-www-form-urlencoded"


class WrongAnswerError(BenchError):
    """A server that does not do the work it would be measured for."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Work:
    """``reaches_origin``: None when the origin takes no part, else whether every request must reach it.

    ``path``  with ``{n}``: a number in its place is another one for each request
    ``connections``  None: as many as the plan says
    ``form``  the content of a POST
    """

    key: str
    title: str
    path: str
    reaches_origin: bool | None
    expect: Callable[[Answer], None]
    headers: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    prove: Callable[[int], None] | None = None
    connections: int | None = None
    form: str | None = None

    def script(self) -> str | None:
        """The requests in Lua, for wrk, where each has another path, or content."""
        if self.form is not None:
            return f"""
wrk.method = "POST"
wrk.body = "{self.form}"
wrk.headers["content-type"] = "{FORM}"
"""
        before, number, after = self.path.partition("{n}")
        if not number:
            return None
        return f"""
local n = {time.time_ns() // 1000}
request = function()
  n = n + 1
  return wrk.format("GET", "{before}" .. string.format("%d", n) .. "{after}")
end
"""


def body_is(body: bytes) -> Callable[[Answer], None]:
    def expect(answer: Answer) -> None:
        if answer.status != 200:
            raise WrongAnswerError(f"status {answer.status}, not 200: {answer.body[:200]!r}")
        if answer.headers.get("content-length") != str(len(body)):
            raise WrongAnswerError(f"content-length is {answer.headers.get('content-length')}, not {len(body)}")
        if answer.body != body:
            raise WrongAnswerError(f"the body is not the origin's ({len(answer.body)} bytes)")

    return expect


def assigns_a_variant(answer: Answer) -> None:
    body_is(BODY_1K)(answer)
    cookie = answer.headers.get("set-cookie") or ""
    if cookie.split(";")[0] not in ("ab-variant=control", "ab-variant=treatment"):
        raise WrongAnswerError(f"no ab-variant cookie was set: {cookie!r}")


def says_hello(answer: Answer) -> None:
    if answer.status != 200:
        raise WrongAnswerError(f"status {answer.status}, not 200: {answer.body[:200]!r}")
    if json.loads(answer.body) != {"hello": "world", "agent": "bench"}:
        raise WrongAnswerError(f"not the function's JSON: {answer.body[:200]!r}")


def token(secret: str, lifetime: int = 86_400) -> str:
    now = int(time.time())
    claims = {"sub": "user-7", "userId": "user-7", "role": "member", "iat": now, "exp": now + lifetime}
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def works(secret: str) -> list[Work]:
    def refuses_others(port: int) -> None:
        wrong = {"no token": (401, {}), "an expired token": (403, bearer(token(secret, -60)))}
        wrong["a token of another key"] = (403, bearer(token("x" * 64)))
        for what, (status, headers) in wrong.items():
            answer = get(port, "/jwt/1k", headers)
            if answer.status != status:
                raise WrongAnswerError(f"{what} got {answer.status}, not {status}")
        seen = {
            (get(port, "/jwt/1k", bearer(token(secret))).headers.get("set-cookie") or "").split(";")[0]
            for _ in range(64)
        }
        if len(seen) != 2:
            raise WrongAnswerError(f"64 visitors were given {seen}, not both variants")
        kept = get(port, "/jwt/1k", {**bearer(token(secret)), "cookie": "ab-variant=treatment"})
        if kept.headers.get("set-cookie"):
            raise WrongAnswerError("a visitor who has a variant was given another cookie")

    return [
        Work("hit-1k", "cached hit, 1 KiB", "/hit/1k", False, body_is(BODY_1K)),
        Work("hit-100k", "cached hit, 100 KiB", "/hit/100k", False, body_is(BODY_100K)),
        Work(
            "pass-1k",
            "proxied, not cached, 1 KiB",
            "/pass/1k",
            True,
            body_is(BODY_1K),
            note="The origin shares the generator's core.",
        ),
        Work("pass-100k", "proxied, not cached, 100 KiB", "/pass/100k", True, body_is(BODY_100K)),
        Work("pass-10m", "proxied, not cached, 10 MiB", "/pass/10m", True, body_is(BODY_10M), connections=8),
        Work("miss-1k", "miss, stored, 1 KiB", "/hit/sized/{n}/1024", True, body_is(BODY_1K)),
        Work(
            "jwt-1k",
            "cached hit, 1 KiB, JWT HS256 verified + A/B cookie assigned",
            "/jwt/1k",
            False,
            assigns_a_variant,
            headers=bearer(token(secret)),
            note="nginx 1.22 and Varnish 7.1 have neither without third-party modules: n/a.",
            prove=refuses_others,
        ),
        Work(
            "function",
            "Python function: JSON from the path and one header (queue, the default)",
            "/fn/world",
            None,
            says_hello,
            headers={"user-agent": "bench"},
        ),
        Work(
            "function-inline",
            "Python function: the same, inline=True",
            "/fn-inline/world",
            None,
            says_hello,
            headers={"user-agent": "bench"},
        ),
    ]


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def get(port: int, path: str, headers: Mapping[str, str]) -> Answer:
    return get_many(port, path, headers, 1)[0]


def get_many(port: int, path: str, headers: Mapping[str, str], times: int, form: str | None = None) -> list[Answer]:
    """The answers to ``times`` requests on one connection, which must stay open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    answers = []
    try:
        for _ in range(times):
            # In the past of what a script sends.
            target = path.replace("{n}", str(time.time_ns() // 2000))
            if form is None:
                connection.request("GET", target, headers=dict(headers))
            else:
                connection.request("POST", target, form, {**headers, "content-type": FORM})
            response = connection.getresponse()
            answers.append(Answer(response.status, response.headers, response.read()))
            if response.will_close and times > 1:
                raise WrongAnswerError("the connection was not kept alive")
    except (OSError, http.client.HTTPException) as error:
        raise WrongAnswerError(f"GET {path}: {error!r}") from error
    finally:
        connection.close()
    return answers


def origin_count(origin: int) -> int:
    return int(get(origin, "/count", {}).body)


def verify(work: Work, port: int, origin: int) -> None:
    """Raises ``WrongAnswerError`` unless the server on ``port`` does this work. Also warms its cache."""
    if work.prove:
        work.prove(port)
    get_many(port, work.path, work.headers, 32, work.form)
    before = origin_count(origin)
    for answer in get_many(port, work.path, work.headers, 8, work.form):
        work.expect(answer)
    check_origin(work, 8, origin_count(origin) - before)


def check_origin(work: Work, requests: int, reached: int) -> None:
    """``reached`` of the origin must fit the work. A generator's last requests may have been in flight."""
    if work.reaches_origin is False and reached:
        raise WrongAnswerError(f"{reached} of {requests} hits went to the origin")
    if work.reaches_origin and not requests <= reached <= requests + 256:
        raise WrongAnswerError(f"{reached} requests reached the origin for {requests} answers")
