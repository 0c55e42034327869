"""A hot key at an origin that freezes: SIGSTOP to the origin, clients that request the key all the time, probes.

Measured from when `/metrics` says that the origin is unhealthy: until the last of the clients that waited then has its
stale copy, and the longest wait of those that came later.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from dataclasses import dataclass, field

from benchmarks.faults.figure import Figure
from benchmarks.faults.stage import Edge, Machine, must, running, wait_until
from benchmarks.processes import BenchError

CLIENTS = 20
PROBE = 0.5
ROUNDS = 3
AFTER = 2.0  # seconds of requests after the origin is found sick


@dataclass
class Client(threading.Thread):
    """Requests the hot key over and over, on one connection."""

    port: int
    stop: threading.Event
    answers: list[tuple[float, float, int, str]] = field(default_factory=list)  # began, ended, status, Cache-Status

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        while not self.stop.is_set():
            began = time.perf_counter()
            connection.request("GET", "/hot")
            answer = connection.getresponse()
            answer.read()
            self.answers.append((began, time.perf_counter(), answer.status, answer.headers["cache-status"] or ""))
            self.stop.wait(0.005)
        connection.close()


def measure(machine: Machine) -> list[Figure]:
    waited: list[float] = []
    later: list[float] = []
    verdicts: list[float] = []
    with running(machine, workers=2, environment={"FAULTS_PROBE": str(PROBE)}) as edge:
        for _ in range(ROUNDS):
            wait_until(lambda: healthy(edge), 20, "a healthy origin")
            must(edge.port, "/hot")
            frozen, verdict, answers = freeze(edge)
            verdicts.append(verdict - frozen)
            wrong = [answer for answer in answers if answer[2] != 200]
            if wrong:
                raise BenchError(f"{len(wrong)} of {len(answers)} answers were not 200: {wrong[0]}")
            waited.append(max((ended - verdict for began, ended, *_ in answers if began < verdict), default=0.0))
            if not any(began < verdict < ended for began, ended, *_ in answers):
                raise BenchError("nobody waited when the verdict came")
            if any("detail=stale-if-error" not in answer[3] for answer in answers if answer[0] >= verdict):
                raise BenchError("not every answer after the verdict was the stale copy")
            came = [ended - began for began, ended, *_ in answers if began >= verdict]
            if not came:
                raise BenchError("nobody was answered after the verdict")
            later.append(max(came))
    return [
        Figure(f"from SIGSTOP to the verdict (probes every {PROBE:g} s, two must fail)", verdicts, "s", form=".2f"),
        Figure(
            "stale copy for those who waited, after the verdict", [max(0.0, each) for each in waited], "s", 1, ".3f"
        ),
        Figure("longest wait of those who came after it", later, "s", 1, ".3f"),
    ]


def freeze(edge: Edge) -> tuple[float, float, list[tuple[float, float, int, str]]]:
    """The times at which the origin froze and was found frozen, and the clients' answers."""
    stop = threading.Event()
    clients = [Client(edge.port, stop) for _ in range(CLIENTS)]
    os.kill(edge.origin.pid, signal.SIGSTOP)
    frozen = time.perf_counter()
    try:
        for client in clients:
            client.start()
        wait_until(lambda: not healthy(edge), 20, "the verdict", 0.005)
        verdict = time.perf_counter()
        time.sleep(AFTER)
        stop.set()
        for client in clients:
            client.join(40)
    finally:
        os.kill(edge.origin.pid, signal.SIGCONT)
    return frozen, verdict, [answer for client in clients for answer in client.answers]


def healthy(edge: Edge) -> bool:
    return edge.metric(r'edgerouter_origin_healthy\{origin="origin"\}') == 1
