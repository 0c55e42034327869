"""The visitors of the storefront: ``locust -f loadtests/locustfile.py --host https://127.0.0.1:8443``.

Shoppers look at pages (Zipf: few products get most views), their style sheet and images, and come back with
If-None-Match; members call the API with their token, and with somebody else's name in a forged header; a few clients
are bad on purpose, and the refusal that they must get is their success.
"""

from __future__ import annotations

import random
import socket
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from itertools import accumulate, count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from locust import FastHttpUser, between, events, task

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loadtests import storefront
from loadtests.storefront import Answer, WrongAnswerError

NUMBERS = range(1, storefront.PRODUCTS + 1)
ZIPF = list(accumulate(1 / number**1.1 for number in NUMBERS))
_serial = count(1)
# As FastHttpUser: a certificate for development is verified by nobody here.
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE


class Visitor(FastHttpUser):
    """Sends requests, and lets a check judge the answer. Cookies are kept here, not in a jar that hides them."""

    abstract = True
    wait_time = between(0.01, 0.1)
    connection_timeout = 10.0
    network_timeout = 20.0

    def on_start(self) -> None:
        self.client.cookiejar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.variant: str | None = None
        self.etags: dict[tuple[str, str | None], tuple[str, bytes]] = {}

    def ask(
        self,
        name: str,
        path: str,
        verify: Callable[[Answer], None],
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> Answer | None:
        """The answer, or None when it was lost or wrong; either is counted as a failure under ``name``."""
        sent = {"accept-encoding": "identity", **(headers or {})}
        if self.variant:
            sent["cookie"] = f"theme=dark; {storefront.VARIANT_COOKIE}={self.variant}"
        with self.client.request(
            method, path, name=name, headers=sent, catch_response=True, allow_redirects=False, **body
        ) as response:
            if not response.status_code:
                response.failure(f"no answer: {response.error!r}")
                return None
            fields = {field.lower(): value for field, value in response.headers.items()}
            answer = Answer(response.status_code, fields, response.content or b"")
            try:
                self.keep_variant(answer)
                verify(answer)
            except (WrongAnswerError, ValueError, KeyError) as wrong:
                response.failure(f"{path}: {wrong}")
                return None
            response.success()
            return answer

    def keep_variant(self, answer: Answer) -> None:
        assigned = storefront.assigned_variant(answer)
        if assigned and self.variant:
            raise WrongAnswerError(f"assigned {assigned} to a visitor who has {self.variant}")
        self.variant = self.variant or assigned

    def page(self, name: str, path: str, number: int | None) -> Answer | None:
        known = self.etags.get((path, self.variant))

        def verify(answer: Answer) -> None:
            storefront.check_page(answer, number, self.variant)
            if not self.variant:
                raise WrongAnswerError("no variant was assigned")
            if known and known[0] == answer.headers.get("etag") and known[1] != answer.body:
                raise WrongAnswerError("another body under the same entity tag")

        answer = self.ask(name, path, verify)
        if answer and (etag := answer.headers.get("etag")):
            self.etags[path, self.variant] = (etag, answer.body)
        return answer


class Shopper(Visitor):
    weight = 12

    @task(2)
    def home(self) -> None:
        self.page("page: home", "/", None)

    @task(10)
    def product(self) -> None:
        number = random.choices(NUMBERS, cum_weights=ZIPF)[0]
        page = self.page("page: product", f"/product/{number}", number)
        if page and random.random() < 0.3:
            for image in storefront.images(page.body)[:4]:
                self.ask("image", image, lambda answer: storefront.check_file(answer, "image/"))

    @task(3)
    def style(self) -> None:
        self.ask("style sheet", "/static/app.css", lambda answer: storefront.check_file(answer, "text/css"))

    @task(4)
    def come_back(self) -> None:
        """Requests again what the browser still has: 304, or another entity tag with the new page."""
        if not self.etags:
            return
        (path, variant), (etag, body) = random.choice(list(self.etags.items()))
        if variant != self.variant:
            return

        def verify(answer: Answer) -> None:
            if answer.status == 304:
                storefront.check(answer, 304)
                return
            storefront.check(answer)
            if answer.headers.get("etag") == etag:
                raise WrongAnswerError("200 although the entity tag still matches")
            if answer.body == body:
                raise WrongAnswerError("another entity tag for the same page")
            del self.etags[path, variant]

        self.ask("page: revalidated", path, verify, headers={"if-none-match": etag})


class Member(Visitor):
    weight = 5

    def on_start(self) -> None:
        super().on_start()
        self.user = ""
        self.token = ""
        self.log_in()

    def log_in(self) -> None:
        email = f"member{next(_serial)}-{random.getrandbits(32):08x}@example.com"

        def verify(answer: Answer) -> None:
            storefront.check(answer)
            self.user, self.token = storefront.logged_in(answer, email)

        self.ask("login", "/login", verify, method="POST", json={"email": email})

    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    @task(8)
    def account(self) -> None:
        forged = {"x-user-id": "somebody-else", "x-user-role": "admin"} if random.random() < 0.3 else {}
        self.ask(
            "api: account" + (", forged identity" if forged else ""),
            "/api/me",
            lambda answer: storefront.check_account(answer, self.user),
            headers={**self.bearer(), **forged},
        )

    @task(4)
    def products(self) -> None:
        self.ask("api: products", "/api/products", storefront.check_products, headers=self.bearer())

    @task(3)
    def product(self) -> None:
        number = random.choices(NUMBERS, cum_weights=ZIPF)[0]
        self.page("page: product", f"/product/{number}", number)

    @task(1)
    def log_in_as_another(self) -> None:
        """A shared machine: the next account on the same connection."""
        self.log_in()


class BadClient(Visitor):
    fixed_count = 3
    wait_time = between(0.2, 1.0)

    def on_start(self) -> None:
        """Each bad deed at least once, however short the run."""
        super().on_start()
        for deed in (self.no_token, self.bad_token, self.malformed_url, self.oversized_header, self.slow_reader):
            deed()

    @task(2)
    def no_token(self) -> None:
        def verify(answer: Answer) -> None:
            refused(answer, 401)
            if not answer.headers.get("www-authenticate", "").lower().startswith("bearer"):
                raise WrongAnswerError("a 401 without WWW-Authenticate: Bearer")

        self.ask("bad: no token", "/api/me", verify)

    @task(2)
    def bad_token(self) -> None:
        forged = random.choice(
            (
                "not.a.token",
                "eyJhbGciOiJub25lIn0.eyJ1c2VySWQiOiJhZG1pbiIsImV4cCI6NDEwMjQ0NDgwMH0.",
                "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiJhZG1pbiIsImV4cCI6NDEwMjQ0NDgwMH0.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            )
        )
        self.ask(
            "bad: token", "/api/me", lambda answer: refused(answer, 403), headers={"authorization": f"Bearer {forged}"}
        )

    @task(2)
    def malformed_url(self) -> None:
        target = random.choice((b"/product/%zz", b"/product/%00", b"/a b"))
        self.raw("bad: malformed URL", b"GET " + target + b" HTTP/1.1\r\nHost: shop\r\n\r\n", b"400")

    @task(1)
    def oversized_header(self) -> None:
        self.raw(
            "bad: oversized header",
            b"GET / HTTP/1.1\r\nHost: shop\r\nX-Long: " + b"a" * 80_000 + b"\r\n\r\n",
            b"431",
        )

    @task(1)
    def slow_reader(self) -> None:
        """Takes two seconds for a style sheet: it must get all of it, and no other request may wait for it."""

        def talk(connection: socket.socket) -> None:
            connection.sendall(b"GET /static/app.css HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
            got = bytearray()
            while piece := connection.recv(256):
                got += piece
                time.sleep(0.05 if len(got) < 8192 else 0)
            head, _, body = bytes(got).partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            storefront.check_file(Answer(int(lines[0].split()[1]), fields, body), "text/css")

        self.on_socket("bad: slow reader", talk)

    def raw(self, name: str, request: bytes, status: bytes) -> None:
        def talk(connection: socket.socket) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before it was all sent
                connection.sendall(request)
            got = b""
            while b"\r\n" not in got and (piece := connection.recv(4096)):
                got += piece
            if not got.startswith(b"HTTP/1.1 " + status):
                raise WrongAnswerError(f"{got[:40]!r}, not {status.decode()}")

        self.on_socket(name, talk)

    def on_socket(self, name: str, talk: Callable[[socket.socket], None]) -> None:
        """Sends bytes that no HTTP client would send; counted like any other request."""
        at = urlsplit(self.host or "")
        started = time.perf_counter()
        failure: Exception | None = None
        try:
            with socket.create_connection((at.hostname or "127.0.0.1", at.port or 443), timeout=20) as plain:
                if at.scheme == "https":
                    with UNVERIFIED.wrap_socket(plain, server_hostname=at.hostname) as connection:
                        talk(connection)
                else:
                    talk(plain)
        except (WrongAnswerError, OSError, ValueError, IndexError) as error:
            failure = error
        events.request.fire(  # type: ignore[no-untyped-call]
            request_type="RAW",
            name=name,
            response_time=(time.perf_counter() - started) * 1000,
            response_length=0,
            exception=failure,
            context={},
        )


def refused(answer: Answer, status: int) -> None:
    if answer.status != status:
        raise WrongAnswerError(f"status {answer.status}, not {status}")
