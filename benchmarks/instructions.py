#!/usr/bin/env python3
"""Counts user instructions a request of the edge by callgrind, and keeps them within a budget.

The edge runs under valgrind with one worker; one client sends requests one after the other on one connection. After a
warm-up the counting is switched on, and the count is divided by the requests sent since.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from benchmarks import budget, servers, works
from benchmarks.budget import Budget
from benchmarks.machine import version
from benchmarks.processes import BenchError, Child, exit_status, free_port
from benchmarks.servers import Place
from benchmarks.telemetry import Receiver
from benchmarks.works import Answer, Work

FILE = servers.HERE / "instructions.toml"
INSTALL = "scripts/install-packages"
SECRET = "a" * 64
WARM = 500
AT_ONCE = 2
TRIES = 3
MOVED = "is not called inline any more"
PATIENCE = 120.0  # seconds to start and to stop: a program under valgrind runs about fifty times slower
# The processors whose counts the budget is for. Valgrind shows a program on any other an older CPU, or an unlike one.
COMPARABLE = "x86_64 with AVX2"
# The variables that a program cannot do without; no other one of the machine's reaches the program that is counted.
KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
# Valgrind shows programs a CPU of 2013 with AVX2. The C library would choose its functions for memory and text by that
# CPU's features and caches; these are the choices that it makes there, made for whatever CPU valgrind will show.
TUNABLES = {
    "glibc.cpu.hwcaps": "-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-RTM,-FSRM,-Prefer_ERMS,-Prefer_FSRM",
    "glibc.cpu.x86_data_cache_size": "0x8000",
    "glibc.cpu.x86_shared_cache_size": "0x800000",
    "glibc.cpu.x86_non_temporal_threshold": "0x200000",
    "glibc.cpu.x86_rep_movsb_threshold": "0x2000",
    "glibc.cpu.x86_rep_stosb_threshold": "0x800",
}


class MovedError(BenchError):
    """An inline callable took too long, as the machine is busy, so the rest of its calls went through the queue."""


@dataclass(frozen=True)
class Counted:
    """A work, the requests to divide by, and its tolerance as a share of the budget."""

    work: Work
    requests: int = 2000
    tolerance: float = 0.03
    watched: bool = False
    """With an access log, and traces of 1 % of the requests."""


class UnderCallgrind(servers.Edgerouter):
    """The edge of the benchmark, counted. Nothing is counted until ``count`` says so."""

    def __init__(self, python: str, receiver: int | None = None) -> None:
        super().__init__(python)
        self.receiver = receiver

    def _child(self, place: Place, command: list[str], environment: Mapping[str, str] | None = None) -> Child:
        counting = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", "--fair-sched=try"]
        counting.append(f"--callgrind-out-file={place.scratch / 'callgrind.out'}")
        # With one thread for functions none takes a few calls only, and is left out like a thread of timers.
        fixed = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", "BENCH_THREADS": "1"}
        fixed["GLIBC_TUNABLES"] = ":".join(f"{name}={value}" for name, value in TUNABLES.items())
        if self.receiver is not None:
            command = [*command, "--access-log", str(place.scratch / "access.log"), "--access-log-format", "json"]
            fixed["BENCH_TRACES"] = f"http://127.0.0.1:{self.receiver}"
        child = super()._child(place, counting + command)
        child.environment = {**kept_environment(), **(environment or {}), **fixed}
        return child


def kept_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def counted() -> list[Counted]:
    """All works. A path may hold the number of the request."""
    known = {work.key: work for work in works.works(SECRET)}
    validator = {"if-none-match": '"bench-1024"'}
    return [
        Counted(known["hit-1k"]),
        Counted(
            Work("hit-watched", "cached hit, 1 KiB, logged and traced", "/hit/1k", False, works.body_is(works.BODY_1K)),
            tolerance=0.05,
            watched=True,
        ),
        Counted(known["jwt-1k"]),
        Counted(Work("hit-304", "cached hit, conditional", "/hit/1k", False, is_not_modified, validator)),
        Counted(Work("hit-206", "cached hit, range", "/hit/1k", False, is_a_range, {"range": "bytes=100-199"})),
        Counted(Work("miss-1k", "miss, stored, 1 KiB", "/hit/sized/{:08}/1024", True, works.body_is(works.BODY_1K))),
        Counted(known["pass-1k"]),
        Counted(known["function-inline"]),
        Counted(known["function"], tolerance=0.10),  # two threads, whose turns are not the same each time
        Counted(
            Work("hook", "cached hit, 1 KiB, inline hook", "/hook/1k", False, works.body_is(works.BODY_1K)),
        ),
    ]


def is_not_modified(answer: Answer) -> None:
    if answer.status != 304 or answer.body:
        raise works.WrongAnswerError(f"status {answer.status} with {len(answer.body)} bytes, not 304 without a body")


def is_a_range(answer: Answer) -> None:
    if answer.status != 206 or answer.body != works.BODY_1K[100:200]:
        raise works.WrongAnswerError(
            f"status {answer.status} with {len(answer.body)} bytes, not 206 with bytes 100–199"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return exit_status(lambda: bench(options))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions", description=(__doc__ or "").split("\n\n")[0]
    )
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--check", action="store_true", help="exit 1 when a work exceeds its budget")
    wanted.add_argument("--write", action="store_true", help=f"make the figures the budget, in {FILE.name}")
    parser.add_argument("--works", help="only these, comma-separated: " + ", ".join(one.work.key for one in counted()))
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the release wheel")
    return parser.parse_args(arguments)


def bench(options: argparse.Namespace) -> int:
    chosen = choose(options.works)
    check_machine(options.python)
    if options.check and processor() != COMPARABLE:
        raise BenchError(f"the budget is for {COMPARABLE}; what {processor()} counts cannot be compared with it")
    now = count_all(chosen, options.python)
    tools = counted_with(options.python)
    kept = Budget.read(FILE)
    found = budget.compare(kept.figures, now, {one.work.key: one.tolerance for one in chosen})
    print("\n".join(budget.table(found)))
    if kept.counted_with not in ("", tools):
        print(f"\nThe budget was counted with {kept.counted_with}; this is {tools}.")
    if options.write:
        Budget(tools, {**(kept.figures if options.works else {}), **now}).write(FILE)
        print(f"\nbudget: {FILE}")
        return 0
    for one in found:
        if one.exceeds or one.improves:
            print(f"bench: {one}", file=sys.stderr)
    return 1 if options.check and any(one.exceeds for one in found) else 0


def choose(wanted: str | None) -> list[Counted]:
    known = {one.work.key: one for one in counted()}
    keys = [key.strip() for key in wanted.split(",")] if wanted else list(known)
    if unknown := set(keys) - set(known):
        raise BenchError(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [known[key] for key in keys]


def check_machine(python: str) -> None:
    for program in ("valgrind", "callgrind_control", "taskset"):
        if shutil.which(program) is None:
            raise BenchError(f"{program} is not installed; run {INSTALL}")
    edge = servers.Edgerouter(python)
    if edge.missing:
        raise BenchError(edge.missing)
    if "not an installed wheel" in edge.version:
        raise BenchError(f"{python} has edgerouter {edge.version}; only a release wheel is counted: make instructions")


def counted_with(python: str) -> str:
    """Valgrind shows programs a CPU of its own, so the model of the machine's is no part of it; its AVX2 is."""
    interpreter = version([python, "-V"], r"(Python [\d.]+)")
    valgrind = version(["valgrind", "--version"], r"valgrind-([\d.]+)")
    return f"{interpreter}, {processor()}, valgrind {valgrind}"


