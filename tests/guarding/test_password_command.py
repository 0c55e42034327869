"""``edgerouter password`` makes lines that open a route for their user, and shows no password."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from edgerouter import BasicAuth, Edge
from edgerouter.testing import running

COMMAND = [sys.executable, "-m", "edgerouter", "password"]


def made(user: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, user], input=given, capture_output=True, timeout=60, check=False)


def on_a_terminal(user: str, *lines: str) -> tuple[int, str]:
    """The command at a terminal that types these lines: its exit code, and all that is seen there."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [*COMMAND, user])
    seen = b""
    for line, prompt in zip(lines, (b"Password: ", b"Again: "), strict=True):
        while not seen.endswith(prompt):
            seen += os.read(terminal, 4_096)
        os.write(terminal, f"{line}\n".encode())
    with suppress(OSError):
        while piece := os.read(terminal, 4_096):
            seen += piece
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), seen.decode()


def test_a_line_that_was_made_opens_the_route_for_its_user(tmp_path: Path) -> None:
    file = tmp_path / "staff.htpasswd"
    passwords = {"ann": "open: sesame", "björn": "schlüssel"}
    lines = [made(user, f"{password}\r\n".encode()).stdout for user, password in passwords.items()]
    file.write_bytes(b"".join(lines))
    edge = Edge("test")
    edge.route("/*", respond="inside", basic=BasicAuth(file))
    with running(edge) as served:
        for user, password in passwords.items():
            right = (user.encode(), password.encode())
            assert httpx.get(served.url, auth=right).text == "inside"
            assert httpx.get(served.url, auth=(user.encode(), b"wrong")).status_code == 401


def test_two_lines_of_one_password_are_different() -> None:
    first, second = (made("ann", b"one").stdout for _ in range(2))
    assert first.startswith(b"ann:$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second


@pytest.mark.parametrize(
    ("user", "given", "said"),
    [
        ("", b"hunter2\n", "the name must not be empty"),
        ("a:b", b"hunter2\n", "the name must have no colon"),
        ("#ann", b"hunter2\n", "begin with #"),
        ("ann", b"", "the password must not be empty"),
        ("ann", b"\n", "the password must not be empty"),
        ("ann", b"hunter2\x01\n", "nor have a control character"),
        ("ann", b"hunter2\xff\n", "must be UTF-8"),
        ("ann", b"hunter2" * 100, "less than 512 bytes"),
    ],
    ids=["no name", "colon", "comment", "nothing", "no password", "control", "bytes", "long"],
)
def test_a_line_that_no_login_could_use_is_refused_without_the_password(user: str, given: bytes, said: str) -> None:
    found = made(user, given)
    assert (found.returncode, found.stdout) == (1, b"")
    assert found.stderr.decode().startswith("error: password: ") and said in found.stderr.decode()
    assert b"hunter2" not in found.stderr


def test_a_terminal_does_not_show_the_password_and_two_different_ones_are_refused() -> None:
    code, seen = on_a_terminal("ann", "hunter2", "hunter2")
    assert code == 0 and "ann:$argon2id$" in seen
    other, refused = on_a_terminal("ann", "hunter2", "hunter3")
    assert other == 1 and "the two were not the same" in refused
    assert "hunter" not in seen + refused
