"""The servers that are compared, each configured as an expert of it would for these works.

All serve the same paths in front of the same origin: ``/hit/*`` is cached, ``/pass/*`` never is, and ``/jwt/*`` is
cached behind a verified HS256 token with an A/B cookie. One worker each; no access log anywhere, as edgerouter has
none by default. ``docs/benchmarks.md`` says why each setting is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import version
from benchmarks.processes import BenchError, Child, free_port

#: The works of every cache in front of an origin.
CACHING = frozenset({"hit-1k", "hit-100k", "pass-1k", "pass-100k", "pass-10m", "miss-1k"})
COOKIE = "Path=/; Max-Age=2592000; SameSite=Lax"
# Varnish's lines in its shared-memory log for each request: its access log, off as for all servers.
_PER_REQUEST_LOG = (
    *("Begin", "End", "Link", "SessOpen", "SessClose", "Timestamp", "Hit", "VCL_call", "VCL_return", "Length"),
    *("ReqStart", "ReqMethod", "ReqURL", "ReqProtocol", "ReqHeader", "ReqUnset", "ReqAcct", "BereqAcct"),
    *("RespProtocol", "RespStatus", "RespReason", "RespHeader", "RespUnset", "Storage", "Fetch_Body", "TTL"),
    *("BereqMethod", "BereqURL", "BereqProtocol", "BereqHeader", "BereqUnset", "BackendOpen", "BackendClose"),
    *("BerespProtocol", "BerespStatus", "BerespReason", "BerespHeader", "BerespUnset"),
)
HERE = Path(__file__).resolve().parent
INSTALL = "benchmarks/install-peers"


@dataclass(frozen=True)
class Place:
    """The environment of a server: its core, its scratch directory in memory, the origin and the token secret."""

    core: int
    scratch: Path
    origin: int
    secret: str


@dataclass
class Server:
    """A server that may be measured; ``missing`` says why not and what to do about it."""

    name: str
    works: frozenset[str]
    version: str = "unknown"
    missing: str | None = None
    port: int = field(default_factory=free_port)

    def child(self, place: Place) -> Child:
        raise NotImplementedError

    def _child(self, place: Place, command: list[str], environment: Mapping[str, str] | None = None) -> Child:
        return Child(self.name, command, place.core, place.scratch / f"{self.name}.log", environment)

    def _needs(self, program: str) -> bool:
        if shutil.which(program) or Path("/usr/sbin", program).exists():
            return True
        self.missing = f"{program} is not installed; run {INSTALL}"
        return False


class Raw(Server):
    def __init__(self, program: Path) -> None:
        super().__init__("raw limit", frozenset({"hit-1k"}), version="C, epoll, nothing parsed")
        self.program = program

    def child(self, place: Place) -> Child:
        return self._child(place, [str(self.program), str(self.port)])


class Edgerouter(Server):
    def __init__(self, python: str) -> None:
        super().__init__("edgerouter", CACHING | {"jwt-1k", "function", "function-inline"})
        self.python = python
        probe = "import edgerouter, edgerouter._core as c; print(c.__version__, edgerouter.__file__)"
        done = subprocess.run([python, "-P", "-c", probe], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            self.missing = f"{python} has no edgerouter; install the release wheel there: {python} -m pip install ."
            return
        self.version, _, where = done.stdout.strip().partition(" ")
        if "site-packages" not in where:
            self.version += " (not an installed wheel; perhaps a debug build)"

    def child(self, place: Place) -> Child:
        command = [self.python, "-m", "edgerouter", "run", str(HERE / "app.py")]
        command += ["--listen", f"127.0.0.1:{self.port}", "--workers", "1"]
        return self._child(place, command, {"BENCH_ORIGIN": str(place.origin), "JWT_SECRET": place.secret})


class Nginx(Server):
    def __init__(self) -> None:
        super().__init__("nginx", CACHING)
        if self._needs("nginx"):
            self.version = version([program("nginx"), "-v"], r"nginx/([\d.]+)")

    def child(self, place: Place) -> Child:
        home = place.scratch / "nginx"
        home.mkdir()
        (home / "nginx.conf").write_text(self.configuration(place, home))
        return self._child(place, [program("nginx"), "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")])

    def configuration(self, place: Place, home: Path) -> str:
        return f"""
{"user root;" if os.getuid() == 0 else ""}
daemon off;
worker_processes 1;
error_log stderr crit;
pid {home}/nginx.pid;
events {{
    worker_connections 4096;
    multi_accept on;
}}
http {{
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    reset_timedout_connection on;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    open_file_cache max=10000 inactive=1h;
    open_file_cache_valid 1h;
    proxy_cache_path {home}/cache levels=1:2 keys_zone=hit:32m inactive=1h max_size=1g use_temp_path=off;
    upstream origin {{
        server 127.0.0.1:{place.origin};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{self.port} backlog=4096;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        location /hit/ {{
            sendfile off;  # a small body goes out with its head in one write
            proxy_pass http://origin;
            proxy_cache hit;
        }}
        location /hit/100k {{
            sendfile on;
            proxy_pass http://origin;
            proxy_cache hit;
        }}
        location /pass/ {{
            proxy_max_temp_file_size 0;  # a large body waits for the client, not in a file
            proxy_pass http://origin;
        }}
    }}
}}
"""


class Varnish(Server):
    def __init__(self) -> None:
        super().__init__("Varnish", CACHING)
        if self._needs("varnishd"):
            self.version = version([program("varnishd"), "-V"], r"varnish-([\d.]+)")

    def child(self, place: Place) -> Child:
        home = place.scratch / "varnish"
        home.mkdir()
        home.chmod(0o755)
        (home / "default.vcl").write_text(self.configuration(place))
        command = [program("varnishd"), "-F", "-j", "none", "-n", str(home / "work"), "-f", str(home / "default.vcl")]
        command += ["-a", f"127.0.0.1:{self.port},HTTP", "-T", "none", "-s", "malloc,1g"]
        settings = ["thread_pools=1", "thread_pool_min=200", "thread_pool_max=1000", "listen_depth=4096"]
        settings.append("vsl_mask=" + ",".join(f"-{record}" for record in _PER_REQUEST_LOG))
        for setting in settings:
            command += ["-p", setting]
        return self._child(place, command)

    def configuration(self, place: Place) -> str:
        return f"""
