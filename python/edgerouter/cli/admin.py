"""Requests to a running edge through its admin listener."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import typer

from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.monitoring.samples import Samples
from edgerouter.secrets import bearer

__all__ = ["Admin", "AdminError", "Where", "Whose"]

#: The largest answer that is read, the largest event of a stream, and how long each step may take.
MOST_BYTES = 64 << 20
MOST_EVENT = 16 << 20
TIMEOUT = 30.0
#: Seconds after which an order without an answer is taken for one that takes long, if the listener answers others.
PULSE = 5.0

Where = Annotated[
    str,
    typer.Option(
        "--admin",
        metavar="HOST:PORT",
        envvar="EDGEROUTER_ADMIN",
        help="The admin listener of the running edge; unix:PATH for its socket.",
    ),
]
Whose = Annotated[
    str | None,
    typer.Option(
        "--admin-token-env",
        "--token-env",
        metavar="NAME",
        envvar="EDGEROUTER_ADMIN_TOKEN_ENV",
        help="The environment variable with its Bearer token.",
        show_default=False,
    ),
]


class AdminError(EdgeError):
    """The admin listener cannot be reached, or refused."""


class Admin:
    """The admin listener at an address: ``HOST:PORT``, a URL with http or https, or ``unix:PATH``."""

    def __init__(self, address: str, token_env: str | None = None, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout
        self.address = address
        self.socket = address.removeprefix("unix:") if address.startswith("unix:") else None
        if self.socket is not None:
            address = "localhost:80"
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if port is None and parts.scheme == "https":
            port = 443
        if not host or port is None or parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
            raise ConfigError([Problem("--admin", repr(address), "must be HOST:PORT, such as 127.0.0.1:9090")])
        self.host, self.port, self.secure = host, port, parts.scheme == "https"
        self.where = f"unix:{self.socket}" if self.socket is not None else f"{self.host}:{self.port}"
        self.token: str | None = None
        if token_env:
            token = os.environ.get(token_env)
            if not token:
                raise ConfigError(
                    [Problem("--admin-token-env", repr(token_env), "this environment variable is not set")]
                )
            self.token = bearer(token, f"--admin-token-env: {token_env!r}")

    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        """The answer to ``GET path``; ``AdminError`` where there is none."""
        return self._send("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """The answer to ``POST path``; ``AdminError`` where there is none."""
        return self._send("POST", path, json.dumps(body).encode())

    def order(self, path: str, body: Mapping[str, object], patience: float) -> dict[str, Any]:
        """The answer to ``POST path``; it is waited for as long as the listener answers others, up to ``patience``."""
        return self._send("POST", path, json.dumps(body).encode(), patience)

    def _wait(self, connection: http.client.HTTPConnection, patience: float) -> None:
        """Returns when an answer begins; ``AdminError`` if the listener answers nothing else either."""
        poll, end = select.poll(), time.monotonic() + patience
        poll.register(connection.sock, select.POLLIN)
        while not poll.poll(PULSE * 1000):
            try:
                if time.monotonic() > end:
                    raise AdminError(f"{self.where}: the admin listener did not answer within {patience:g} s")
                Admin(self.address, timeout=PULSE)._exchange("GET", "/healthz")
            except AdminError as error:
                raise AdminError(f"{error}; it may still carry out the order, as the list of deploys shows") from None

    def samples(self) -> Samples:
        """A scrape of the metrics, with the time of this machine."""
        status, content = self._exchange("GET", "/metrics")
        text = content.decode(errors="replace")
        if status != 200 or len(content) > MOST_BYTES or "edgerouter_plan_version" not in text:
            raise self.stranger(status)
        return Samples.read(text, time.time())

    def events(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Iterator[tuple[str, Any]]:
        """The server-sent events of ``GET path`` until the edge ends them: the name and the data of each."""
        fields = {**self._fields(), "Accept": "text/event-stream"}
        with self._reached() as connection:
            connection.request("GET", f"{path}?{urlencode(query)}" if query else path, None, fields)
            response = connection.getresponse()
            self._admitted(response.status)
            if response.status != 200 or "text/event-stream" not in (response.getheader("Content-Type") or ""):
                self._refuse(response.status, response.read(MOST_BYTES + 1))
                raise self.stranger(response.status)
            name = ""
            while line := response.readline(MOST_EVENT):
                if not line.endswith(b"\n"):
                    raise self.stranger(response.status)
                field, _, value = line.decode(errors="replace").rstrip("\r\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    try:
                        yield name, json.loads(value)
                    except (ValueError, RecursionError):
                        raise self.stranger(response.status) from None

    def _send(self, method: str, target: str, body: bytes | None = None, patience: float = 0) -> dict[str, Any]:
        status, content = self._exchange(method, target, body, patience)
        answer = self._refuse(status, content)
        if not isinstance(answer, dict):
            raise self.stranger(status)
        return answer

    def _refuse(self, status: int, content: bytes) -> Any:
        """Raises ``AdminError`` with the words of an answer that is an error; gives the data of another."""
        try:
            answer = json.loads(content) if len(content) <= MOST_BYTES else None
        except (ValueError, RecursionError):
            return None
        if status >= 400 and isinstance(answer, dict):
            why = answer.get("error") or {}
            raise AdminError(": ".join(str(why[part]) for part in ("field", "message") if why.get(part)) or self.where)
        return answer

    def _fields(self) -> dict[str, str]:
        return {"Accept": "application/json", **({"Authorization": f"Bearer {self.token}"} if self.token else {})}

    def _exchange(self, method: str, target: str, body: bytes | None = None, patience: float = 0) -> tuple[int, bytes]:
        fields = self._fields() | ({} if body is None else {"Content-Type": "application/json"})
        with self._reached() as connection:
            connection.request(method, target, body, fields)
            if patience:
                self._wait(connection, patience)
            response = connection.getresponse()
            content = response.read(MOST_BYTES + 1)
        self._admitted(response.status)
        return response.status, content

    def _admitted(self, status: int) -> None:
        if status == 401:
            raise AdminError(f"{self.where}: the token is missing or wrong; name its variable with --admin-token-env")

    @contextmanager
    def _reached(self) -> Iterator[http.client.HTTPConnection]:
        """A connection, whose errors are ``AdminError``."""
        where = self.where
        # No proxy of the environment leads to a listener that is beside us.
        if self.socket is not None:
            connection: http.client.HTTPConnection = _UnixConnection(self.socket, self.timeout)
        else:
            kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
            connection = kind(self.host, self.port, timeout=self.timeout)
        try:
            yield connection
        except TimeoutError:
            raise AdminError(f"{where}: the admin listener did not answer within {self.timeout:g} s") from None
        except ConnectionRefusedError:
            raise AdminError(
                f"{where}: nothing listens here; start the edge with --admin {where}, or name its admin listener"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AdminError(f"{where}: {reason}") from None
        finally:
            connection.close()

    def stranger(self, status: int) -> AdminError:
        """The answer is not one of an admin listener."""
        return AdminError(f"{self.where}: answered {status} without a usable body: is it an edge's admin listener?")


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connects to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
