#!/usr/bin/env python3
"""Measures edgerouter beside nginx, Varnish, HAProxy and servers of functions: ``python -m benchmarks``.

Each server has one worker on one core, the generator another core. The rounds are interleaved (A B C D, A B C D, …),
so that a machine that gets slower or faster meanwhile does so for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # run as a file: make the package importable, its modules not top-level names
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import function_peers, generator, isolation, machine, report, servers, works
from benchmarks.processes import BenchError, Child, exit_status, free_port
from benchmarks.report import Figures, Sample
from benchmarks.servers import Place, Server
from benchmarks.works import Work

NOISE = 0.05  # a round in which others (or the host) took more than this share of a core is measured again,
REPEATS = 3  # at most so often; the quietest counts


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: float
    core: int
    generator_core: int
    connections: int

    def __str__(self) -> str:
        return (
            f"{self.rounds} interleaved rounds of {self.seconds:g} s; each server: 1 worker on core {self.core}; "
            f"wrk -t1 -c{self.connections} (keep-alive) and the origin on core {self.generator_core}; medians"
        )


@dataclass(frozen=True)
class Running:
    server: Server
    child: Child


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return exit_status(lambda: bench(options))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s: is everything in place?")
    parser.add_argument("--rounds", type=int, help="rounds of each work (default 5)")
    parser.add_argument("--seconds", type=float, help="seconds of each round (default 4)")
    parser.add_argument(
        "--works", help="only these, comma-separated: " + ", ".join(w.key for w in works.works("")) + ", spin"
    )
    parser.add_argument(
        "--servers",
        help="only these, comma-separated: raw, edgerouter, nginx, varnish, haproxy, granian, uvicorn, workerd",
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has edgerouter installed")
    parser.add_argument(
        "--json", type=Path, default=servers.HERE / "results" / "latest.json", help="where the figures go"
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        help="the tables go here too, between its benchmark:begin and benchmark:end comments if any",
    )
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--generator-core", type=int, default=1)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--enforce", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args(arguments)


def bench(options: argparse.Namespace) -> int:
    rounds, seconds = (2, 1.0) if options.quick else (5, 4.0)
    plan = Plan(
        options.rounds or rounds,
        options.seconds or seconds,
        options.server_core,
        options.generator_core,
        options.connections,
    )
    check_machine(plan)
    secret = secrets.token_hex(32)
    chosen_works, spin = choose_works(options.works, secret)
    present, missing = choose_servers(options)
    if not present:
        raise BenchError("nothing to measure: " + "; ".join(f"{s.name}: {s.missing}" for s in missing))
    described = machine.describe()
    versions = {server.name: server.version for server in present}
    head = report.machine_lines(described, versions, str(plan))
    print("\n".join(head), flush=True)
    for server in missing:
        print(f"Without {server.name}: {server.missing}", flush=True)
    print(flush=True)

    problems: list[str] = []
    all_figures: list[Figures] = []
    found: list[isolation.Isolation] = []
    written: list[str] = []

    def show(lines: list[str]) -> None:
        written.extend(lines)
        print("\n".join(lines), flush=True)

    with started(present, plan, secret) as (running, origin):
        for work in chosen_works:
            figures = measure(work, running, missing, plan, origin, problems)
            all_figures.append(figures)
            show(report.work_table(figures))
        ours = next((one for one in running if one.server.name == report.US), None)
        if spin and ours:
            program = servers.compile_c("paced")
            cores = (plan.core, plan.generator_core)
            found = isolation.measure(ours.child, ours.server.port, program, cores, plan.rounds, plan.seconds)
            problems += [
                f"{'noise: ' * problem.startswith('noise: ')}spin: {one.placement}: {problem.removeprefix('noise: ')}"
                for one in found
                for problem in one.problems
            ]
            show(report.isolation_table(found))

    judged = report.target_results(all_figures, found)
    show(report.target_table(judged))
    if problems:
        show(["### problems", "", *(f"- {problem}" for problem in problems), ""])
    options.json.parent.mkdir(parents=True, exist_ok=True)
    data = report.as_json(described, versions, vars(plan), all_figures, found, problems)
    options.json.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    print(f"figures: {options.json}")
    if options.markdown:
        report.write_markdown(options.markdown, "\n".join([*(f"- {line}" for line in head), "", *written]))
        print(f"tables: {options.markdown}")
    missed = options.enforce and any(one.met is False for one in judged)
    return 1 if missed or any(not problem.startswith("noise: ") for problem in problems) else 0


def check_machine(plan: Plan) -> None:
    usable = os.sched_getaffinity(0)
    if not {plan.core, plan.generator_core} <= usable or plan.core == plan.generator_core:
        raise BenchError(f"needs two different cores; this process may use {sorted(usable)}")
    for program in ("wrk", "taskset"):
        if shutil.which(program) is None:
            raise BenchError(f"{program} is not installed; run {servers.INSTALL}")


def choose_works(wanted: str | None, secret: str) -> tuple[list[Work], bool]:
    known = works.works(secret)
    if not wanted:
        return known, True
    keys = [key.strip() for key in wanted.split(",")]
    unknown = set(keys) - {work.key for work in known} - {"spin"}
    if unknown:
        raise BenchError(f"no such work: {', '.join(sorted(unknown))}")
    return [work for work in known if work.key in keys], "spin" in keys


def choose_servers(options: argparse.Namespace) -> tuple[list[Server], list[Server]]:
    make: dict[str, Callable[[], Server]] = {
        "raw": lambda: servers.Raw(servers.compile_c("raw")),
        "edgerouter": lambda: servers.Edgerouter(options.python),
        "nginx": servers.Nginx,
        "varnish": servers.Varnish,
        "haproxy": servers.Haproxy,
        "granian": function_peers.Granian,
        "uvicorn": function_peers.Uvicorn,
        "workerd": function_peers.Workerd,
    }
    keys = [key.strip().lower() for key in options.servers.split(",")] if options.servers else list(make)
    unknown = set(keys) - set(make)
    if unknown:
        raise BenchError(f"no such server: {', '.join(sorted(unknown))}")
    known = [make[key]() for key in keys]
    return [one for one in known if one.missing is None], [one for one in known if one.missing is not None]


@contextmanager
def started(present: Sequence[Server], plan: Plan, secret: str) -> Iterator[tuple[list[Running], Child]]:
    """The origin and every server, listening; all stopped at the end. nginx's cache is kept in memory."""
    with ExitStack() as stack:
        memory = Path("/dev/shm")
        parent = memory if os.access(memory, os.W_OK) else None
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-bench-", dir=parent)))
        port = free_port()
        origin = stack.enter_context(
            Child("origin", [str(servers.compile_c("origin")), str(port)], plan.generator_core, scratch / "origin.log")
        )
        origin.wait_until_listening(port)
        origin.port = port
        running = []
        for server in present:
            child = stack.enter_context(server.child(Place(plan.core, scratch, port, secret)))
            child.wait_until_listening(server.port)
            running.append(Running(server, child))
        yield running, origin


