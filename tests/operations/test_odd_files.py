"""Pipes, sockets, folders and devices where the configuration names a file: refused in words, and not waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ..processes import Process, free_port

Run = Callable[..., Process]

HEAD = """
from edgerouter import Edge, Jwt, ErrorPage, secret_file
edge = Edge("test")
o = edge.origin("o", "http://127.0.0.1:1")
"""

PLACES = {
    "geo.files[0]": "edge.geo({file!r})\nedge.route('/*', to=o)\n",
    "routes[0].auth.keys.secret": "edge.route('/*', to=o, auth=Jwt.hs256(secret_file({file!r})))\n",
    "routes[0].errors.404": "edge.route('/*', to=o, errors={{404: ErrorPage(file={file!r})}})\n",
    "bindings[0].url": "edge.database('DB', 'postgresql://u:p@h/d?sslrootcert={file}')\nedge.route('/*', to=o)\n",
}


def place(path: Path, kind: str) -> None:
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.fspath(path))


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a folder", "a device"])
@pytest.mark.parametrize("field", PLACES)
def test_what_is_no_file_is_refused_in_words(tmp_path: Path, run: Run, field: str, kind: str) -> None:
    """A pipe without a writer held the command for ever."""
    app, file = tmp_path / "app.py", tmp_path / "file.html"
    place(file, kind)
    app.write_text(HEAD + PLACES[field].format(file=str(file)))
    process = run("run", str(app), "--listen", f"127.0.0.1:{free_port()}")
    assert process.process.wait(60) == 1
    process.reader.join(60)
    assert f"app.py:5: {field}" in process.output
    assert f"it is {kind}; name a regular file" in process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file or directory"), ("garbage", "holds no certificate in PEM")]
)
@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "libsql"])
def test_check_reads_the_authorities_of_a_database_server(
    tmp_path: Path, run: Run, scheme: str, content: str | None, why: str
) -> None:
    app, file = tmp_path / "app.py", tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    server = "h" if scheme == "libsql" else "u:p@h/d"
    line = f"edge.database('DB', '{scheme}://{server}?sslrootcert={file}')\nedge.route('/*', to=o)\n"
    app.write_text(HEAD + line)
    process = run("check", str(app))
    assert process.process.wait(60) == 1
    process.reader.join(60)
    said = " ".join(process.output.split())
    assert f"app.py:5: bindings[0].url: sslrootcert {file}: {why}" in said


def test_a_migration_that_is_a_pipe_is_refused(tmp_path: Path, run: Run) -> None:
    app, folder = tmp_path / "app.py", tmp_path / "migrations" / "DB"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "0001_users.sql")
    app.write_text(
        f"from edgerouter import Edge\nedge = Edge('test')\nedge.database('DB', 'sqlite:{tmp_path}/app.db')\n"
    )
    process = run("db", "migrate", str(app))
    assert process.process.wait(60) != 0
    process.reader.join(60)
    assert "0001_users.sql: cannot be read: it is a pipe; name a regular file" in " ".join(process.output.split())
