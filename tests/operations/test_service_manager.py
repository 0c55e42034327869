"""A service manager hands over its sockets, hears of every state, and of workers that are stuck hears nothing more."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from edgerouter import service_manager

from ..certificates import Authority
from ..origins import wait_until
from ..processes import Process, free_port

ROOT = Path(__file__).parents[2]
APP = "from edgerouter import Edge\nedge = Edge('test')\n{listen}edge.route('/*', respond='here')\n"
PATIENCE = 60.0

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*arguments, sockets=…)`` is ``edgerouter run``, by ``systemd-socket-activate`` where it has sockets."""
    started: list[Process] = []

    def make(*arguments: str, listen: str = "", sockets: tuple[str, ...] = (), **env: str) -> Process:
        (tmp_path / "app.py").write_text(APP.format(listen=listen))
        activate = shutil.which("systemd-socket-activate")
        assert activate is not None, "install the package systemd: scripts/install-packages"
        passed = [option for address in sockets for option in ("-l", address)]
        # It passes no variables on but those that it is given.
        kept = [f"--setenv={name}" for name in ("PATH", "HOME", "NO_COLOR", "LD_LIBRARY_PATH") if name in os.environ]
        by = (activate, *passed, *kept) if sockets else ()
        started.append(Process("run", str(tmp_path / "app.py"), "--workers", "2", *arguments, env=env, by=by))
        return started[-1]

    yield make
    for process in started:
        process.kill()


def get(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).text


def listening(process: Process, sockets: int) -> None:
    wait_until(lambda: process.output.count("Listening on") == sockets, PATIENCE, "the sockets of the manager")


def test_the_sockets_of_a_service_manager_are_served_and_the_first_connection_is_answered(start: Start) -> None:
    one, two = free_port(), free_port()
    process = start(sockets=(f"127.0.0.1:{one}", f"127.0.0.1:{two}"))
    listening(process, 2)
    # This connection starts the edge.
    assert get(one) == "here"
    assert get(two) == "here"
    assert [get(one) for _ in range(20)] == ["here"] * 20
    for port in (one, two):
        process.wait_for(f"http://127.0.0.1:{port}")
    assert process.end() == 0


def test_a_listener_of_the_application_takes_the_socket_of_its_port_and_others_are_bound(start: Start) -> None:
    passed, own = free_port(), free_port()
    process = start(
        "--listen", f"127.0.0.1:{own}", listen=f"edge.listen('127.0.0.1:{passed}')\n", sockets=(f"0.0.0.0:{passed}",)
    )
    listening(process, 1)
    assert get(passed) == "here"
    assert get(own) == "here"
    assert process.end() == 0


