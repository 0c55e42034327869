"""An edge that takes deploys from a folder, and a caller of its admin listener."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import Edge
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.testing import Running

from ..origins import wait_until

TOKEN = "a-token-of-tests"


def versions() -> list[str]:
    """Modules of versions that were deployed. Others are imported meanwhile."""
    return [name for name in list(sys.modules) if name.startswith("_edgerouter_deploy_")]


class Deployed:
    """A running edge, its folder for deploys, and calls of its admin listener."""

    def __init__(self, server: Server, folder: Path, socket: Path) -> None:
        self.server = server
        self.running = Running.of(server)
        self.folder = folder
        self.socket = socket
        self.client = httpx.Client(base_url=server.urls[0], timeout=30)
        self.admin = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://localhost", timeout=60
        )

    def close(self) -> None:
        self.client.close()
        self.admin.close()
        self.server.stop(5)
        wait_until(lambda: not versions(), 60, "the end of all modules after a stop")

    def write(self, text: str, name: str = "new.py") -> str:
        """A file that may be deployed."""
        file = self.folder / name
        for parent in reversed(file.relative_to(self.folder).parents[:-1]):
            (self.folder / parent).mkdir(mode=0o755, exist_ok=True)
        file.write_text(text)
        file.chmod(0o644)
        return name

    def order(self, name: str = "new.py", percent: float = 100, **more: object) -> httpx.Response:
        return self.admin.post("/v1/deploys", json={"file": name, "percent": percent, **more})

    def deploy(self, name: str = "new.py", percent: float = 100, **more: object) -> int:
        answer = self.order(name, percent, **more)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def change(self, what: str, **body: object) -> httpx.Response:
        return self.admin.post(f"/v1/deploys/{what}", json=body)

    def list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin.get("/v1/deploys").json()["deploys"]
        return found

    def text(self, path: str = "/", sid: str | None = None) -> str:
        headers = {} if sid is None else {"cookie": f"sid={sid}"}
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.text

    def sides(self, path: str = "/") -> dict[str, str]:
        """A value of the cookie for each text of the page."""
        found: dict[str, str] = {}
        for number in range(64):
            found.setdefault(self.text(path, str(number)), str(number))
        return found

    def wait_for(self, look: Callable[[], bool], what: str) -> None:
        """Waits while requests make the workers look at the version in service."""

        def seen() -> bool:
            self.client.get("/nothing-here")
            return look()

        wait_until(seen, 20, what)


Begin = Callable[..., Deployed]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "apps"
    made.mkdir(mode=0o755)
    return made


@pytest.fixture
def begin(folder: Path, tmp_path: Path) -> Iterator[Begin]:
    """``begin(edge)`` serves it, with deploys."""
    with ExitStack() as stack:

        def make(edge: Edge, **settings: Any) -> Deployed:
            socket = tmp_path / "admin.sock"
            given = Settings(
                listen="127.0.0.1:0",
                admin="127.0.0.1:0",
                admin_socket=str(socket),
                deploy_folder=str(folder),
                workers=1,
                **settings,
            )
            deployed = Deployed(Server.start(edge, given), folder, socket)
            stack.callback(deployed.close)
            return deployed

        yield make


#: A version that answers its name, and what it found on the way.
VERSION = """
from edgerouter import Edge

edge = Edge("site")


@edge.function("/")
def page(request, ctx):
    return "{name}"
"""


@pytest.fixture
def site(begin: Begin) -> Deployed:
    """Version ``old`` is running, and ``new.py`` is there."""
    edge = Edge("site")

    @edge.function("/")
    def page(request: object, ctx: object) -> str:
        return "old"

    made = begin(edge)
    made.write(VERSION.format(name="new"))
    return made
