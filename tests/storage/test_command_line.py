"""The store as the command line says it, for any application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ..origins import Origin, Reply
from ..processes import Process, command
from .conftest import HOST, metric

PLAIN = """
from edgerouter import Edge

edge = Edge("test")
edge.route("/*", to=edge.origin("first", {url!r}))
"""
OWN = """
from edgerouter import CacheLimits, DiskCache, Edge, Limits

edge = Edge("test", limits=Limits(cache=CacheLimits(memory_bytes=8 << 20)), disk_cache=DiskCache({folder!r}, 8 << 20))
edge.route("/*", to=edge.origin("first", {url!r}))
"""
MIB = 1 << 20


class Site:
    def __init__(self, folder: Path, origin: Origin) -> None:
        self.folder = folder
        self.app = folder / "app.py"
        self.origin = origin
        self.process: Process | None = None

    def write(self, text: str) -> None:
        self.app.write_text(text.format(url=self.origin.url, folder=str(self.folder / "own")))

    def start(self, *arguments: str, **env: str) -> None:
        where = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        self.process = Process("run", str(self.app), *where, *arguments, env=env)
        found = self.process.wait_for(r"(http://[^ ]+)\n +(http://[^ ]+)  admin")
        self.url, self.admin = found[1], found[2]

    def metrics(self) -> str:
        return httpx.get(f"{self.admin}/metrics", timeout=20).text

    def memory(self) -> int:
        lines = self.metrics().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("edgerouter_cache_capacity_bytes ")))

    def end(self) -> None:
        if self.process is not None and self.process.process.poll() is None:
            self.process.end()


@pytest.fixture
def site(tmp_path: Path, origin: Origin) -> Iterator[Site]:
    origin.default = lambda seen: Reply(200, {"Cache-Control": "max-age=3600"}, seen.path)
    made = Site(tmp_path, origin)
    yield made
    made.end()


def test_the_command_line_gives_any_application_a_disk_that_outlives_a_restart(site: Site, origin: Origin) -> None:
    site.write(PLAIN)
    folder = site.folder / "cache"
    options = ("--disk-cache", str(folder), "--disk-cache-size=16MiB", "--memory-cache-size", "2M")
    for _ in range(2):
        site.start(*options)
        assert httpx.get(f"{site.url}/a", headers=HOST).text == "/a"
        assert metric(site.metrics(), "capacity_bytes") == 16 * MIB
        assert site.memory() == 2 * MIB
        site.end()
    assert origin.count() == 1


def test_variables_say_the_same_and_win_over_the_application(site: Site) -> None:
    site.write(OWN)
    site.start()
    assert (metric(site.metrics(), "capacity_bytes"), site.memory()) == (8 * MIB, 8 * MIB)
    site.end()
    folder = str(site.folder / "other")
    site.start(EDGEROUTER_DISK_CACHE=folder, EDGEROUTER_DISK_CACHE_SIZE="20MB", EDGEROUTER_MEMORY_CACHE_SIZE="1MiB")
    assert (metric(site.metrics(), "capacity_bytes"), site.memory()) == (20_000_000, MIB)
    assert Path(folder, "lock").exists()
    site.end()
    # One alone changes one thing.
    site.start("--disk-cache-size", "4MiB")
    assert metric(site.metrics(), "capacity_bytes") == 4 * MIB


def test_a_plan_file_serves_with_the_disk_cache_of_the_options(site: Site) -> None:
    site.app = site.folder / "site.toml"
    site.app.write_text(
        f'version = 1\nname = "test"\n[[origins]]\nname = "first"\nurl = "{site.origin.url}"\n'
        '[[routes]]\npattern = "/*"\nto = "first"\n'
    )
    site.start("--disk-cache", str(site.folder / "cache"), "--disk-cache-size", "4MiB")
    assert httpx.get(f"{site.url}/a", headers=HOST).text == "/a"
    assert metric(site.metrics(), "capacity_bytes") == 4 * MIB


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--disk-cache", "d", "--disk-cache-size", "ten"],
            2,
            "--disk-cache-size: 'ten': must be bytes, or a number with a unit",
        ),
        (["--disk-cache", "d", "--disk-cache-size", "1000"], 2, "must be at least 1,048,576 bytes"),
        (["--memory-cache-size", "-1"], 2, "--memory-cache-size"),
        (["--disk-cache", "d"], 1, "--disk-cache-size: must be given with --disk-cache"),
        (["--disk-cache-size", "1GiB"], 1, "--disk-cache: must be given with --disk-cache-size"),
        (["--disk-cache", "app.py", "--disk-cache-size", "1GiB"], 1, "disk_cache.path: "),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(site: Site, arguments: list[str], code: int, words: str) -> None:
    site.write(PLAIN)
    arguments = [str(site.app) if one == "app.py" else one for one in arguments]
    done = command("run", str(site.app), "--listen", "127.0.0.1:0", *arguments, COLUMNS="300")
    assert done.returncode == code, done.stderr
    assert words in " ".join(done.stderr.replace("│", " ").split())
