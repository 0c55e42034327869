"""The commands as a user starts them, each in a process of its own."""

from __future__ import annotations

import itertools
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from .origins import wait_until


def kill(process: subprocess.Popen[Any]) -> None:
    """Ends a process at once, unless it has ended."""
    if process.poll() is None:
        process.kill()
        process.wait(60)


class Process:
    """``edgerouter run`` as a user starts it."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, by: tuple[str, ...] = ()) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*by, sys.executable, "-m", "edgerouter", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "NO_COLOR": "1", **(env or {})},
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def look() -> bool:
            if match := re.search(pattern, self.output):
                found.append(match)
            elif self.process.poll() is not None and not self.reader.is_alive():
                raise AssertionError(f"ended with {self.process.returncode} before {pattern!r}:\n{self.output}")
            return bool(found)

        wait_until(look, 60, what=repr(pattern))
        return found[0]

    def kill(self) -> None:
        """Ends it at once, unless it has ended."""
        kill(self.process)

    def end(self, number: int = signal.SIGTERM, timeout: float = 60) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout)
        self.reader.join(60)
        return code


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``edgerouter`` with these arguments, run to its end, without the caller's settings of an edge."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EDGEROUTER_")}
    return subprocess.run(
        [sys.executable, "-m", "edgerouter", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**clean, **environment},
        check=False,
    )


def on_terminal(*arguments: str, columns: int, **environment: str) -> tuple[int, str]:
    """``edgerouter`` on a terminal of so many columns: its exit code, and what the terminal got."""
    leader, follower = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "edgerouter", *arguments],
        stdout=follower,
        stderr=follower,
        env={**clean, "TERM": "xterm-256color", "COLUMNS": str(columns), **environment},
    ) as process:
        os.close(follower)
        shown = b""
        with suppress(OSError):
            while piece := os.read(leader, 65_536):
                shown += piece
        code = process.wait(120)
    os.close(leader)
    return code, shown.decode()


# Below the ports that the kernel gives to clients (32768 and above), as one of those may be any test's at any time.
# Tests run in several processes, whose numbers follow one another: each has ports that no other one is given.
_own = range(10_240 + os.getpid() % 32, 32_000, 32)
_ports = itertools.islice(itertools.cycle(_own), os.getpid() // 32 % len(_own), None)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, nor will: no two tests of a run are given the same."""
    for port in itertools.islice(_ports, len(_own)):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise OSError("the ports of this process below 32768 are taken on 127.0.0.1")


def reachable(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
