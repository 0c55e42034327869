"""A real Chromium over https and HTTP/2. Its profile is new and takes one public key; no trust store is changed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgerouter import CompressionLimits, Edge, HttpLimits, Limits, Tls, cache
from edgerouter.server import Server

from ..certificates import Authority, Issued
from ..origins import Origin, Reply
from ..service_worker.browser import Browser
from ..tls.conftest import Start

PAGE = "<!doctype html><title>edge</title><p>hello" + "".join(f'<img src="/image/{n}.svg">' for n in range(30))
IMAGE = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1">' + "<!-- drawn -->" * 1_000 + "</svg>"
ENTRIES = """return performance.getEntriesByType("navigation").concat(performance.getEntriesByType("resource"))
    .map((it) => [new URL(it.name).pathname, it.nextHopProtocol, it.responseStatus, it.encodedBodySize,
                  it.decodedBodySize])"""
ECHO = """new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/echo/`);
    const got = [];
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (event) => { got.push(event.data); socket.close(1000); };
    socket.onclose = (event) => resolve([...got, event.code, event.wasClean]);
    socket.onerror = () => reject("failed");
})"""


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("127.0.0.1", "localhost")


@pytest.fixture
def browser(issued: Issued, tmp_path: Path) -> Iterator[Browser]:
    key = x509.load_der_x509_certificate(issued.der).public_key()
    pin = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    spki = f"--ignore-certificate-errors-spki-list={base64.b64encode(pin).decode()}"
    made = Browser(tmp_path / "profile", spki)
    yield made
    made.close()


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Sends whatever comes."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


def handshakes(server: Server) -> int:
    return sum(
        int(line.rpartition(" ")[2])
        for line in server.metrics().splitlines()
        if line.startswith("edgerouter_tls_handshakes_total{")
    )


def test_a_browser_loads_a_page_its_images_and_a_websocket_by_http_2(
    start: Start, origin: Origin, issued: Issued, browser: Browser
) -> None:
    origin.on("/", Reply(200, {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "max-age=60"}, PAGE))
    origin.default = Reply(200, {"Content-Type": "image/svg+xml", "Cache-Control": "max-age=60"}, IMAGE)
    # Where no place or memory is left for one more coder, 1 MiB or so, an image is sent as it is.
    limits = Limits(http=HttpLimits(request_memory_bytes=512 << 20), compression=CompressionLimits(variants=64))
    edge = Edge("test", limits=limits)
    tls = Tls(issued.certificate)
    edge.listen("127.0.0.1:0", tls=tls)
    edge.listen("127.0.0.1:0", tls=tls, http=("http/1.1",))
    edge.mount("/echo", echo)
    edge.route("/*", to=edge.origin("site", origin.url), cache=cache.OPTIMIZED)
    server = start(edge)
    # The second listener offers HTTP/1.1 alone: the same browser says so.
    for url, protocol in zip(server.urls, ("h2", "http/1.1"), strict=False):
        assert browser.go(url) == "hello"
        assert browser.run("return isSecureContext && document.title") == "edge"
        entries = browser.run(ENTRIES)
        assert {path for path, *_ in entries} >= {"/", *(f"/image/{n}.svg" for n in range(30))}
        assert {(found, status) for _, found, status, *_ in entries} == {(protocol, 200)}
        # The page itself is below the size from which compression pays.
        assert not [it for it in entries if it[0].endswith(".svg") and not it[3] < it[4]]
        before = handshakes(server)
        assert browser.wait(ECHO) == ["hello", 1000, True]
        # A stream of the connection that there is (RFC 8441), or a connection of its own.
        assert handshakes(server) - before == (0 if protocol == "h2" else 1)
