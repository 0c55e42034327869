"""The machine of the figures, and its other load meanwhile."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import TICKS


def describe() -> dict[str, str]:
    cpu = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", _read("/proc/meminfo"), re.MULTILINE)
    system = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read("/etc/os-release"), re.MULTILINE)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {platform.release()}",
        "system": system[1] if system else "unknown",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or "not visible",
        "python": platform.python_version(),
    }


def prepare() -> None:
    """Allows this program and those that it starts all the open files there may be, and prints what the machine is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("  ".join(f"{name}: {value}" for name, value in describe().items()))


def version(command: Sequence[str], pattern: str) -> str:
    """The first match of ``pattern`` in what ``command`` prints, on either stream."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "unknown"


def busy_seconds(core: int) -> float:
    """Time that a core has spent on programs so far (user, nice, system; no interrupts), plus what the host stole."""
    user, nice, system, _idle, _wait, _irq, _softirq, stolen = _core_ticks(core)
    return (user + nice + system + stolen) / TICKS


def stolen_seconds(core: int) -> float:
    """Time that the host of a virtual machine gave to others although this core had work."""
    return _core_ticks(core)[7] / TICKS


def _core_ticks(core: int) -> list[int]:
    for line in _read("/proc/stat").splitlines():
        if line.startswith(f"cpu{core} "):
            return [int(field) for field in line.split()[1:9]]
    return [0] * 8


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