def processor() -> str:
    cpu = Path("/proc/cpuinfo")
    avx2 = " with AVX2" if cpu.exists() and re.search(r"\bavx2\b", cpu.read_text()) else ""
    return platform.machine() + avx2


def count_all(chosen: Sequence[Counted], python: str) -> dict[str, int]:
    """Each work has processes of its own, so those at the same time do not change each other's counts."""
    servers.compile_c("origin")
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[:AT_ONCE]:
        cores.put(core)
    pool = ThreadPoolExecutor(cores.qsize())
    try:
        running = [pool.submit(count, one, python, cores) for one in chosen]
        return {one.work.key: future.result() for one, future in zip(chosen, running, strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)


def count(one: Counted, python: str, cores: SimpleQueue[int]) -> int:
    """User instructions of one request, counted on a core that is free."""
    core = cores.get()
    try:
        for _ in range(TRIES - 1):
            with suppress(MovedError):
                return count_once(one, python, core)
        return count_once(one, python, core)
    finally:
        cores.put(core)


def count_once(one: Counted, python: str, core: int) -> int:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-instructions-")))
        port = free_port()
        command = [str(servers.compile_c("origin")), str(port)]
        stack.enter_context(Child("origin", command, core, scratch / "origin.log")).wait_until_listening(port)
        edge = UnderCallgrind(python, Receiver().port if one.watched else None)
        child = stack.enter_context(edge.child(Place(core, scratch, port, SECRET)))
        try:
            wait_until_serving(child, edge.port)
            connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
            stack.callback(connection.close)
            send(connection, one.work, range(WARM), warm_up=True)
            before = works.origin_count(port)
            switch(child, "on")
            send(connection, one.work, range(WARM, WARM + one.requests))
            switch(child, "off")
            works.check_origin(one.work, one.requests, works.origin_count(port) - before)
            child.stop(PATIENCE)
            total = budget.of_requests(totals(scratch))
            if not total:
                raise BenchError("callgrind counted nothing")
        except BenchError as error:
            raise BenchError(f"{one.work.key}: {error}\nthe log says:\n{child.log_tail()}") from error
        if MOVED in child.log.read_text(errors="replace"):
            raise MovedError(f"{one.work.key}: {child.log_tail()}\nThe machine is too busy or too slow; count again.")
        return round(total / one.requests)


def wait_until_serving(child: Child, port: int) -> None:
    """Waits for a response. At its start the edge listens for a moment only to learn whether the address is free."""
    child.wait_until_listening(port, PATIENCE)
    with suppress(works.WrongAnswerError):
        works.get(port, "/", {})
        return
    child.wait_until_listening(port, PATIENCE)
    works.get(port, "/", {})


def send(connection: http.client.HTTPConnection, work: Work, numbers: range, warm_up: bool = False) -> None:
    """Sends a request for each number, and proves each response but those that fill the cache.

    The head has ``Host`` and the work's fields only.
    """
    for number in numbers:
        try:
            connection.putrequest("GET", work.path.format(number), skip_accept_encoding=True)
            for name, value in work.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise works.WrongAnswerError(f"request {number}: {error!r}") from error
        if response.will_close:
            raise works.WrongAnswerError("the connection was not kept alive")
        if not warm_up:
            work.expect(answer)


def switch(child: Child, state: str) -> None:
    command = ["callgrind_control", "-i", state, str(child.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise BenchError(f"callgrind_control failed: {(done.stderr or done.stdout).strip()}")


def totals(folder: Path) -> list[int]:
    """The instructions of each thread, from the files that callgrind writes at the end."""
    files = sorted(folder.glob("callgrind.out-*"))
    found = [re.search(r"^totals: (\d+)", file.read_text(), re.MULTILINE) for file in files]
    return [int(one[1]) for one in found if one]


if __name__ == "__main__":
    raise SystemExit(main())
