"""Child processes: started on one core, measured through /proc, and always stopped.

Every child is a session of its own and has the kernel signal it when the harness dies, so nothing survives a
crash or Ctrl-C, and nothing that the harness did not start is ever signalled.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """Something the person who runs the benchmark can act on; the text is all they need."""


def exit_status(bench: Callable[[], int]) -> int:
    """The exit status of a benchmark, whose problems are printed. Children are stopped by SIGTERM as by Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return bench()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the tables has gone
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pinned(core: int, command: Sequence[str]) -> list[str]:
    return ["taskset", "-c", str(core), *command]


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A server program on one core. ``with Child(...) as child`` stops it, whatever happens."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
        output: int | None = None,
    ) -> None:
        """``output``: a descriptor that standard output and error go to instead of ``log``."""
        self.name = name
        self.output = output
        self.command = pinned(core, command)
        self.log = log
        self.port = 0
        self.environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Child:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log if self.output is None else self.output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, patience: float = 5.0) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        with suppress(ProcessLookupError):  # the session's remains: a worker that outlived its master
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill(self) -> None:
        """SIGKILL to the whole session, at once: what a crash is."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait_until_listening(self, port: int, patience: float = 20.0) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not self.alive():
                raise BenchError(f"{self.name} exited at start; its log says:\n{self.log_tail()}")
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise BenchError(f"{self.name} did not listen on port {port} within {patience:g} s:\n{self.log_tail()}")

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:]) or "(empty)"

    def cpu_seconds(self) -> float:
        """User and system time of the program, its children and all their threads, so far."""
        return sum(cpu_seconds(pid) for pid in family(self.pid))


def family(root: int) -> list[int]:
    """``root`` and every living descendant."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(entry / "stat")):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, ()))
    return found


def cpu_seconds(pid: int) -> float:
    fields = _stat(Path(f"/proc/{pid}/stat"))
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def threads(pid: int) -> dict[int, float]:
    """CPU seconds of each thread of one process, by thread id."""
    found: dict[int, float] = {}
    for entry in Path(f"/proc/{pid}/task").iterdir():
        if fields := _stat(entry / "stat"):
            found[int(entry.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    return found


def _stat(path: Path) -> list[str] | None:
    """The fields after the command name, which may itself hold spaces and parentheses."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def make_certificate(folder: Path) -> None:
    """Writes ``cert.pem`` and ``key.pem`` for localhost."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
