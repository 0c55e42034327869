"""A real issuer of certificates, Pebble, with its faults on, and the server of names that it uses."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx

from edgerouter import Issuer

from ..certificates import Authority
from ..origins import wait_until
from ..processes import free_port, kill, reachable
from ..tools import tool

DAY = 86_400


class Pebble:
    """An issuer, which looks at ``http_port`` and ``tls_port`` of this machine for every name."""

    def __init__(self, folder: Path, http_port: int, tls_port: int, **settings: Any) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.authority = Authority(folder, "pebble")
        self.http_port, self.tls_port = http_port, tls_port
        self.port, self.management, self.names, self.names_management = (free_port() for _ in range(4))
        own = self.authority.issue("127.0.0.1", "localhost")
        self.settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(own.chain),
            "privateKey": str(own.key),
            "httpPort": http_port,
            "tlsPort": tls_port,
            **settings,
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        config = self.folder / "pebble.json"
        config.write_text(json.dumps({"pebble": self.settings}))
        names = [
            tool("pebble-challtestsrv"),
            *("-dnsserver", f"127.0.0.1:{self.names}", "-management", f"127.0.0.1:{self.names_management}"),
            *("-defaultIPv6", "", "-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", ""),
        ]
        issuer = [tool("pebble"), "-strict", "-config", str(config), "-dnsserver", f"127.0.0.1:{self.names}"]
        # Half of the nonces are refused, and authorizations are never reused: each order shows its proof.
        faults = {"PEBBLE_WFE_NONCEREJECT": "50", "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
        log = (self.folder / "pebble.log").open("ab")
        with log:
            for arguments in (names, issuer):
                self.processes.append(
                    subprocess.Popen(arguments, env={**os.environ, **faults}, stdout=log, stderr=subprocess.STDOUT)
                )
        wait_until(lambda: reachable(self.port) and reachable(self.names_management), what="pebble")

    @property
    def directory(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    def issuer(self, **more: Any) -> Issuer:
        return Issuer(self.directory, ca_file=self.authority.file, **more)

    def log(self) -> str:
        return (self.folder / "pebble.log").read_text()

    def root(self) -> str:
        """The authority of what this issuer issues, in PEM."""
        with httpx.Client(verify=ssl.create_default_context(cafile=str(self.authority.file))) as client:
            return client.get(f"https://127.0.0.1:{self.management}/roots/0").text

    def trusted(self) -> ssl.SSLContext:
        """A client that trusts what this issuer issues."""
        return ssl.create_default_context(cadata=self.root())

    def stop(self) -> None:
        for process in self.processes:
            kill(process)
        self.processes.clear()


class Impostor:
    """A server that is named as an issuer and answers everything alike; it counts requests."""

    def __init__(self, folder: Path, answer: bytes, name: str = "impostor") -> None:
        self.authority = Authority(folder, name)
        own = self.authority.issue("127.0.0.1")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(own.chain, own.key)
        self.answer = answer
        self.requests = 0

    def __enter__(self) -> Impostor:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._answer, daemon=True)
        self.thread.start()
        return self

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
                with self.context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(65536)
                    self.requests += 1
                    secured.sendall(self.answer)
            except ssl.SSLError:
                continue
            except OSError:
                return

    def issuer(self) -> Issuer:
        port = self.listening.getsockname()[1]
        return Issuer(f"https://127.0.0.1:{port}/dir", ca_file=self.authority.file)

    def __exit__(self, *_: object) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.thread.join(60)
        self.listening.close()
