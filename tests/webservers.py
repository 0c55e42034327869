"""nginx and Caddy, as real servers with a configuration of the test."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .origins import wait_until
from .processes import free_port, reachable

COMMANDS = {
    "nginx": ["-c", "{file}", "-p", "{folder}"],
    "caddy": ["run", "--config", "{file}", "--adapter", "caddyfile"],
}
FILES = {"nginx": "nginx.conf", "caddy": "Caddyfile"}
NGINX = """
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
SERVER
    }}
}}
"""


@dataclass(frozen=True)
class WebServer:
    url: str
    file: Path


def nginx_with(server: str) -> str:
    """The configuration of an nginx with these directives of its one server."""
    return NGINX.replace("SERVER", server.strip("\n"))


@contextlib.contextmanager
def web_server(kind: str, text: str, folder: Path, **values: str) -> Iterator[WebServer]:
    """A server that runs with a configuration, in which ``{folder}``, ``{port}`` and ``values`` are filled in."""
    program = shutil.which(kind)
    assert program is not None, f"{kind} is not installed: scripts/install-packages"
    port = free_port()
    file = folder / FILES[kind]
    file.write_text(text.format(folder=folder, port=port, **values))
    arguments = [part.format(file=file, folder=folder) for part in COMMANDS[kind]]
    quiet = subprocess.DEVNULL
    with subprocess.Popen([program, *arguments], stdout=quiet, stderr=quiet, cwd=folder) as process:
        try:
            wait_until(lambda: reachable(port), what=kind)
            yield WebServer(f"http://127.0.0.1:{port}", file)
        finally:
            process.terminate()
