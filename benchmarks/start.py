"""The times that a person waits for: ``python -m benchmarks.start [WORK …] [--rounds N]``.

``start`` is from the start of the process to its first response, ``first`` from the last line of an application with
functions to the first byte of the first response of one, ``reload`` from SIGHUP to the line that reports the
new version, ``check`` from the start to the end of ``edgerouter check``. Each line has the median, the least and the
greatest of its rounds, and the median of the time on processors, which a busy machine changes little.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, works
from benchmarks.processes import BenchError, exit_status, free_port

APP = """
from edgerouter import Edge, Respond

edge = Edge("start")
origin = edge.origin("origin", "http://127.0.0.1:9")
for number in range({routes}):
    edge.route(f"/section{{number}}/*", to=origin)
edge.route("/", respond=Respond(body="hello"))
"""
FUNCTIONS = """
import os
import time

from edgerouter import Edge, Response

edge = Edge("first")


@edge.function("/")
async def hello(request, ctx):
    return Response("hello")


os.write(2, b"loaded %d\\n" % time.monotonic_ns())
"""
PATIENCE = 60.0


@dataclass(frozen=True)
class Taken:
    """Seconds of one round."""

    wall: float
    cpu: float
    #: The time of its end on the clock of the system.
    ended: float = 0.0


def start(python: str, app: Path) -> Taken:
    """A new process, until it has answered one request."""
    port = free_port()
    began = time.monotonic()
    with serving(python, app, port) as process:
        while True:
            try:
                answer = works.get(port, "/", {})
            except works.WrongAnswerError:
                if process.poll() is not None or time.monotonic() > began + PATIENCE:
                    raise
                time.sleep(0.0005)
                continue
            ended = time.monotonic()
            taken = Taken(ended - began, cpu(process.pid), ended)
            if answer.status != 200:
                raise BenchError(f"the first response has status {answer.status}")
            return taken


def first(python: str, app: Path) -> Taken:
    """A new process, from the end of its application's module to the first response of a function."""
    started = start(python, app)
    loaded = re.search(r"^loaded (\d+)$", app.with_suffix(".log").read_text(), re.MULTILINE)
    if loaded is None:
        raise BenchError("the application has not said when it was loaded")
    return Taken(started.ended - int(loaded[1]) / 1e9, started.cpu, started.ended)


def reload(python: str, app: Path) -> Taken:
    """The fifth reload of a process, as by then nothing happens for the first time."""
    with serving(python, app, free_port()) as process:
        lines = said(process)
        wait_for(lines, "http://")
        taken = Taken(0, 0)
        for _ in range(5):
            before, began = cpu(process.pid), time.monotonic()
            process.send_signal(signal.SIGHUP)
            wait_for(lines, "reloaded: version")
            taken = Taken(time.monotonic() - began, cpu(process.pid) - before)
        return taken


def check(python: str, app: Path) -> Taken:
    """The whole command, with its table written to nowhere."""
    began = time.monotonic()
    process = subprocess.Popen([python, "-m", "edgerouter", "check", str(app)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise BenchError(f"edgerouter check ended with {process.returncode}")
    return Taken(time.monotonic() - began, usage.ru_utime + usage.ru_stime)


WORKS: dict[str, tuple[str, int, Callable[[str, Path], Taken]]] = {
    "start": ("start to the first response", 0, start),
    "first": ("the application loaded to the first byte of a function", 0, first),
    "start-1000": ("the same with 1,000 routes", 1_000, start),
    "reload": ("reload of 1,000 routes", 1_000, reload),
    "check": ("check of 10,000 routes", 10_000, check),
}


@contextmanager
def serving(python: str, app: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [python, "-m", "edgerouter", "run", str(app), "--listen", f"127.0.0.1:{port}", "--workers", "1"]
    with (
        app.with_suffix(".log").open("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            yield process
        except BenchError as error:
            process.kill()
            log.seek(0)
            raise BenchError(f"{error}; the log says:\n{log.read()}") from error
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return iter(process.stdout.readline, "")


def wait_for(lines: Iterator[str], text: str) -> None:
    if not any(text in line for line in lines):
        raise BenchError(f"the edge ended without {text!r}")


def cpu(pid: int) -> float:
    """Seconds that the threads of a process have run, by the nanosecond."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with closing((thread / "schedstat").open()) as file:
            spent += int(file.read().split()[0])
    return spent / 1e9


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the release wheel")
    options = parser.parse_args(arguments)
    return exit_status(lambda: bench(options))


def bench(options: argparse.Namespace) -> int:
    if unknown := set(options.works) - set(WORKS):
        raise BenchError(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    print("  ".join(f"{name}: {value}" for name, value in machine.describe().items()))
    print("| | median, ms | least and greatest, ms | CPU, ms |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="edgerouter-start-") as scratch:
        for name in options.works or WORKS:
            title, routes, measure = WORKS[name]
            app = Path(scratch, f"{name.replace('-', '_')}.py")
            app.write_text(FUNCTIONS if measure is first else APP.format(routes=routes))
            measure(options.python, app)  # the files are read from disk once
            print(line(title, [measure(options.python, app) for _ in range(options.rounds)]), flush=True)
    return 0


def line(title: str, taken: Sequence[Taken]) -> str:
    walls = [one.wall * 1000 for one in taken]
    spent = statistics.median(one.cpu * 1000 for one in taken)
    return f"| {title} | {statistics.median(walls):.0f} | {min(walls):.0f}–{max(walls):.0f} | {spent:.0f} |"


if __name__ == "__main__":
    raise SystemExit(main())
