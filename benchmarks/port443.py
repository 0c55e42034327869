#!/usr/bin/env python3
"""Measures TLS, HTTP/2, static files and compression beside nginx, HAProxy and Caddy: ``python -m benchmarks.port443``.

Each server has one worker on one core, the generator another core; the rounds are interleaved. The figure is CPU time
of the server for each request or connection, and of the client beside it: what a server leaves to the kernel may run on
the client's core. Needs ``benchmarks/install-peers``.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import generator, machine, servers
from benchmarks.processes import BenchError, Child, exit_status, free_port, make_certificate, pinned
from benchmarks.servers import INSTALL, program

SIZES = {"1k": 1 << 10, "100k": 100 << 10, "10m": 10 << 20, "100m": 100 << 20}
#: Connections by size: few for long files, as those on the way at the end of a round are not counted.
CONNECTIONS = {"1k": 64, "100k": 64, "10m": 8, "100m": 2}
SERVER, GENERATOR = 0, 1
#: The level of gzip that the peers are given: the edge's for pieces. Its level for content that is whole makes as much
#: of the page as theirs.
GZIP = 5

#: CPU time for each request in µs, by server and round: the server's, and that with the client's.
Figures = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Place:
    """The scratch folder, with ``static/``, ``dynamic/``, ``cert.pem``, ``key.pem`` and ``both.pem``.

    ``origin``  the port of the origin
    """

    scratch: Path
    origin: int
    python: str

    @property
    def static(self) -> Path:
        return self.scratch / "static"


@dataclass(frozen=True)
class Ports:
    plain: int
    tls: int


@dataclass(frozen=True)
class Work:
    """``load`` sends for so many seconds and gives the number of requests, or connections, that were served."""

    key: str
    title: str
    names: tuple[str, ...]
    load: Callable[[Ports, float], int]


def edgerouter(place: Place, ports: Ports) -> Child:
    command = [place.python, "-m", "edgerouter", "run", str(servers.HERE / "port443_app.py"), "--workers", "1"]
    environment = {"BENCH_ORIGIN": str(place.origin), "BENCH_FOLDER": str(place.static)}
    environment |= {"BENCH_PLAIN": str(ports.plain), "BENCH_TLS": str(ports.tls)}
    return child("edgerouter", command, place, environment)


#: It looks at a file for each request, as the edge and Caddy do, and as nginx does without a cache of open files.
LOOKING = "nginx without open_file_cache"


def nginx(place: Place, ports: Ports, name: str = "nginx") -> Child:
    home = place.scratch / name.replace(" ", "-")
    home.mkdir()
    temporary = "\n".join(f"    {name}_temp_path {home}/{name};" for name in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "nginx.conf").write_text(f"""
{"user root;" if os.getuid() == 0 else ""}
daemon off;
worker_processes 1;
error_log stderr crit;
pid {home}/nginx.pid;
events {{
    worker_connections 8192;
    multi_accept on;
}}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_body_temp_path {home}/body;
{temporary}
    open_file_cache {"off" if name == LOOKING else "max=10000 inactive=1h"};
    open_file_cache_valid 1h;
    proxy_cache_path {home}/cache levels=1:2 keys_zone=hit:32m inactive=1h max_size=1g use_temp_path=off;
    ssl_certificate {place.scratch}/cert.pem;
    ssl_certificate_key {place.scratch}/key.pem;
    ssl_protocols TLSv1.3;
    ssl_session_cache shared:tls:10m;
    http2_max_concurrent_streams 128;
    server {{
        listen 127.0.0.1:{ports.plain} backlog=4096;
        listen 127.0.0.1:{ports.tls} ssl http2 backlog=4096;
        location /static/ {{
            root {place.scratch};
            sendfile on;
            tcp_nopush on;
        }}
        location /static/page.html {{
            root {place.scratch};
            gzip_static on;
        }}
        location /dynamic/ {{
            root {place.scratch};
            gzip on;
            gzip_comp_level {GZIP};
        }}
        location /static/1k {{
            root {place.scratch};
            sendfile off;
        }}
        location /kept/ {{
            alias {place.static}/;
            sendfile off;
        }}
        location /hit/ {{
            proxy_pass http://127.0.0.1:{place.origin};
            proxy_cache hit;
        }}
    }}
}}
""")
    return child(name, [program("nginx"), "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")], place)


def haproxy(place: Place, ports: Ports) -> Child:
    file = place.scratch / "haproxy.cfg"
    file.write_text(f"""
global
    nbthread 1
    maxconn 8192
    tune.h2.max-concurrent-streams 128
defaults
    mode http
    timeout client 300s
    timeout server 300s
    timeout connect 5s
    timeout http-keep-alive 300s
cache hit
    total-max-size 1024
    max-object-size 1000000
    max-age 3600
frontend edge
    bind 127.0.0.1:{ports.plain} backlog 4096
    bind 127.0.0.1:{ports.tls} ssl crt {place.scratch}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3 backlog 4096
    default_backend hit
backend hit
    http-request cache-use hit
    http-response cache-store hit
    server origin 127.0.0.1:{place.origin}
