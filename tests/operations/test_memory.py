"""The account of memory that clients can make grow, and the bounds for each client."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge, HttpLimits, Limits
from edgerouter.errors import ConfigError
from edgerouter.testing import Running

from ..metrics import counted
from ..origins import Origin, Reply, Seen, wait_until
from ..processes import Process
from ..raw import connect

Serve = Callable[[Edge], Running]

ACCOUNT = 64 << 20
APP = """
from edgerouter import CacheLimits, CachePolicy, Edge, HttpLimits, Limits

edge = Edge("test", limits=Limits(cache=CacheLimits(memory_bytes=16 << 20)))
edge.route("/*", to=edge.origin("o", "{url}", max_connections=600){policy})
"""


@pytest.fixture
def started(tmp_path: Path, origin: Origin) -> Iterator[Callable[..., tuple[Process, str, str]]]:
    """``started(policy)`` is an edge in a process of its own, its URL, and that of its admin listener."""
    processes: list[Process] = []

    def make(policy: str = "") -> tuple[Process, str, str]:
        app = tmp_path / "app.py"
        app.write_text(APP.format(url=origin.url, policy=policy))
        process = Process("run", str(app), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2")
        processes.append(process)
        admin = process.wait_for(r"(http://\S+)  admin")[1]
        return process, process.wait_for(r"\n  (http://\S+)")[1], admin

    yield make
    for process in processes:
        process.kill()


def resident(process: Process) -> int:
    text = Path(f"/proc/{process.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found
    return int(found[1]) << 10


def steady(process: Process) -> bool:
    seen = []
    for _ in range(3):
        seen.append(resident(process))
        threading.Event().wait(0.5)
    return max(seen) - min(seen) < 1 << 18


def that_does_not_read(stack: ExitStack, url: str, path: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    client = stack.enter_context(socket.socket())
    # Before the connection is made: its first segment announces the window.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(20)
    client.connect((host, int(port)))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
    return client


CASES = {
    "slices": (5 << 20, {"cache-control": "max-age=600", "etag": '"1"'}, ""),
    "not-stored": (5 << 20, {"cache-control": "no-store"}, ""),
    "stored-whole": (1_000_000, {"cache-control": "max-age=600"}, ""),
    "no-cache": (5 << 20, {}, ", cache=__import__('edgerouter').cache.DISABLED"),
}


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("case", CASES)
def test_400_clients_that_do_not_read_take_little_more_than_the_account(
    origin: Origin, started: Callable[..., tuple[Process, str, str]], case: str
) -> None:
    size, headers, policy = CASES[case]
    origin.default = Reply(200, headers, b"x" * size)
    origin.on("/hit", Reply(200, {"cache-control": "max-age=600"}, "x" * 1_000))
    process, url, admin = started(policy=policy)
    with ExitStack() as stack, httpx.Client(base_url=url, timeout=20) as client:
        client.get("/hit")
        before = resident(process)
        for n in range(400):
            that_does_not_read(stack, url, f"/large/{n}")
        most = 0

        def all_came() -> bool:
            nonlocal most
            most = max(most, resident(process))
            assert client.get("/hit").status_code == 200
            return len({seen.path for seen in origin.requests}) > 400

        wait_until(all_came, 60, "every request reaching the origin")
        ordered = httpx.post(f"{admin}/v1/purges", json={"paths": ["/large/1"]}, timeout=10)
        for _ in range(100):
            all_came()
        assert ordered.status_code < 300, ordered.text
        # The cache fills meanwhile, and the allocator of a busy machine gives back late.
        assert most - before <= ACCOUNT + (16 << 20) + (48 << 20)
        held = counted(admin, "edgerouter_request_memory_bytes")
        assert held <= ACCOUNT
    wait_until(lambda: counted(admin, "edgerouter_request_memory_bytes") == 0, 60, "everything given back")
    assert process.end() == 0


def test_large_objects_that_many_download_at_once_come_whole_however_little_memory_there_is(
    origin: Origin, serve: Serve
) -> None:
    """There is no memory to put slices of all of them together: they are passed on, and not stored."""
    size = 3_000_000
    origin.default = Reply(200, {"cache-control": "max-age=600", "etag": '"1"'}, b"x" * size)
    edge = Edge("test", limits=Limits(http=HttpLimits(request_memory_bytes=16 << 20)))
    edge.route("/*", to=edge.origin("o", origin.url))
    served = serve(edge)

    def download(number: int) -> int:
        return len(httpx.get(f"{served.url}/{number}", timeout=60).content)

    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(download, range(40))) == [size] * 40
    # One at a time is stored.
    assert download(100) == size
    again = httpx.get(f"{served.url}/100", timeout=60)
    assert (len(again.content), again.headers["cache-status"].split(";")[1].strip()) == (size, "hit")
    assert origin.count("/100") == 1


@pytest.mark.usefixtures("many_descriptors")
def test_a_connection_that_is_idle_after_a_request_takes_less_than_4_kib(
    origin: Origin, started: Callable[..., tuple[Process, str, str]]
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=600"}, "x" * 1_000)
    process, url, _ = started()
    count = 4_000

    def grow(stack: ExitStack, number: int) -> None:
        for _ in range(number):
            client = stack.enter_context(connect(url))
            client.sendall(b"GET /hit HTTP/1.1\r\nHost: a.example\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")

    with ExitStack() as stack:
        # The memory of the first ones is there for those that come later.
        grow(stack, 100)
        wait_until(lambda: steady(process), 60, "resident memory to settle")
        before = resident(process)
        grow(stack, count)
        wait_until(lambda: (resident(process) - before) / count < 4 << 10, 40, "less than 4 KiB a connection")


def huge_pages(process: Process) -> int:
    """Bytes of huge pages in the allocator's range: the one in which the kernel makes none by itself."""
    text = Path(f"/proc/{process.process.pid}/smaps").read_text()
    mappings = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)
    ranges = [mapping for mapping in mappings if re.search(r"VmFlags:.* nh\b", mapping)]
    assert ranges, "a range without huge pages by the kernel"
    return sum(int(found[1]) << 10 for each in ranges if (found := re.search(r"AnonHugePages: +(\d+) kB", each)))


