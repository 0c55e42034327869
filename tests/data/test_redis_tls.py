"""``rediss://``: a Redis server behind TLS, with certificates that the tests make."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgerouter import DataLimits

from ..certificates import Authority, Issued
from ..origins import wait_until
from .conftest import Asking, refused
from .servers import RedisServer


class TlsRedisServer(RedisServer):
    """A Redis server that answers over TLS only."""

    def __init__(self, folder: Path, issued: Issued, authority: Authority) -> None:
        self.authority = authority
        files = ("--tls-cert-file", str(issued.chain), "--tls-key-file", str(issued.key))
        trust = ("--tls-ca-cert-file", str(authority.file), "--tls-auth-clients", "no")
        super().__init__(folder, *files, *trust, "--requirepass", "secret of the store")

    def start(self) -> None:
        if "--tls-port" not in self.options:
            self.options = (*self.options, "--tls-port", str(self.port), "--port", "0")
        self.url = f"rediss://:secret%20of%20the%20store@localhost:{self.port}/0"
        super().start()

    def command(self, *words: str) -> str:
        context = self.authority.trusted()
        context.check_hostname = False
        sent = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection,
            context.wrap_socket(connection) as secured,
        ):
            secured.sendall(sent.encode())
            return secured.recv(65_536).decode()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def start(tmp_path: Path, authority: Authority) -> Iterator[Callable[[str], TlsRedisServer]]:
    """``start(name)`` starts a server with a certificate for that name."""
    started: list[TlsRedisServer] = []

    def make(name: str) -> TlsRedisServer:
        started.append(TlsRedisServer(tmp_path, authority.issue(name), authority))
        return started[-1]

    yield make
    for server in started:
        server.kill()


def kept(request: Any, ctx: Any) -> Any:
    ctx.env.KV.put("greeting", "hello", metadata={"language": "en"})
    return [ctx.env.KV.get("greeting"), [str(key) for key in ctx.env.KV.list().keys]]


def test_a_store_behind_tls_keeps_values(
    start: Callable[[str], TlsRedisServer], authority: Authority, asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    server = start("localhost")
    asking.open(server.url)
    assert asking.plain(kept) == ["hello", ["greeting"]]
    server.kill()
    server.start()

    def lost(request: Any, ctx: Any) -> Any:
        return refused(lambda: ctx.env.KV.get("greeting"))

    # Calls of the connection that broke fail, and later ones make another.
    wait_until(lambda: asking.plain(lost) == "nothing was raised", what="the store to be reached again")


@pytest.mark.parametrize("wrong", ["unknown authority", "another name"])
def test_a_server_that_cannot_prove_its_name_gets_no_password(
    wrong: str,
    start: Callable[[str], TlsRedisServer],
    authority: Authority,
    asking: Asking,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = start("localhost" if wrong == "unknown authority" else "cache.example.com")
    trusted = Authority(tmp_path, "another") if wrong == "unknown authority" else authority
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.file))
    asking.open(server.url, limits=DataLimits(timeout=2))
    said = asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("greeting")))
    assert said.startswith("BindingError: KV: ")
    assert "secret" not in said