""")
    return child("HAProxy", [program("haproxy"), "-db", "-f", str(file)], place)


def caddy(place: Place, ports: Ports) -> Child:
    file = place.scratch / "Caddyfile"
    file.write_text(f"""
{{
    admin off
    auto_https off
    skip_install_trust
}}
http://127.0.0.1:{ports.plain} {{
    root * {place.scratch}
    @dynamic path /dynamic/*
    encode @dynamic {{
        gzip {GZIP}
    }}
    file_server {{
        precompressed gzip
    }}
}}
https://127.0.0.1:{ports.tls} {{
    tls {place.scratch}/cert.pem {place.scratch}/key.pem
    root * {place.scratch}
    rewrite /hit/* /static/1k
    file_server
}}
""")
    environment = {"GOMAXPROCS": "1", "HOME": str(place.scratch)}
    return child("Caddy", ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"], place, environment)


def child(name: str, command: list[str], place: Place, environment: dict[str, str] | None = None) -> Child:
    return Child(name, command, SERVER, place.scratch / f"{name}.log", environment)


SERVERS: dict[str, Callable[[Place, Ports], Child]] = {
    "edgerouter": edgerouter,
    "nginx": nginx,
    LOOKING: partial(nginx, name=LOOKING),
    "HAProxy": haproxy,
    "Caddy": caddy,
}


def works() -> list[Work]:
    def static(size: str) -> Callable[[Ports, float], int]:
        url, connections = "http://127.0.0.1:{}/static/" + size, CONNECTIONS[size]
        return lambda ports, seconds: wrk(url.format(ports.plain), seconds, connections)

    def gzipped(folder: str) -> Callable[[Ports, float], int]:
        return lambda ports, seconds: coded(ports.plain, f"/{folder}/page.html", seconds)

    def streams(count: int) -> Callable[[Ports, float], int]:
        return lambda ports, seconds: h2load(f"https://127.0.0.1:{ports.tls}/hit/1k", seconds, count)

    def handshakes(kind: str) -> Callable[[Ports, float], int]:
        return lambda ports, seconds: s_time(ports.tls, kind, seconds)

    files, caches = ("edgerouter", "nginx", LOOKING, "Caddy"), ("edgerouter", "nginx", "HAProxy")
    coders, all_of_them = ("edgerouter", "nginx", "Caddy"), (*caches, "Caddy")
    return [
        *(Work(f"static-{size}", f"static file, {size}, plain text", files, static(size)) for size in SIZES),
        Work(
            "kept-1k",
            "static file, 1k, that neither server looks at again (edgerouter: immutable)",
            ("edgerouter", "nginx"),
            lambda ports, seconds: wrk(f"http://127.0.0.1:{ports.plain}/kept/1k", seconds, 64),
        ),
        Work("gzip-dynamic", f"a page of 100 KiB, gzip {GZIP} for each client", coders, gzipped("dynamic")),
        Work("gzip-static", f"the same from a file that gzip {GZIP} has made", files, gzipped("static")),
        Work(
            "tls-hit-1k",
            "cached hit, 1 KiB, TLS 1.3, HTTP/1.1 (Caddy: a static file)",
            all_of_them,
            lambda ports, seconds: wrk(f"https://127.0.0.1:{ports.tls}/hit/1k", seconds, 64),
        ),
        *(
            Work(f"h2-64x{count}", f"cached hit, 1 KiB, HTTP/2 over TLS, 64 × {count}", caches, streams(count))
            for count in (1, 10, 32)
        ),
        Work("handshake-full", "full TLS 1.3 handshake and one hit", all_of_them, handshakes("-new")),
        Work("handshake-resumed", "resumed TLS 1.3 handshake and one hit", all_of_them, handshakes("-reuse")),
    ]


def coded(port: int, path: str, seconds: float) -> int:
    """Requests of a page in gzip; each server has to give the same page in it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        connection.request("GET", path, headers={"accept-encoding": "gzip"})
        answer = connection.getresponse()
        body = answer.read()
    if answer.headers["content-encoding"] != "gzip" or gzip.decompress(body) != page():
        raise BenchError(f"{path} on port {port} is not the page in gzip")
    return wrk(f"http://127.0.0.1:{port}{path}", seconds, 16, "accept-encoding: gzip")


def page() -> bytes:
    """100 KiB of text as pages have it: this documentation."""
    texts = sorted((servers.HERE.parent / "docs").glob("*.md"))
    return b"".join(text.read_bytes() for text in texts)[: SIZES["100k"]]


def wrk(url: str, seconds: float, connections: int, *fields: str) -> int:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", url]
    command += [part for field in fields for part in ("-H", field)]
    load = generator.parse_wrk(run(command, seconds))
    if load.problems:
        raise BenchError(f"{url}: {'; '.join(load.problems)}")
    return load.requests


def h2load(url: str, seconds: float, streams: int) -> int:
    out = run(["h2load", "-c64", f"-m{streams}", "-t1", f"-D{max(1, round(seconds))}", url], seconds)
    found = re.search(r"^requests: \d+ total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", out, re.MULTILINE)
    if not found or found[2] != "0" or not re.search(r"^Application protocol: h2$", out, re.MULTILINE):
        raise BenchError(f"h2load: {out}")
    return int(found[1])


def s_time(port: int, kind: str, seconds: float) -> int:
    command = ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", kind, "-www", "/hit/1k", "-tls1_3"]
    out = run([*command, "-time", f"{max(1, round(seconds))}"], seconds)
    found = re.findall(r"^(\d+) connections in [\d.]+ real seconds", out, re.MULTILINE)
    if not found:
        raise BenchError(f"openssl s_time: {out}")
    return int(found[-1])


def run(command: Sequence[str], seconds: float) -> str:
    done = subprocess.run(pinned(GENERATOR, command), capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextmanager
def prepared(python: str) -> Iterator[tuple[Place, ExitStack]]:
    """The origin, the files and a certificate, in memory."""
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        parent = memory if os.access(memory, os.W_OK) else None
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-port443-", dir=parent)))
        scratch.chmod(0o755)
        for folder in ("static", "dynamic"):
            (scratch / folder).mkdir()
            (scratch / folder / "page.html").write_bytes(page())
        (scratch / "static" / "page.html.gz").write_bytes(gzip.compress(page(), GZIP))
        for name, size in SIZES.items():
            (scratch / "static" / name).write_bytes(bytes(ord("a") + i % 26 for i in range(26)) * (size // 26 + 1))
            os.truncate(scratch / "static" / name, size)
        make_certificate(scratch)
        both = (scratch / "cert.pem").read_text() + (scratch / "key.pem").read_text()
        (scratch / "both.pem").write_text(both)
        port = free_port()
        origin = Child("origin", [str(servers.compile_c("origin")), str(port)], GENERATOR, scratch / "origin.log")
        stack.enter_context(origin).wait_until_listening(port)
        yield Place(scratch, port, python), stack


def bench(options: argparse.Namespace) -> int:
    for needed in ("wrk", "h2load", "openssl", "taskset"):
        if shutil.which(needed) is None:
            raise BenchError(f"{needed} is not installed; run {INSTALL}")
    known = works()
    wanted = options.works.split(",") if options.works else [work.key for work in known]
    if unknown := set(wanted) - {work.key for work in known}:
        raise BenchError(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(w.key for w in known)}")
    lines = [f"- {name}: {value}" for name, value in machine.describe().items()]
    lines.append(f"- {options.rounds} interleaved rounds of {options.seconds:g} s, one worker, medians")
    print("\n".join(lines), flush=True)
    figures: dict[str, Figures] = {}
    with prepared(options.python) as (place, stack):
        running: dict[str, tuple[Child, Ports]] = {}
        for name, start in SERVERS.items():
            if name != "edgerouter" and shutil.which(program(name.split()[0].lower())) is None:
                print(f"Without {name}: it is not installed; run {INSTALL}", flush=True)
                continue
            ports = Ports(free_port(), free_port())
            process = stack.enter_context(start(place, ports))
            process.wait_until_listening(ports.tls)
            running[name] = process, ports
        for work in (work for work in known if work.key in wanted):
            figures[work.key] = measure(work, running, options)
            print("\n".join(table(work, figures[work.key])), flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def measure(work: Work, running: dict[str, tuple[Child, Ports]], options: argparse.Namespace) -> Figures:
    """By server and round. The first, shorter round warms up and does not count."""
    figures: Figures = {name: [] for name in work.names if name in running}
    for number in range(options.rounds + 1):
        for name in figures:
            process, ports = running[name]
            before, client = process.cpu_seconds(), clients_seconds()
            served = work.load(ports, options.seconds if number else 1.0)
            spent = (process.cpu_seconds() - before, clients_seconds() - client)
            if number:
                server, client = (seconds / max(served, 1) * 1e6 for seconds in spent)
                figures[name].append((server, server + client))
    return figures


def clients_seconds() -> float:
    """CPU time of all generators that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def table(work: Work, figures: Figures) -> list[str]:
    lines = ["", f"### {work.title}", "", "| server | CPU µs | min–max | ÷ ours | with the client | ÷ ours |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    ours = figures.get("edgerouter", [])
    for name, rounds in figures.items():
        servers_own = [server for server, _ in rounds]
        cells = [f"{statistics.median(servers_own):.2f}", f"{min(servers_own):.2f}–{max(servers_own):.2f}"]
        cells.append(ratio(rounds, ours, 0))
        cells += [f"{statistics.median(both for _, both in rounds):.2f}", ratio(rounds, ours, 1)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def ratio(rounds: list[tuple[float, float]], ours: list[tuple[float, float]], column: int) -> str:
    """The median of the ratios of each round."""
    pairs = [theirs[column] / own[column] for theirs, own in zip(rounds, ours, strict=False)]
    return f"{statistics.median(pairs):.2f} ×" if pairs else "–"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.port443", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each round")
    parser.add_argument("--works", help="only these, comma-separated: " + ", ".join(work.key for work in works()))
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has edgerouter installed")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args(arguments)
    return exit_status(lambda: bench(options))


if __name__ == "__main__":
    raise SystemExit(main())
