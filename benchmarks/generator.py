"""The load: wrk for the limit of a server, ``paced`` for its tail latency at a fixed rate."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchError, pinned

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


@dataclass(frozen=True)
class Load:
    """Observations of one run of a generator. Latencies are in µs."""

    requests: int
    per_second: float
    p50: float
    p99: float
    problems: tuple[str, ...] = ()
    lost: int = 0
    p999: float = 0.0


def wrk(
    core: int,
    port: int,
    path: str,
    seconds: float,
    headers: Mapping[str, str],
    connections: int = 64,
    script: Path | None = None,
) -> Load:
    """``script``: a file in Lua that makes the requests, where they differ."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    if script is not None:
        command += ["-s", str(script)]
    if connections > 1_000:  # they take longer to open than wrk waits for a response
        command += ["--timeout", "60s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    out = _run(pinned(core, [*command, f"http://127.0.0.1:{port}{path}"]), seconds)
    return parse_wrk(out)


def parse_wrk(out: str) -> Load:
    """Reads wrk's report; raises when it is not one."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", out)
    p50 = re.search(r"^\s+50%\s+([\d.]+)(us|ms|s|m)", out, re.MULTILINE)
    p99 = re.search(r"^\s+99%\s+([\d.]+)(us|ms|s|m)", out, re.MULTILINE)
    if not (total and p50 and p99):
        raise BenchError(f"wrk gave no report:\n{out}")
    requests, seconds = int(total[1]), float(total[2]) * _UNITS[total[3]] / 1e6
    problems = re.findall(r"^\s*((?:Non-2xx or 3xx responses|Socket errors):.*)$", out, re.MULTILINE)
    if requests == 0:
        problems.append("no request was answered")
    return Load(
        requests=requests,
        per_second=requests / seconds,
        p50=float(p50[1]) * _UNITS[p50[2]],
        p99=float(p99[1]) * _UNITS[p99[2]],
        problems=tuple(problems),
    )


def paced(
    program: Path, core: int, port: int, path: str, rate: float, seconds: float, *, realtime: bool = False
) -> Load:
    """``realtime`` lets the generator go first on a core that it shares with a spinning thread."""
    command = [str(program), str(port), path, f"{rate:.0f}", f"{seconds:g}", "64"]
    if realtime:
        command = ["chrt", "-f", "1", *command]
    return read_paced(_run(pinned(core, command), seconds), seconds)


def read_paced(out: str, seconds: float = 0.0) -> Load:
    """The output of ``paced``."""
    seen = json.loads(out)
    problems = []
    if seen["errors"]:
        problems.append(f"{seen['errors']} connections failed")
    lost = seen["asked"] - seen["answered"]
    if lost > 0:
        problems.append(f"{lost} of {seen['asked']} requests were not answered in time")
    rate = seen["answered"] / seconds if seconds else 0.0
    return Load(seen["answered"], rate, seen["p50"], seen["p99"], tuple(problems), lost, seen["p999"])


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[3]} did not end within {seconds + 30:g} s") from None
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
