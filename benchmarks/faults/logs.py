"""A million log lines into a pipe without a reader: the tail latency of hits, and SIGTERM.

Standard output has the access log, a line for each hit; standard error has what a function prints and what the edge
says of an origin that fails. Three edges take turns at the same paced hits: one that logs nothing, one whose pipes are
read, one whose pipes are full. The worker has a core for itself and the generator goes first on the other one, so that
what differs is what a worker waits for. SIGTERM comes while hits are requested and the pipes are still full.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from benchmarks import generator, isolation, servers
from benchmarks.faults.figure import Figure, median
from benchmarks.faults.stage import Edge, Machine, get, must, running
from benchmarks.processes import BenchError

LINES = 1_000_000
ROUNDS = 7
SECONDS = 1.5
SHARE = 0.5
DRAIN = 5.0
TALK = 1_000  # lines of one call
PATH = "/hit/1k"


@dataclass
class Server:
    name: str
    edge: Edge
    logs: bool
    worker: int = 0
    hits: int = 0
    lines: int = 0
    loads: list[generator.Load] = field(default_factory=list)


def measure(machine: Machine) -> list[Figure]:
    paced = servers.compile_c("paced")
    with ExitStack() as stack:
        found = []
        for name, output in (("no log", None), ("a log that is read", read_pipe), ("stalled", full_pipe)):
            arguments = ["--access-log", "-"] if output else []
            pipe = stack.enter_context(output()) if output else None
            environment = {"FAULTS_DRAIN": f"{DRAIN:g}", "FAULTS_FUNCTIONS": "1"}
            edge = stack.enter_context(running(machine, arguments=arguments, environment=environment, output=pipe))
            must(edge.port, PATH)
            found.append(Server(name, edge, bool(output)))
        rate = min(prepare(server, machine) for server in found)
        for _ in range(ROUNDS):
            for server in found:
                one_round(server, machine, paced, rate)
        stalled = found[-1]
        while stalled.hits + stalled.lines < LINES:
            talk(stalled)
        wrong = [problem for server in found for load in server.loads for problem in load.problems]
        dropped = stalled.edge.metric("edgerouter_log_dropped_total")
        summed = stalled.edge.metric("edgerouter_log_summed_total")
        ended = end(stalled, paced, rate, machine.cores[1])
    if wrong:
        raise BenchError("; ".join(dict.fromkeys(wrong)))
    quiet, read, full = ([load.p99 for load in server.loads] for server in found)
    return [
        Figure(f"p99 of {rate:,.0f} hits/s, nothing logged", quiet, "µs", judged=median),
        Figure("… lines of hits, functions and a failing origin, pipes read", read, "µs", judged=median),
        Figure("… the same, pipes full", full, "µs", judged=median),
        Figure("full beside read, by round", ratios(full, read), "×", 1.1, ".2f", median),
        Figure("full beside nothing logged, by round", ratios(full, quiet), "×", 1.1, ".2f", median),
        Figure("lines into the full pipes", [stalled.hits + stalled.lines], "", LINES, least=True),
        Figure("… dropped, by the metric", [dropped]),
        Figure("… of the failing origin, summed", [summed]),
        Figure("SIGTERM to the end, under load", [ended], "s", DRAIN, ".2f"),
    ]


def ratios(these: list[float], those: list[float]) -> list[float]:
    return [this / that for this, that in zip(these, those, strict=True)]


def prepare(server: Server, machine: Machine) -> float:
    """Finds the worker, and a share of what it can serve."""
    core, other = machine.cores
    server.worker, rate = isolation.find_worker(server.edge.child, server.edge.port, other, PATH, SHARE)
    must(server.edge.port, f"/loud/{TALK if server.logs else 0}")  # the threads of Python are there, too
    isolation.place(server.edge.child, server.worker, core, other)
    server.hits += round(rate / SHARE * 2)
    return rate


def one_round(server: Server, machine: Machine, program: object, rate: float) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def noise() -> None:
        try:
            while not stop.is_set():
                talk(server)
                for _ in range(20):
                    get(server.edge.port, "/fail/now")
        except OSError as error:
            errors.append(error)

    talking = threading.Thread(target=noise, daemon=True)
    if server.logs:
        talking.start()
    command = [str(program), str(server.edge.port), PATH, f"{rate:.0f}", f"{SECONDS:g}", "64"]
    if isolation.may_be_realtime():
        command = ["chrt", "-f", "1", *command]
    command = ["taskset", "-c", str(machine.cores[1]), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 30, check=False)
    stop.set()
    if server.logs:
        talking.join(60)
    if done.returncode != 0 or errors:
        raise BenchError(f"paced: {done.stderr.strip()} {errors}")
    load = generator.read_paced(done.stdout, SECONDS)
    server.loads.append(load)
    server.hits += load.requests


def talk(server: Server) -> None:
    must(server.edge.port, f"/loud/{TALK}")
    server.lines += TALK


def end(server: Server, program: object, rate: float, core: int) -> float:
    """Seconds from SIGTERM until the process has ended, under requests for hits."""
    command = ["taskset", "-c", str(core), str(program), str(server.edge.port), PATH, f"{rate:.0f}", "60", "64"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as load:
        try:
            time.sleep(0.5)
            started = time.perf_counter()
            os.kill(server.edge.child.pid, signal.SIGTERM)
            while server.edge.child.alive():
                if time.perf_counter() - started > 4 * DRAIN:
                    raise BenchError(f"SIGTERM did not end it within {4 * DRAIN:g} s")
                time.sleep(0.005)
            return time.perf_counter() - started
        finally:
            load.kill()


@contextmanager
def full_pipe() -> Iterator[int]:
    """The write end of a full pipe without a reader."""
    read, write = os.pipe()
    try:
        os.set_blocking(write, False)
        with suppress(BlockingIOError):
            while True:
                os.write(write, b"." * 4096)
        with suppress(BlockingIOError):
            while True:
                os.write(write, b".")
        os.set_blocking(write, True)
        yield write
    finally:
        os.close(write)
        os.close(read)


@contextmanager
def read_pipe() -> Iterator[int]:
    """The write end of a pipe whose reader throws away what comes."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
    reader = subprocess.Popen(["cat"], stdin=read, stdout=subprocess.DEVNULL)
    try:
        os.close(read)
        yield write
    finally:
        os.close(write)
        reader.kill()
        reader.wait()