vcl 4.1;
backend origin {{
    .host = "127.0.0.1";
    .port = "{place.origin}";
}}
sub vcl_recv {{
    if (req.url ~ "^/pass/") {{
        return (pass);
    }}
    return (hash);
}}
"""


class Haproxy(Server):
    def __init__(self) -> None:
        super().__init__("HAProxy", CACHING | {"jwt-1k"})
        if self._needs("haproxy"):
            self.version = version([program("haproxy"), "-v"], r"version ([\d.]+)")

    def child(self, place: Place) -> Child:
        file = place.scratch / "haproxy.cfg"
        file.write_text(self.configuration(place))
        return self._child(place, [program("haproxy"), "-db", "-f", str(file)])

    def configuration(self, place: Place) -> str:
        return f"""
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout client 300s
    timeout server 300s
    timeout connect 5s
    timeout http-keep-alive 300s
    http-reuse always
cache hit
    total-max-size 1024
    max-object-size 1000000
    max-age 3600
frontend edge
    bind 127.0.0.1:{self.port} backlog 4096
    use_backend pass if {{ path_beg /pass/ }}
    use_backend jwt if {{ path_beg /jwt/ }}
    default_backend hit
backend pass
    server origin 127.0.0.1:{place.origin}
backend hit
    http-request cache-use hit
    http-response cache-store hit
    server origin 127.0.0.1:{place.origin}
backend jwt
    http-request set-var(txn.token) http_auth_bearer
    http-request return status 401 unless {{ var(txn.token) -m found }}
    http-request deny unless {{ var(txn.token),jwt_header_query('$.alg') -m str HS256 }}
    http-request deny unless {{ var(txn.token),jwt_verify("HS256","{place.secret}") -m int 1 }}
    http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date
    http-request deny unless {{ var(txn.exp),sub(txn.now) -m int gt 0 }}
    http-request del-header authorization
    http-request set-var(txn.variant) req.cook(ab-variant)
    acl known var(txn.variant) -m str control treatment
    http-request set-var(txn.assigned) bool(true) unless known
    http-request set-var(txn.variant) str(control) if {{ var(txn.assigned) -m bool }}
    http-request set-var(txn.variant) str(treatment) if {{ var(txn.assigned) -m bool }} {{ rand(100) lt 50 }}
    http-request set-header x-variant %[var(txn.variant)]
    http-request set-path /%[var(txn.variant)]%[path]
    http-request cache-use hit
    http-response cache-store hit
    acl assigned var(txn.assigned) -m bool
    http-response add-header set-cookie "ab-variant=%[var(txn.variant)]; {COOKIE}" if assigned
    server origin 127.0.0.1:{place.origin}
"""


def program(name: str) -> str:
    """Debian keeps some servers in /usr/sbin, which is not on everyone's PATH."""
    return shutil.which(name) or f"/usr/sbin/{name}"


def compile_c(name: str) -> Path:
    """Builds ``name.c`` beside this file when it is newer than its program."""
    source, target = HERE / f"{name}.c", HERE / "build" / name
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return target
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError(f"no C compiler for {source.name}; run {INSTALL}")
    target.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [compiler, "-O2", "-pthread", "-o", str(target), str(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"{compiler} refused {source.name}:\n{done.stderr}")
    return target
