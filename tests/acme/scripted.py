"""An issuer whose answers a test chooses: each step of an order may be answered in another way than the usual one."""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from edgerouter import Issuer

from ..certificates import Authority

#: Status, fields, and the content: JSON, or bytes.
Answer = tuple[int, dict[str, str], Any]

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
DAY = dt.timedelta(days=1)


def problem(kind: str, detail: str, status: int = 429, **fields: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return status, named, {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Scripted:
    """``always`` has the answer to a step, in place of the usual one; ``issue`` makes the chain of a request."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "scripted")
        own = self.authority.issue("127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.chain, own.key)
        self.always: dict[str, Answer] = {}
        self.steps: list[str] = []
        self.orders: list[dict[str, Any]] = []
        self.numbers = itertools.count()
        self.issue: Callable[[x509.CertificateSigningRequest], bytes] = self.chain
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.base = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, fields, answer = issuer.answer(self.path, content)
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                kind = "application/problem+json" if status >= 400 else "application/json"
                nonce = base64.urlsafe_b64encode(b"%016d" % next(issuer.numbers)).decode().rstrip("=")
                self.send_response(status)
                for name, value in {
                    "Content-Type": kind,
                    "Replay-Nonce": nonce,
                    "Connection": "close",
                    **fields,
                    "Content-Length": str(len(body)),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_POST(self) -> None:
                self.do_GET()

        return Handler

    def answer(self, path: str, content: bytes) -> Answer:
        _, step, *_ = path.split("/")
        self.steps.append(step)
        if step in self.always:
            return self.always[step]
        sent = json.loads(content)["payload"] if content else ""
        usual: Answer = getattr(self, f"_{step}")(json.loads(_decoded(sent)) if sent else None)
        return usual

    def _directory(self, _: Any) -> Answer:
        urls = {"newNonce": "nonce", "newAccount": "account", "newOrder": "new", "renewalInfo": "window"}
        return 200, {}, {name: f"{self.base}/{step}" for name, step in urls.items()}

    def _nonce(self, _: Any) -> Answer:
        return 200, {}, b""

    def _account(self, _: Any) -> Answer:
        return 201, {"Location": f"{self.base}/account/1"}, {"status": "valid"}

    def _order(self, _: Any) -> Answer:
        urls = {"finalize": f"{self.base}/finalize", "certificate": f"{self.base}/certificate"}
        order = self.orders[-1]
        shown = {name: order[name] for name in ("status", "identifiers", "replaces") if name in order} | urls
        return 200, {}, {**shown, "authorizations": [f"{self.base}/authorization"]}

    def _new(self, sent: Any) -> Answer:
        self.orders.append({"status": "pending", **sent})
        return 201, {"Location": f"{self.base}/order"}, self._order(None)[2]

    def _authorization(self, _: Any) -> Answer:
        order = self.orders[-1]
        status = "pending" if order["status"] == "pending" else "valid"
        challenge = {"type": "http-01", "url": f"{self.base}/challenge", "status": status, "token": TOKEN}
        return 200, {}, {"status": status, "identifier": order["identifiers"][0], "challenges": [challenge]}

    def _challenge(self, _: Any) -> Answer:
        self.orders[-1]["status"] = "ready"
        challenge = {"type": "http-01", "url": f"{self.base}/challenge", "status": "valid", "token": TOKEN}
        return 200, {}, challenge

    def _finalize(self, sent: Any) -> Answer:
        self.orders[-1].update(status="valid", csr=_decoded(sent["csr"]))
        return self._order(None)

    def _certificate(self, _: Any) -> Answer:
        request = x509.load_der_x509_csr(self.orders[-1]["csr"])
        return 200, {"Content-Type": "application/pem-certificate-chain"}, self.issue(request)

    def _window(self, _: Any) -> Answer:
        return problem("malformed", "there is no window", 404)

    def root(self) -> bytes:
        return self.authority.certificate.public_bytes(serialization.Encoding.PEM)

    def leaf(
        self,
        request: x509.CertificateSigningRequest,
        *names: str,
        start: dt.timedelta = -DAY,
        end: dt.timedelta = 90 * DAY,
        key: EllipticCurvePublicKey | None = None,
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        known = names or tuple(one["value"] for one in self.orders[-1]["identifiers"])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.key.public_key())
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.authority.name)
            .public_key(key or request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + start)
            .not_valid_after(now + end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in known]), critical=True)
            .add_extension(issuer, critical=False)
            .sign(self.authority.key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)

    def chain(self, request: x509.CertificateSigningRequest) -> bytes:
        return self.leaf(request) + self.root()

    def issuer(self) -> Issuer:
        return Issuer(f"{self.base}/directory", ca_file=self.authority.file)

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join(60)
        self.server.server_close()
