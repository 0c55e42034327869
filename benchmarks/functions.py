#!/usr/bin/env python3
"""Measures functions beside granian, uvicorn, robyn, workerd and Deno: ``python -m benchmarks.functions``.

Each server has one worker on one core, the generator another core; the rounds are interleaved. The figure is CPU time
of the server for each request; then the time from the start of a process to its first answer, and its memory before
and after load. Needs ``benchmarks/install-peers``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import generator, machine, report, run, works
from benchmarks.function_peers import PEERS, Peer
from benchmarks.processes import BenchError, Child, exit_status
from benchmarks.servers import HERE, INSTALL, Edgerouter, Place, Server
from benchmarks.works import Answer, Work, WrongAnswerError

FUNCTIONS = frozenset({"hello", "json", "stream", "form"})
FETCHES = FUNCTIONS | {"page"}
MIB = 1 << 20
SCRIPT = """
const PIECE = new Uint8Array(65536).fill(120);
export async function answer(request, origin) {
  const path = new URL(request.url).pathname;
  const [, kind, name] = path.split("/");
  if (kind === "fn") return new Response(`hello ${name}`);
  if (kind === "json") return Response.json({ hello: name, agent: request.headers.get("user-agent") });
  if (kind === "form") return new Response(`hello ${(await request.formData()).get("name")}`);
  if (kind === "page") return fetch(`http://127.0.0.1:${origin}/hit/1k`);
  let left = 16;
  return new Response(new ReadableStream({
    pull(controller) {
      if (left-- > 0) controller.enqueue(PIECE.slice());
      else controller.close();
    },
  }));
}
"""


def text_is(text: str) -> Callable[[Answer], None]:
    def expect(answer: Answer) -> None:
        if answer.status != 200 or answer.body != text.encode():
            raise WrongAnswerError(f"{answer.status} {answer.body[:200]!r}, not {text!r}")

    return expect


def json_is(value: object) -> Callable[[Answer], None]:
    def expect(answer: Answer) -> None:
        if answer.status != 200 or json.loads(answer.body) != value:
            raise WrongAnswerError(f"{answer.status} {answer.body[:200]!r}, not {value!r}")

    return expect


def is_a_mebibyte(answer: Answer) -> None:
    if answer.status != 200 or answer.body != b"x" * MIB:
        raise WrongAnswerError(f"{answer.status} with {len(answer.body)} bytes, not a MiB of x")


def known() -> list[Work]:
    agent = {"user-agent": "bench"}
    return [
        Work("hello", "text with a parameter of the path", "/fn/world", None, text_is("hello world")),
        Work("json", "JSON", "/json/world", None, json_is({"hello": "world", "agent": "bench"}), headers=agent),
        Work("stream", "1 MiB streamed in 16 pieces", "/stream", None, is_a_mebibyte, connections=16),
        Work("form", "POST of a form", "/form", None, text_is("hello world"), form="name=world&other=1"),
        Work(
            "page",
            "fetch of a page",
            "/page",
            None,
            works.body_is(works.BODY_1K),
            note="edgerouter takes the page from its cache; the others have none and fetch it from the origin, in C.",
        ),
        Work(
            "web",
            "an application of FastAPI",
            "/app/items/7?q=x",
            None,
            json_is({"item": 7, "q": "x"}),
            note="edgerouter mounts it under /app.",
        ),
    ]


class Functions(Edgerouter):
    def __init__(self, python: str, *, web: bool = False) -> None:
        super().__init__(python)
        self.works = frozenset({"web"}) if web else FETCHES
        self.web = web
        if web:
            self.name = "edgerouter, mounted"

    def child(self, place: Place) -> Child:
        command = [self.python, "-m", "edgerouter", "run", str(HERE / "functions_app.py")]
        command += ["--listen", f"127.0.0.1:{self.port}", "--workers", "1"]
        environment = {"BENCH_ORIGIN": str(place.origin), "BENCH_WEB": str(int(self.web))}
        return self._child(place, command, environment | {"PYTHONPATH": str(HERE.parent) if self.web else ""})


class Granian(Peer):
    def __init__(self, *, web: bool = False) -> None:
        super().__init__("granian ASGI" if web else "granian RSGI", PEERS / "bin" / "granian", r"granian ([\d.]+)")
        self.works = frozenset({"web"}) if web else FUNCTIONS
        self.application = "benchmarks.web_app:app" if web else "benchmarks.functions_peer_app:rsgi"
        self.interface = "asginl" if web else "rsgi"

    def child(self, place: Place) -> Child:
        command = [str(self.program), "--interface", self.interface, "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--runtime-threads", "1", "--runtime-mode", "st", "--loop", "uvloop"]
        command += ["--http", "1", "--no-ws", "--backlog", "4096", "--backpressure", "4096", "--log-level", "warning"]
        return self._child(place, [*command, "--working-dir", str(HERE.parent), self.application])


class Uvicorn(Peer):
    def __init__(self, *, web: bool = False) -> None:
        super().__init__("uvicorn", PEERS / "bin" / "uvicorn", r"uvicorn ([\d.]+)")
        self.works = frozenset({"web"}) if web else FUNCTIONS
        self.application = "benchmarks.web_app:app" if web else "benchmarks.functions_peer_app:asgi"
        if web:
            self.name = "uvicorn, FastAPI"

    def child(self, place: Place) -> Child:
        command = [str(self.program), "--host", "127.0.0.1", "--port", str(self.port), "--loop", "uvloop"]
        command += ["--http", "httptools", "--ws", "none", "--lifespan", "off", "--interface", "asgi3"]
        command += ["--no-access-log", "--no-server-header", "--backlog", "4096", "--log-level", "warning"]
        return self._child(place, [*command, "--app-dir", str(HERE.parent), self.application])


class Robyn(Peer):
    def __init__(self) -> None:
        super().__init__("robyn", PEERS / "bin" / "robyn", r"([\d]+\.[\d.]+)")
        self.works = FUNCTIONS

    def child(self, place: Place) -> Child:
        command = [str(PEERS / "bin" / "python"), str(HERE / "functions_robyn_app.py"), "--processes", "1"]
        command += ["--workers", "1", "--log-level", "WARN", "--disable-openapi", str(self.port)]
        return self._child(place, command)


class Workerd(Peer):
    def __init__(self) -> None:
        super().__init__("workerd", PEERS / "node_modules" / ".bin" / "workerd", r"workerd ([\d-]+)")
        self.works = FETCHES

    def child(self, place: Place) -> Child:
        script = f"{SCRIPT}\nexport default {{ fetch: (request) => answer(request, {place.origin}) }};\n"
        (place.scratch / "functions.js").write_text(script)
        file = place.scratch / "functions.capnp"
        file.write_text(f"""
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "functions.js", esModule = embed "functions.js")],
      compatibilityDate = "2026-01-01",
    )),
    (name = "internet", network = (allow = ["private"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:{self.port}", http = (), service = "main")],
);
""")
        return self._child(place, [str(self.program), "serve", str(file)])


class Deno(Peer):
    def __init__(self) -> None:
        super().__init__("Deno", PEERS / "node_modules" / ".bin" / "deno", r"deno ([\d.]+)")
        self.works = FETCHES

    def child(self, place: Place) -> Child:
        serve = f"Deno.serve({{ hostname: '127.0.0.1', port: {self.port}, onListen() {{}} }}, "
        file = place.scratch / "functions_deno.mjs"
        file.write_text(f"{SCRIPT}\n{serve}(request) => answer(request, {place.origin}));\n")
        return self._child(place, [str(self.program), "run", "--no-check", "--allow-net", str(file)])


def everybody(python: str) -> list[Server]:
    return [
        Functions(python),
        Granian(),
        Uvicorn(),
        Robyn(),
        Workerd(),
        Deno(),
        Functions(python, web=True),
        Granian(web=True),
        Uvicorn(web=True),
    ]


def resident(child: Child) -> int:
    """KiB of all processes that the child consists of."""
    session, found = child.pid, 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                status = (folder / "status").read_text()
                found += int(status.partition("VmRSS:")[2].split()[0] if "VmRSS:" in status else 0)
        except (OSError, ValueError):
            continue
    return found


def starts(chosen: Sequence[Server], plan: run.Plan, origin: int, scratch: Path) -> list[str]:
    """Time to the first answer, and memory, of a process of its own."""
    lines = ["### start and memory", "", "| server | first answer, ms | min–max | RSS idle, MiB | after load |"]
    lines.append("|---|---:|---:|---:|---:|")
    first = {"web": "/app/items/7?q=x"}
    path = {server.name: first.get(next(iter(server.works)), "/fn/world") for server in chosen}
    for server in chosen:
        taken, idle, loaded = [], 0, 0
        for number in range(plan.rounds):
            home = scratch / f"start-{server.name}-{number}".replace(" ", "-").replace(",", "")
            home.mkdir()
            began = time.monotonic()
            with server.child(Place(plan.core, home, origin, "")) as child:
                taken.append((answered(child, server.port, path[server.name]) - began) * 1_000)
                if number == plan.rounds - 1:
                    time.sleep(1)
                    idle = resident(child)
                    generator.wrk(plan.generator_core, server.port, path[server.name], 2, {}, plan.connections)
                    loaded = resident(child)
        spread = f"{min(taken):.0f}–{max(taken):.0f}"
        row = f"| {server.name} | {statistics.median(taken):.0f} | {spread} | {idle / 1024:.0f} | {loaded / 1024:.0f} |"
        lines.append(row)
    return [*lines, ""]


def answered(child: Child, port: int, path: str) -> float:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if works.get(port, path, {}).status == 200:
                return time.monotonic()
        except WrongAnswerError:
            if not child.alive():
                break
        time.sleep(0.0005)
    raise BenchError(f"{child.name} did not start: {child.log.read_text()[-2000:]}")


def bench(options: argparse.Namespace) -> int:
    plan = run.Plan(options.rounds, options.seconds, 0, 1, 64)
    run.check_machine(plan)
    wanted = known()
    if options.works:
        keys = options.works.split(",")
        if unknown := set(keys) - {work.key for work in wanted} - {"start"}:
            raise BenchError(f"no such work: {', '.join(sorted(unknown))}")
        wanted = [work for work in wanted if work.key in keys]
    chosen = everybody(options.python)
    present = [one for one in chosen if one.missing is None]
    missing = [one for one in chosen if one.missing is not None]
    if not present:
        raise BenchError(f"nothing to measure; run {INSTALL}")
    versions = {one.name: one.version for one in present}
    print("\n".join(report.machine_lines(machine.describe(), versions, str(plan))), flush=True)
    for one in missing:
        print(f"Without {one.name}: {one.missing}", flush=True)
    problems: list[str] = []
    with run.started(present, plan, "") as (running, origin):
        for work in wanted:
            print("\n".join(report.work_table(run.measure(work, running, missing, plan, origin, problems))), flush=True)
    if not options.works or "start" in options.works.split(","):
        with run.started([], plan, "") as (_, origin), tempfile.TemporaryDirectory() as scratch:
            print("\n".join(starts(present, plan, origin.port, Path(scratch))), flush=True)
    for problem in problems:
        print(f"- {problem}")
    return 1 if any(not problem.startswith("noise: ") for problem in problems) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.functions", description=__doc__.split("\n\n")[0])
    keys = ", ".join(work.key for work in known())
    parser.add_argument("--works", help=f"only these, comma-separated: {keys}, start")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has edgerouter installed")
    options = parser.parse_args(arguments)
    return exit_status(lambda: bench(options))


if __name__ == "__main__":
    raise SystemExit(main())