def measure(
    work: Work, running: Sequence[Running], missing: Sequence[Server], plan: Plan, origin: Child, problems: list[str]
) -> Figures:
    figures = Figures(work)
    able: list[Running] = []
    for one in running:
        if work.key not in one.server.works:
            continue
        try:
            works.verify(work, one.server.port, origin.port)
        except works.WrongAnswerError as error:
            problems.append(f"{work.key}: {one.server.name} was not measured: {error}")
            figures.absent[one.server.name] = str(error)
            continue
        figures.samples[one.server.name] = []
        able.append(one)
    for server in missing:
        if work.key in server.works:
            figures.absent[server.name] = server.missing or ""
    for one in able:  # a second for caches, connections and branch predictors
        load(work, one, plan, 1)
    for number in range(plan.rounds):
        for one in tuple(able):
            note = f"{work.key}: round {number + 1} of {plan.rounds}: {one.server.name}"
            if sys.stderr.isatty():
                print(f"\r\033[K{note}", end="", file=sys.stderr, flush=True)
            try:
                figures.samples[one.server.name].append(quiet_sample(work, one, plan, origin))
            except works.WrongAnswerError as error:
                problems.append(f"{note}: {error}")
                figures.absent[one.server.name] = str(error)
                able = [other for other in able if other is not one]
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    noisy = [each.others for samples in figures.samples.values() for each in samples if each.others > NOISE]
    if noisy:
        problems.append(
            f"noise: {work.key}: in {len(noisy)} rounds something else took up to {max(noisy):.0%} of a core; "
            "trust the ratios less than the spread suggests"
        )
    return figures


def quiet_sample(work: Work, one: Running, plan: Plan, origin: Child) -> Sample:
    best = sample(work, one, plan, origin)
    for _ in range(REPEATS):
        if best.others <= NOISE:
            break
        best = min(best, sample(work, one, plan, origin), key=lambda each: each.others)
    return best


def sample(work: Work, one: Running, plan: Plan, origin: Child) -> Sample:
    reached = works.origin_count(origin.port)
    busy, cpu, clock = machine.busy_seconds(plan.core), one.child.cpu_seconds(), time.monotonic()
    stolen = machine.stolen_seconds(plan.generator_core)
    sent = load(work, one, plan, plan.seconds)
    cpu, clock = one.child.cpu_seconds() - cpu, time.monotonic() - clock
    stolen = machine.stolen_seconds(plan.generator_core) - stolen
    others = max(machine.busy_seconds(plan.core) - busy - cpu, stolen, 0.0) / clock
    if sent.problems:
        raise works.WrongAnswerError("; ".join(sent.problems))
    works.check_origin(work, sent.requests, works.origin_count(origin.port) - reached)
    return Sample(sent.per_second, sent.p50, sent.p99, cpu / sent.requests * 1e6, others)


def load(work: Work, one: Running, plan: Plan, seconds: float) -> generator.Load:
    connections = work.connections or plan.connections
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        text = work.script()
        file.write(text or "")
        file.flush()
        script = Path(file.name) if text else None
        arguments = (plan.generator_core, one.server.port, work.path, seconds, work.headers, connections, script)
        return generator.wrk(*arguments)


if __name__ == "__main__":
    raise SystemExit(main())
