"""The servers that run a small function for each request, as edgerouter does: granian, uvicorn and workerd.

Each has one worker, no access log, and its fastest protocol and event loop. ``benchmarks/install-peers`` puts them into
``build/peers``, apart from everything else.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.machine import version
from benchmarks.processes import Child
from benchmarks.servers import HERE, INSTALL, Place, Server

PEERS = HERE.parent / "build" / "peers"
# Neither has edgerouter's choice between the queue and the worker's own thread: both rows compare with the same figure.
WORKS = frozenset({"function", "function-inline"})
WORKER = """
export default {
  fetch(request) {
    const path = new URL(request.url).pathname;
    return Response.json({
      hello: path.slice(path.lastIndexOf("/") + 1),
      agent: request.headers.get("user-agent"),
    });
  },
};
"""


class Peer(Server):
    """A server of ``build/peers``."""

    def __init__(self, name: str, program: Path, pattern: str) -> None:
        super().__init__(name, WORKS)
        self.program = program
        if program.exists():
            self.version = version([str(program), "--version"], pattern)
        else:
            self.missing = f"{program.name} is not installed; run {INSTALL}"


class Granian(Peer):
    """RSGI, its own protocol. One thread of its runtime, on the event loop's."""

    def __init__(self) -> None:
        super().__init__("granian RSGI", PEERS / "bin" / "granian", r"granian ([\d.]+)")

    def child(self, place: Place) -> Child:
        command = [str(self.program), "--interface", "rsgi", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--runtime-threads", "1", "--runtime-mode", "st", "--loop", "uvloop"]
        command += ["--http", "1", "--no-ws", "--backlog", "4096", "--backpressure", "4096", "--log-level", "warning"]
        return self._child(place, [*command, "--working-dir", str(HERE.parent), "benchmarks.peer_app:rsgi"])


class Uvicorn(Peer):
    def __init__(self) -> None:
        super().__init__("uvicorn", PEERS / "bin" / "uvicorn", r"uvicorn ([\d.]+)")

    def child(self, place: Place) -> Child:
        command = [str(self.program), "--host", "127.0.0.1", "--port", str(self.port), "--loop", "uvloop"]
        command += ["--http", "httptools", "--ws", "none", "--lifespan", "off", "--interface", "asgi3"]
        command += ["--no-access-log", "--no-server-header", "--backlog", "4096", "--log-level", "warning"]
        return self._child(place, [*command, "--app-dir", str(HERE.parent), "benchmarks.peer_app:asgi"])


class Workerd(Peer):
    """The JavaScript runtime of Cloudflare's edge functions."""

    def __init__(self) -> None:
        super().__init__("workerd", PEERS / "node_modules" / ".bin" / "workerd", r"workerd ([\d-]+)")

    def child(self, place: Place) -> Child:
        (place.scratch / "worker.js").write_text(WORKER)
        file = place.scratch / "workerd.capnp"
        file.write_text(f"""
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(
    name = "main",
    worker = (modules = [(name = "worker.js", esModule = embed "worker.js")], compatibilityDate = "2026-01-01"),
  )],
  sockets = [(name = "http", address = "127.0.0.1:{self.port}", http = (), service = "main")],
);
""")
        return self._child(place, [str(self.program), "serve", str(file)])
