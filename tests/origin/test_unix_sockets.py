"""Origins that listen on unix sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from edgerouter import ConfigError, Edge, Health
from edgerouter.testing import Running

from ..conftest import Serve
from ..origins import Origin, Reply, wait_until


class Local(Origin):
    """An origin on a unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__("local")

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    made = Local(tmp_path / "app.sock")
    made.default = lambda seen: Reply(200, {}, seen.target)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("form", "target"),
    [
        ("unix:{}", "/page?q=1"),
        ("unix:{}:/app/", "/app/page?q=1"),
        ("http://unix:{}", "/page?q=1"),
        ("http://unix:{}:/app", "/app/page?q=1"),
        ("unix/{}", "/page?q=1"),
    ],
)
def test_a_socket_is_written_as_in_nginx_or_caddy(
    local: Local, serve: Serve, client_for: Callable[[Running], httpx.Client], form: str, target: str
) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("app", form.format(local.path)))
    response = client_for(serve(edge)).get("/page?q=1")
    assert (response.status_code, response.text) == (200, target)
    assert local.requests[0].get("host") == "localhost"


def test_redirects_of_its_own_lead_to_the_viewers_host(
    local: Local, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    local.default = Reply(302, {"Location": "http://localhost/next"})
    edge = Edge("test")
    edge.route("/*", to=edge.origin("app", f"unix:{local.path}"))
    client = client_for(serve(edge))
    assert client.get("/", headers={"host": "shop.example"}).headers["location"] == "http://shop.example/next"


def test_a_body_goes_there_and_a_socket_that_is_gone_is_no_connection(
    local: Local, origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    origin.default = Reply(200, {}, "the other")
    edge = Edge("test")
    one = edge.origin("app", f"unix:{local.path}", health=Health("/healthz", interval=0.1))
    edge.route("/alone", to=one)
    edge.route("/*", to=edge.group("site", [one, edge.origin("first", origin.url)]))
    client = client_for(serve(edge))
    client.post("/x", content=b"body")
    assert [seen.body for seen in local.requests if seen.method == "POST"] == [b"body"]
    local.wait_for(1, "/healthz")
    local.kill()
    local.path.unlink()
    assert client.get("/y").text == "the other"
    wait_until(lambda: client.get("/alone").status_code == 502, what="502")


def test_two_sockets_are_two_origins(
    tmp_path: Path, local: Local, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    other = Local(tmp_path / "other.sock")
    other.default = Reply(200, {}, "other")
    edge = Edge("test")
    edge.route("/a", to=edge.origin("a", f"unix:{local.path}"))
    edge.route("/b", to=edge.origin("b", f"unix:{other.path}"))
    client = client_for(serve(edge))
    for _ in range(2):
        assert (client.get("/a").text, client.get("/b").text) == ("/a", "other")
    other.close()


@pytest.mark.parametrize(
    "url",
    ["unix:", "unix:app.sock", "unix:/", "unix:/run/", "unix:/a.sock:prefix", "unix:/a.sock:/?q", "unix:/" + "a" * 200],
)
def test_what_is_no_socket_is_refused_by_field(url: str) -> None:
    with pytest.raises(ConfigError, match=r"Origin\.url"):
        Edge("test").origin("app", url)


def test_tls_is_not_for_sockets() -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("app", "unix:/run/app.sock", tls_server_name="x.example"))
    with pytest.raises(ConfigError, match="tls_server_name"):
        edge.compile()