def test_huge_pages_are_made_of_memory_in_use_while_there_is_work_only(
    origin: Origin, started: Callable[..., tuple[Process, str, str]]
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=600"}, "x" * 60_000)
    process, url, _ = started()
    for number in range(200):
        assert httpx.get(f"{url}/{number}").status_code == 200
    wait_until(lambda: steady(process), 60, "resident memory to settle")
    made = huge_pages(process)
    assert resident(process) > 24 << 20
    request = b"HEAD /1 HTTP/1.1\r\nhost: a.example\r\n"
    requests = (request + b"\r\n") * 499 + request + b"connection: close\r\n\r\n"

    def works() -> bool:
        # One after another on each connection, so that the edge and not this client is what has to work.
        for _ in range(10):
            with connect(url) as client:
                client.sendall(requests)
                assert b"".join(iter(lambda: client.recv(1 << 20), b"")).count(b"HTTP/1.1 200") == 500
        return huge_pages(process) > max(made, 4 << 20)

    wait_until(works, 60, "huge pages while it works")
    # Nothing was filled in that had been given back.
    wait_until(lambda: steady(process), 60, "resident memory to settle")
    assert resident(process) < 96 << 20


def closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_connections_of_one_peer_are_bounded(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test", limits=Limits(http=HttpLimits(client_connections=3)))
    edge.route("/*", to=edge.origin("o", origin.url))
    served = serve(edge)
    with ExitStack() as stack:
        first = [stack.enter_context(connect(served.url)) for _ in range(3)]
        for client in first:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        assert closed(stack.enter_context(connect(served.url)))
        assert 'edgerouter_refused_total{reason="client-connections"} 1' in served.server.metrics()
        first.pop().close()

        def answered() -> bool:
            # The edge may not have seen the end of the other one yet, and close this one, too.
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(served.url).status_code == 200
            return False

        wait_until(answered, what="room for another")


def test_connections_of_trusted_proxies_and_of_loopback_are_not_bounded(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "x")
    for edge in (
        Edge("test", limits=Limits(http=HttpLimits(client_connections=3)), trusted_proxies=["127.0.0.0/8"]),
        Edge("test"),
    ):
        edge.route("/*", to=edge.origin("o", origin.url))
        served = serve(edge)
        with ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(connect(served.url))
            assert httpx.get(served.url).status_code == 200


def test_requests_of_one_client_that_are_under_way_are_bounded(origin: Origin, serve: Serve) -> None:
    released = threading.Event()

    def slow(_: Seen) -> Reply:
        released.wait(60)
        return Reply(200, {}, "slow")

    origin.default = slow
    origin.on("/hit", Reply(200, {"cache-control": "max-age=600"}, "hit"))
    origin.on("/miss", Reply(200, {}, "miss"))
    edge = Edge("test", limits=Limits(http=HttpLimits(client_requests=2)), trusted_proxies=["127.0.0.1"])
    edge.route("/*", to=edge.origin("o", origin.url))
    served = serve(edge)

    def ask(path: str, client: str) -> httpx.Response:
        return httpx.get(f"{served.url}{path}", headers={"x-forwarded-for": client}, timeout=20)

    # The addresses of one customer (RFC 6177 §2) are one client.
    one, same, other = "2001:db8:1:2::1", "2001:db8:1:2:3::4", "192.0.2.1"
    assert ask("/hit", one).status_code == 200
    with ThreadPoolExecutor(2) as pool:
        under_way = [pool.submit(ask, f"/slow/{n}", one) for n in range(2)]
        origin.wait_for(2 + 1)
        refused = ask("/miss", same)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert "detail=client-requests" in refused.headers["cache-status"]
        assert ask("/miss", other).status_code == 200
        assert ask("/hit", one).status_code == 200, "what is in memory is not counted"
        released.set()
        assert [answer.result().text for answer in under_way] == ["slow", "slow"]
    assert ask("/miss", same).status_code == 200
    assert 'edgerouter_refused_total{reason="client-requests"} 1' in served.server.metrics()


def test_bounds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"HttpLimits\.client_requests: 0: must be"):
        HttpLimits(client_requests=0)
    with pytest.raises(ConfigError, match=r"HttpLimits\.request_memory_bytes: 5: must be"):
        HttpLimits(request_memory_bytes=5)
