"""Messages to the service manager that started the process: sd_notify(3), and its watchdog.

Without ``NOTIFY_SOCKET`` nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable

__all__ = ["Watchdog", "notify", "reloading"]


def notify(*lines: str) -> None:
    """Sends a message; a manager that does not listen costs nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # An abstract address is written with an @.
    address = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(lines).encode(), address)


def reloading() -> None:
    """Says that a reload begins; ``READY=1`` says that it has ended."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


class Watchdog:
    """Reports to the service manager that the process is well, for as long as every worker beats."""

    def __init__(self, silence: Callable[[], float]) -> None:
        self.silence = silence
        self.ended = threading.Event()
        self.interval = 0.0
        # A number that no clock takes, such as systemd's for "never", is none.
        with contextlib.suppress(ValueError, OverflowError):
            own = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
            self.interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6 / 2 if own else 0.0
        if 0 < self.interval <= threading.TIMEOUT_MAX:
            threading.Thread(target=self.run, name="edge-watchdog", daemon=True).start()

    def run(self) -> None:
        """Sends until the end, unless a worker is stuck. A worker beats once a second."""
        while not self.ended.wait(self.interval):
            if self.silence() < max(self.interval, 3.0):
                notify("WATCHDOG=1")

    def end(self) -> None:
        """Sends no more."""
        self.ended.set()
