#!/usr/bin/env python3
"""Starts the storefront demo, lets locust visit it, disturbs it meanwhile, and fails on any lost or wrong answer.

``python -m loadtests.run`` from the root of the repository, in an environment with edgerouter and locust. At a third
of the time one replica of the origin is killed, at half of it started again, and at two thirds the edge is made to
reload (SIGHUP). Visitors must not notice any of it.

LOADTEST_SECONDS (60), LOADTEST_USERS (50)  how long and how many
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "examples" / "storefront"
REPORT = Path(__file__).resolve().parent / "report.html"

# Each must have been requested at least once, or the run has not tested what it is for.
EXPECTED = (
    *("page: home", "page: product", "page: revalidated", "style sheet", "image", "login"),
    *("api: account", "api: account, forged identity", "api: products"),
    *("bad: no token", "bad: token", "bad: malformed URL", "bad: oversized header", "bad: slow reader"),
)


class LoadTestError(Exception):
    """Something the person who runs the load test can act on."""


class Program:
    """A child that is stopped at the end, whatever happens; only ever this child and its own children."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.environment = {**os.environ, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Program:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGTERM)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=ROOT,
                start_new_session=True,
            )

    def stop(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_for(self, url: str, patience: float = 30.0) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not self.alive():
                raise LoadTestError(f"{self.name} exited at start:\n{self.log.read_text(errors='replace')[-2000:]}")
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    answer.read()
                    return
            except OSError:  # refused, or not ready yet (a 503 is an OSError here, too)
                time.sleep(0.05)
        raise LoadTestError(f"{self.name} did not answer {url} within {patience:g} s; see {self.log}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description=__doc__.split("\n\n")[0])
    # A default that is text is read as if it had been typed, and refused in the same words.
    parser.add_argument("--seconds", type=positive, default=os.environ.get("LOADTEST_SECONDS", "60"))
    parser.add_argument("--users", type=positive, default=os.environ.get("LOADTEST_USERS", "50"))
    parser.add_argument("--host", help="visit a demo that already runs here; nothing is started, killed or reloaded")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for module in ["locust"] + ["edgerouter"] * (not options.host):
            if importlib.util.find_spec(module) is None:
                raise LoadTestError(
                    f"{module} is not installed here; try: {sys.executable} -m pip install '.[loadtest]'"
                )
        return visit(options) if options.host else start_and_visit(options)
    except LoadTestError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("loadtest: stopped", file=sys.stderr)
        return 130


def positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number ≥ 1")
    return int(text)


def start_and_visit(options: argparse.Namespace) -> int:
    if not DEMO.is_dir():
        raise LoadTestError(f"{DEMO.relative_to(ROOT)} is missing")
    ports = {name: free_port() for name in ("first", "second", "edge", "admin")}
    environment = {"JWT_SECRET": secrets.token_hex(32)}
    environment["STOREFRONT_ORIGINS"] = " ".join(f"http://127.0.0.1:{ports[name]}" for name in ("first", "second"))
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-loadtest-")))

        def program(name: str, *command: str) -> Program:
            return stack.enter_context(Program(name, [sys.executable, *command], logs / f"{name}.log", environment))

        replicas = [
            program(name, str(DEMO / "origin.py"), "--port", str(ports[name]), "--name", name)
            for name in ("first", "second")
        ]
        for replica in replicas:
            replica.wait_for(f"http://127.0.0.1:{ports[replica.name]}/")
        listen, admin = f"127.0.0.1:{ports['edge']}", f"127.0.0.1:{ports['admin']}"
        # The authority of its certificate is made for this run: nothing of the user's is read or written.
        environment["XDG_DATA_HOME"] = str(logs)
        own = ("--tls-self-signed", "--listen", listen, "--admin", admin)
        edge = program("edge", "-m", "edgerouter", "run", str(DEMO / "app.py"), *own)
        edge.wait_for(f"http://{admin}/readyz")
        options.host = f"https://{listen}"

        def reload_plan() -> None:
            assert edge.process is not None
            edge.process.send_signal(signal.SIGHUP)

        disturbances = [
            (1 / 3, "killed one origin", lambda: replicas[0].stop(signal.SIGKILL)),
            (1 / 2, "started it again", replicas[0].start),
            (2 / 3, "told the edge to reload", reload_plan),
        ]
        code = visit(options, disturbances)
        if not edge.alive():
            print(f"loadtest: the edge died:\n{edge.log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            return 1
        print_metrics(f"http://{admin}/metrics")
        return code


def visit(options: argparse.Namespace, disturbances: list[tuple[float, str, Callable[[], None]]] | None = None) -> int:
    """Runs locust and the disturbances; 0 when nothing was lost, wrong or left out."""
    with tempfile.TemporaryDirectory(prefix="edgerouter-locust-") as results:
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py"), "--headless"]
        command += ["--host", options.host, "-u", str(options.users), "-r", str(max(1, options.users // 3))]
        command += ["-t", f"{options.seconds}s", "--stop-timeout", "15", "--only-summary", "--exit-code-on-error", "1"]
        command += ["--html", str(REPORT), "--csv", str(Path(results) / "load")]
        log = Path(results) / "locust.log"
        print(f"loadtest: {options.users} visitors for {options.seconds} s at {options.host}", flush=True)
        started = time.monotonic()
        with Program("locust", command, log, {}) as locust:
            for share, what, act in disturbances or []:
                if not sleep_while(locust, started + share * options.seconds):
                    break
                act()
                print(f"loadtest: {time.monotonic() - started:5.1f} s  {what}", flush=True)
            sleep_while(locust, started + options.seconds + 60)
            if locust.alive():
                raise LoadTestError("locust did not end in time")
            code = locust.process.returncode if locust.process else 1
        rows = read_csv(Path(results) / "load_stats.csv")
        failures = read_csv(Path(results) / "load_failures.csv")
        if not rows:
            raise LoadTestError(f"locust gave no figures:\n{log.read_text(errors='replace')[-3000:]}")
    return judge(rows, failures, code)


def judge(rows: list[dict[str, str]], failures: list[dict[str, str]], code: int) -> int:
    print(f"\n{'':34}{'requests':>10}{'failures':>10}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>9}")
    for row in rows:
        name, most = row["Name"], float(row["Max Response Time"] or 0)
        print(
            f"{name:34}{row['Request Count']:>10}{row['Failure Count']:>10}{row['50%']:>8}{row['99%']:>8}{most:>9.0f}"
        )
    for failure in failures:
        print(f"wrong: {failure['Occurrences']} × {failure['Name']}: {failure['Error']}")
    missing = [
        name for name in EXPECTED if not any(row["Name"] == name and row["Request Count"] != "0" for row in rows)
    ]
    if missing:
        print(f"wrong: never asked: {', '.join(missing)}")
    failed = bool(failures or missing or code)
    print(f"\nloadtest: {'FAILED' if failed else 'every answer was right'}; report: {REPORT.relative_to(ROOT)}")
    return 1 if failed else 0


def print_metrics(url: str) -> None:
    """The edge's own account of the run, where it has one line for all."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError as error:
        print(f"loadtest: no metrics: {error}")
        return
    wanted = ("cache", "reload", "plan", "failover", "jwt")
    for line in lines:
        if (
            not line.startswith("#")
            and "_bucket" not in line
            and any(word in line.partition("{")[0] for word in wanted)
        ):
            print(f"  {line}")


def sleep_while(program: Program, until: float) -> bool:
    """Waits until a moment, less when the program ends before: False then."""
    while program.alive():
        left = until - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, 0.2))
    return False


def read_csv(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    raise SystemExit(main())