#: Listens on the first two of its arguments, and runs the rest with them. One of IPv6 takes no clients of IPv4.
MANAGER = """
import os, socket, sys
for place, address in enumerate(sys.argv[1:3]):
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    passed = socket.socket(family)
    if family == socket.AF_INET6:
        passed.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    passed.bind((host.strip("[]"), int(port)))
    passed.listen()
    # Numbers that none of them has yet.
    os.dup2(passed.detach(), 103 + place)
for place in range(2):
    os.dup2(103 + place, 3 + place)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.mark.parametrize("order", [("[::]", "0.0.0.0"), ("0.0.0.0", "[::]")], ids=" ".join)
def test_each_listener_takes_the_socket_of_its_own_address_in_whichever_order_they_come(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    port = free_port()
    issued = Authority(tmp_path).issue("127.0.0.1")
    listeners = (
        f"edge.listen('0.0.0.0:{port}', tls=Tls(Certificate({str(issued.chain)!r}, {str(issued.key)!r})))\n"
        f"edge.listen('[::]:{port}')\n"
    )
    app = APP.replace("import Edge", "import Certificate, Edge, Tls").format(listen=listeners)
    (tmp_path / "app.py").write_text(app)
    by = (sys.executable, "-c", MANAGER, *(f"{host}:{port}" for host in order))
    process = Process("run", str(tmp_path / "app.py"), "--workers", "2", by=by)
    try:
        process.wait_for("serves test")
        assert httpx.get(f"http://[::1]:{port}/", timeout=PATIENCE).text == "here"
        trusted = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
        assert httpx.get(f"https://127.0.0.1:{port}/", timeout=PATIENCE, verify=trusted).text == "here"
        assert process.end() == 0
    finally:
        process.kill()


def test_a_socket_of_the_service_manager_without_a_listener_is_logged_with_the_remedy(start: Start) -> None:
    passed, own = free_port(), free_port()
    process = start("--listen", f"127.0.0.1:{own}", sockets=(f"127.0.0.1:{passed}",))
    listening(process, 1)
    # A connection starts the edge, and nobody takes it.
    with socket.create_connection(("127.0.0.1", passed), timeout=PATIENCE):
        process.wait_for(f"the socket 127.0.0.1:{passed} of the service manager has no listener")
        assert get(own) == "here"
        assert process.end() == 0


def test_a_unix_socket_of_the_service_manager_is_served_and_its_file_is_left(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    process = start(listen=f"edge.listen('unix:{path}')\n", sockets=(str(path),))
    listening(process, 1)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=PATIENCE) as client:
        assert client.get("http://edge/").text == "here"
    assert process.end() == 0
    assert path.is_socket()


def test_the_service_manager_hears_of_start_reload_watchdog_and_stop(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        port = free_port()
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        process = start("--listen", f"127.0.0.1:{port}", **environment)
        first = manager.recv(4_096).decode()
        assert first.splitlines() == ["READY=1", f"STATUS=serving http://127.0.0.1:{port}"]
        assert get(port) == "here"

        def following() -> str:
            while (message := manager.recv(4_096).decode()) == "WATCHDOG=1":
                pass
            return message

        assert manager.recv(4_096) == b"WATCHDOG=1"
        process.process.send_signal(signal.SIGHUP)
        begun = following().splitlines()
        assert begun[0] == "RELOADING=1" and begun[1].startswith("MONOTONIC_USEC=")
        assert following() == "READY=1"
        assert manager.recv(4_096) == b"WATCHDOG=1"
        process.process.send_signal(signal.SIGTERM)
        assert following() == "STOPPING=1"
        assert process.process.wait(PATIENCE) == 0


def test_of_workers_that_are_stuck_the_watchdog_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0edgerouter-test-" + str(os.getpid()))
        monkeypatch.setenv("NOTIFY_SOCKET", "@edgerouter-test-" + str(os.getpid()))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        silences = iter([0.5, 3.5, 60.0])
        asked = threading.Event()

        def silence() -> float:
            found = next(silences, None)
            if found is None:
                asked.set()
                return 60.0
            return found

        watchdog = service_manager.Watchdog(silence)
        assert asked.wait(PATIENCE)
        watchdog.end()
        manager.setblocking(False)
        assert manager.recv(4_096) == b"WATCHDOG=1"
        with pytest.raises(BlockingIOError):
            manager.recv(4_096)


@pytest.mark.parametrize(
    "variables", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "/none"}]
)
def test_without_a_service_manager_nothing_is_sent(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    service_manager.notify("READY=1")
    assert service_manager.Watchdog(lambda: 0.0).interval == 0


@pytest.mark.parametrize("interval", ["", "soon", "-1", "0", str(2**64 - 1), "9" * 400])
def test_an_interval_of_the_watchdog_that_is_none_starts_none(interval: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", interval)
    before = {thread.name for thread in threading.enumerate()}
    service_manager.Watchdog(lambda: 0.0)
    assert "edge-watchdog" not in {thread.name for thread in threading.enumerate()} - before


def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    for unit in ("edgerouter.service", "edgerouter.socket"):
        text = (ROOT / "deploy" / unit).read_text()
        # The program is not installed on this machine.
        (tmp_path / unit).write_text(text.replace("/opt/edgerouter/bin/edgerouter", "/bin/true"))
    units = [str(tmp_path / unit) for unit in ("edgerouter.socket", "edgerouter.service")]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
