"""The caches that are compared, bounded to the same bytes, and how what they hold is checked.

edgerouter   ``limits.cache.memory_bytes``: everything that an entry makes the process hold, overhead included. Checked
             by its own metric.
Varnish      ``-s malloc,BYTES``: what its objects allocate in the storage. Their heads (about 1 KiB each by its manual)
             come on top: that favours Varnish. Checked by ``SMA.s0.g_bytes``.
nginx        files of a cache directory in memory. ``max_size`` is enforced by a process that looks every ten seconds,
             and a quick replay overfills it several times meanwhile; what nginx enforces at once is the number of keys
             in ``keys_zone``. So the zone is made as large as brings the files to the bytes: the run is repeated
             with a corrected zone until they are within a few percent. Counted are the blocks that the files take.

Also shown: how much the resident memory of each server grew.
"""

from __future__ import annotations

import re
import subprocess
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import servers
from benchmarks.processes import BenchError, Child, family, free_port
from benchmarks.servers import Place

HERE = Path(__file__).resolve().parent
NGINX_NODE = 128  # bytes of the zone that one key takes


@dataclass
class Cache:
    """A server whose cache holds at most ``capacity`` bytes."""

    server: servers.Server
    capacity: int

    @property
    def name(self) -> str:
        return self.server.name

    def child(self, place: Place) -> Child:
        raise NotImplementedError

    def held(self, child: Child, place: Place) -> int:
        """Bytes that it says it holds."""
        raise NotImplementedError

    def adjust(self, held: int) -> bool:
        """True if the replay must be repeated with another setting, as the bytes were not the intended ones."""
        return False


@dataclass
class EdgerouterCache(Cache):
    admin: int = field(default_factory=free_port)
    disk: Path | None = None
    disk_bytes: int = 0

    def child(self, place: Place) -> Child:
        assert isinstance(self.server, servers.Edgerouter)
        command = [self.server.python, "-m", "edgerouter", "run", str(HERE / "app.py"), "--workers", "1"]
        command += ["--listen", f"127.0.0.1:{self.server.port}", "--admin", f"127.0.0.1:{self.admin}"]
        environment = {"BENCH_ORIGIN": str(place.origin), "BENCH_MEMORY": str(self.capacity)}
        if self.disk:
            environment |= {"BENCH_DISK": str(self.disk), "BENCH_DISK_BYTES": str(self.disk_bytes)}
        return Child(self.name, command, place.core, place.scratch / "edgerouter.log", environment)

    def held(self, child: Child, place: Place) -> int:
        return self.metric("edgerouter_cache_bytes")

    def metric(self, name: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(rf"^{name}(?:{{[^}}]*}})? (\d+)", text, re.MULTILINE)
        if not found:
            raise BenchError(f"edgerouter has no metric {name}")
        return int(found[1])


@dataclass
class VarnishCache(Cache):
    def child(self, place: Place) -> Child:
        home = place.scratch / "varnish"
        home.mkdir(exist_ok=True)
        home.chmod(0o755)
        (home / "default.vcl").write_text(servers.Varnish().configuration(place))
        command = [servers.program("varnishd"), "-F", "-j", "none", "-n", str(home / "work")]
        command += ["-f", str(home / "default.vcl"), "-a", f"127.0.0.1:{self.server.port},HTTP", "-T", "none"]
        command += ["-s", f"malloc,{self.capacity}b", "-s", "Transient=malloc"]
        for setting in ("thread_pools=1", "thread_pool_min=50", "nuke_limit=1000", "default_grace=0"):
            command += ["-p", setting]
        return Child(self.name, command, place.core, place.scratch / "varnish.log")

    def held(self, child: Child, place: Place) -> int:
        command = ["varnishstat", "-n", str(place.scratch / "varnish" / "work"), "-1", "-f", "SMA.s0.g_bytes"]
        out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
        found = re.search(r"SMA\.s0\.g_bytes\s+(\d+)", out)
        if not found:
            raise BenchError("varnishstat shows no SMA.s0.g_bytes")
        return int(found[1])


@dataclass
class NginxCache(Cache):
    zone: int = 0

    def child(self, place: Place) -> Child:
        home = place.scratch / "nginx"
        home.mkdir(exist_ok=True)
        self.zone = self.zone or self.capacity // 10_000 * NGINX_NODE
        text = servers.Nginx().configuration(place, home)
        text = re.sub(r"listen 127\.0\.0\.1:\d+", f"listen 127.0.0.1:{self.server.port}", text)
        text = re.sub(r"keys_zone=hit:32m", f"keys_zone=hit:{max(self.zone // 1024, 64)}k", text)
        text = re.sub(r"max_size=1g", f"max_size={2 * self.capacity}", text)
        # A file that is open is not gone when it is evicted.
        text = re.sub(r"^ *open_file_cache.*\n", "", text, flags=re.MULTILINE)
        (home / "nginx.conf").write_text(text)
        command = [servers.program("nginx"), "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")]
        return Child(self.name, command, place.core, place.scratch / "nginx.log")

    def held(self, child: Child, place: Place) -> int:
        return sum(
            file.stat().st_blocks * 512 for file in (place.scratch / "nginx" / "cache").rglob("*") if file.is_file()
        )

    def adjust(self, held: int) -> bool:
        ratio = held / self.capacity
        if 0.97 <= ratio <= 1.03:
            return False
        self.zone = round(self.zone / ratio)
        return True


def resident(child: Child) -> int:
    """Bytes of memory that the server and its descendants have to themselves or share with one another, as they are."""
    total = 0
    for pid in family(child.pid):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total


def caches(python: str, capacity: int, names: set[str] | None) -> list[Cache]:
    known: list[Cache] = [
        EdgerouterCache(servers.Edgerouter(python), capacity),
        VarnishCache(servers.Varnish(), capacity),
        NginxCache(servers.Nginx(), capacity),
    ]
    return [one for one in known if not names or one.name.lower() in names]
