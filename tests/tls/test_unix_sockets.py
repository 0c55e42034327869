"""Listeners on unix sockets: requests, the file, and what is in its way."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edgerouter import ConfigError, Edge, ListenError, Tls

from ..certificates import Authority
from ..origins import Origin, Reply
from .clients import get
from .conftest import Start


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    return client


def site(path: Path, **given: object) -> Edge:
    edge = Edge("test")
    edge.listen(f"unix:{path}", **given)  # type: ignore[arg-type]
    edge.route("/*", respond="hello")
    return edge


def test_requests_come_by_a_unix_socket_whose_client_counts_as_this_machine(
    tmp_path: Path, start: Start, origin: Origin
) -> None:
    origin.default = Reply(200, {"cache-control": "no-store"}, "from origin")
    edge = Edge("test", trusted_proxies=["127.0.0.1"])
    edge.listen(f"unix:{tmp_path}/edge.sock")
    edge.route("/*", to=edge.origin("first", origin.url))
    server = start(edge)
    assert server.urls == [f"http+unix:{tmp_path}/edge.sock"]
    assert server.addresses == [f"unix:{tmp_path}/edge.sock"]
    for _ in range(8):
        with connect(tmp_path / "edge.sock") as sock:
            assert get(sock, fields="x-forwarded-for: 192.0.2.7\r\n").body == b"from origin"
    assert origin.requests[0].get("x-forwarded-for") == "192.0.2.7, 127.0.0.1"


def test_tls_and_the_proxy_protocol_run_over_a_unix_socket(tmp_path: Path, start: Start, authority: Authority) -> None:
    tls = Tls(authority.issue("www.example.com").certificate)
    start(site(tmp_path / "edge.sock", tls=tls, proxy_protocol=["127.0.0.1"]))
    with connect(tmp_path / "edge.sock") as plain:
        plain.sendall(b"PROXY UNKNOWN\r\n")
        with authority.trusted().wrap_socket(plain, server_hostname="www.example.com") as sock:
            assert get(sock).body == b"hello"


def test_the_file_is_removed_at_the_end_and_a_stale_one_is_replaced(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "edge.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    server = start(site(path))
    with connect(path) as sock:
        assert get(sock).status == 200
    server.stop(5.0)
    assert not path.exists()


def test_a_socket_in_use_and_a_file_that_is_none_are_left_alone(tmp_path: Path, start: Start) -> None:
    start(site(tmp_path / "edge.sock"))
    with pytest.raises(ListenError, match="already in use; stop the other program or give another path"):
        start(site(tmp_path / "edge.sock"))
    with connect(tmp_path / "edge.sock") as sock:
        assert get(sock).status == 200
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ListenError, match="is there and is no socket; remove it or give another path"):
        start(site(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(ListenError, match="its folder must be there and writable"):
        start(site(tmp_path / "absent" / "edge.sock"))


@pytest.mark.parametrize("address", ["unix:edge.sock", "unix:", "unix:/" + "x" * 107])
def test_a_path_that_is_relative_or_too_long_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"Listener\.address: .*absolute path of at most 107 bytes"):
        Edge("test").listen(address)
    with pytest.raises(ConfigError, match=r"listeners\[0\]\.address: .*absolute path of at most 107 bytes"):
        Edge.from_dict({"version": 1, "name": "test", "listeners": [{"address": address}]}).compile()
