"""Servers that keep data, as the distribution packages them: each on a free port, with files of its own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

from ..origins import wait_until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing; scripts/install-packages installs it"
    return found


class RedisServer:
    """A Redis server without files. It keeps its port, also when it is killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                program("redis-server"),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)),
                *self.options,
            ],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.answers, what="Redis to answer")

    def answers(self) -> bool:
        assert self.process.poll() is None, "redis-server has ended"
        try:
            return self.command("PING").startswith(("+PONG", "-NOAUTH"))
        except OSError:
            return False

    def command(self, *words: str) -> str:
        """The first bytes of the reply to a command, in Redis' own form."""
        sent = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(sent.encode())
            return connection.recv(65_536).decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)
