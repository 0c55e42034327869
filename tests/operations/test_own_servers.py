"""An application's file that starts a server of its own, as scripts of other frameworks do at their end."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgerouter.unfinished import watched

from ..processes import free_port

FLASK = "from flask import Flask\napp = Flask('a')\napp.run(port={port})\n"
WSGI = """\
from wsgiref.simple_server import make_server
def app(environ, start_response): ...
server = make_server("127.0.0.1", {port}, app)
try:
    server.serve_forever()
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize(
    ("text", "line", "server"),
    [
        pytest.param(FLASK, 3, "flask.app.run", id="flask"),
        pytest.param(WSGI, 5, "socketserver.serve_forever", id="one-that-catches-the-interrupt"),
        pytest.param(f"{WSGI}raise ValueError('later')\n", 5, "socketserver.serve_forever", id="one-that-fails-then"),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_server_of_its_own_is_interrupted_and_its_line_is_named(
    tmp_path: Path, text: str, line: int, server: str, command: str
) -> None:
    app = tmp_path / "app.py"
    app.write_text(text.format(port=free_port()))
    found = subprocess.run(
        [sys.executable, "-m", "edgerouter", command, "app.py:app"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 1
    (said,) = (line for line in found.stderr.splitlines() if line.startswith("error: "))
    assert said.startswith(f"error: app.py:{line}: starts a server of its own ({server}) while edgerouter loads this")
    assert said.endswith('put the call under if __name__ == "__main__":')


def test_no_interrupt_comes_after_the_end_of_a_load() -> None:
    said: list[str] = []
    with watched(lambda frame: None, said.append) as watch:
        assert any(thread.name == "edge-load-watch" for thread in threading.enumerate())
    assert (watch.server, said) == (None, [])
    watch.end()
    assert sum(range(1_000)) == 499_500, "bytecodes at which an interrupt would come"
