"""``edgerouter doctor``: its decisions by values, its reading of this machine, and its command."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from edgerouter import Edge
from edgerouter.doctor import findings
from edgerouter.doctor.certificates import valid_until
from edgerouter.doctor.machine import Machine, port_state
from edgerouter.testing import running

from ..origins import Origin
from ..processes import command, free_port

READY = Machine(
    open_files=1_048_576,
    cores=4,
    memory=8 << 30,
    disk=100 << 30,
    disk_free=5 << 30,
    clock_synchronised=True,
    backlog=4_096,
    half_open=4_096,
    first_port=10_000,
    last_port=65_000,
    tracked=5,
    tracked_most=262_144,
    slow_start_after_idle=False,
    overcommit=0,
)
NOW = datetime(2026, 11, 27, tzinfo=UTC)


def open_findings(machine: Machine) -> dict[str, tuple[str, str]]:
    """Level and remedy of each finding that is not ok."""
    checks = (findings.limits, findings.disk, findings.clock, findings.network)
    found = [finding for check in checks for finding in check(machine)]
    return {finding.subject: (finding.level, finding.remedy) for finding in found if finding.level != "ok"}


def test_a_machine_that_is_ready_has_no_finding_and_an_unknown_one_only_a_note() -> None:
    assert open_findings(READY) == {}
    assert open_findings(Machine()) == {"clock": ("note", "run chrony or timesyncd")}


@pytest.mark.parametrize(
    ("facts", "subject", "level", "remedy"),
    [
        ({"open_files": 1_024}, "open files", "problem", "LimitNOFILE"),
        ({"open_files": 10_000}, "open files", "warning", "LimitNOFILE"),
        ({"open_files": 65_536}, "open files", "note", "LimitNOFILE"),
        ({"cpu_quota": 1.5}, "processor", "warning", "--workers 1"),
        ({"cpu_quota": 0.5}, "processor", "warning", "--workers 1"),
        ({"memory": 256 << 20}, "memory", "warning", "--memory-cache-size"),
        ({"disk_free": 512 << 20}, "disk", "warning", "rotate access logs"),
        ({"clock_synchronised": False}, "clock", "warning", "chrony"),
        ({"backlog": 128}, "accept queue", "warning", "net.core.somaxconn"),
        ({"half_open": 512}, "half-open connections", "warning", "tcp_max_syn_backlog"),
        ({"first_port": 60_000}, "local ports", "warning", "ip_local_port_range"),
        ({"tracked": 250_000}, "tracked connections", "warning", "nf_conntrack_max"),
        ({"slow_start_after_idle": True}, "idle connections", "note", "tcp_slow_start_after_idle=0"),
        ({"overcommit": 2}, "overcommit", "note", ""),
    ],
)
def test_each_fact_out_of_its_range_is_a_finding_with_a_remedy(
    facts: dict[str, object], subject: str, level: str, remedy: str
) -> None:
    found = open_findings(replace(READY, **facts))  # type: ignore[arg-type]
    assert set(found) == {subject}
    assert found[subject][0] == level
    assert remedy in found[subject][1]


def test_facts_are_read_from_the_kernel_and_a_missing_or_strange_file_is_unknown(tmp_path: Path) -> None:
    for name, text in {
        "proc/sys/net/core/somaxconn": "4096\n",
        "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
        "proc/sys/net/ipv4/tcp_max_syn_backlog": "many\n",
        "proc/meminfo": "MemTotal:       16384000 kB\nMemFree: 1 kB\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/memory.max": "536870912\n",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = Machine.read(tmp_path)
    assert (found.backlog, found.first_port, found.last_port) == (4_096, 32_768, 60_999)
    assert (found.half_open, found.tracked, found.slow_start_after_idle) == (None, None, None)
    assert (found.memory, found.cpu_quota) == (512 << 20, 1.5)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    unbound = Machine.read(tmp_path)
    assert (unbound.memory, unbound.cpu_quota) == (16_384_000 << 10, None)
    own = Machine.read()
    assert own.backlog is not None and own.disk is not None and own.disk_free is not None
    assert own.disk >= own.disk_free


def test_a_port_is_free_or_in_use_or_has_no_such_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert port_state(f"127.0.0.1:{taken.getsockname()[1]}") == "in use"
    assert port_state(f"127.0.0.1:{free_port()}") == "free"
    assert port_state(f"192.0.2.1:{free_port()}") == "no such address"
    assert port_state("127.0.0.1:0") is None
    assert port_state("no such name:80") == "no such name"


def test_an_address_that_is_none_is_a_problem() -> None:
    given = ["nonsense", "", "127.0.0.1:99999", "127.0.0.1:0"]
    options = [option for address in given for option in ("--listen", address)]
    done = command("doctor", *options, "--admin", f"127.0.0.1:{free_port()}", "--json")
    found = {finding["subject"]: finding["level"] for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert {subject: level for subject, level in found.items() if subject.startswith("address")} == {
        "address 'nonsense'": "problem",
        "address ''": "problem",
        "address '127.0.0.1:99999'": "problem",
        "address 127.0.0.1:0": "ok",
    }


@pytest.mark.parametrize("days", [1, 90, 825])
def test_the_end_of_a_certificate_is_read_as_a_library_of_x509_reads_it(days: int, tmp_path: Path) -> None:
    made = command("cert", "--dir", str(tmp_path), "--days", str(days), XDG_DATA_HOME=str(tmp_path))
    assert made.returncode == 0, made.stderr
    pem = (tmp_path / "localhost.pem").read_bytes()
    assert valid_until(pem) == x509.load_pem_x509_certificate(pem).not_valid_after_utc


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_have_no_end(noise: bytes) -> None:
    import base64

    block = b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(noise) + b"\n-----END CERTIFICATE-----\n"
    assert valid_until(noise) is None
    assert valid_until(block) is None


@pytest.mark.parametrize(
    ("left", "level"),
    [(timedelta(days=90), "ok"), (timedelta(days=13), "warning"), (timedelta(0), "problem"), (None, "problem")],
    ids=["far", "soon", "over", "unreadable"],
)
def test_a_certificate_is_a_finding_by_the_time_that_is_left(left: timedelta | None, level: str) -> None:
    found = findings.certificate("a.pem", None if left is None else NOW + left, NOW)
    assert (found.level, bool(found.remedy)) == (level, level != "ok")


def test_an_application_is_examined_with_its_addresses_certificates_and_disk(tmp_path: Path) -> None:
    made = command("cert", "--dir", str(tmp_path), "--days", "1", XDG_DATA_HOME=str(tmp_path))
    assert made.returncode == 0, made.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        file = tmp_path / "app.py"
        file.write_text(
            "from edgerouter import Certificate, DiskCache, Edge, Tls\n"
            f"edge = Edge('a', disk_cache=DiskCache({str(tmp_path / 'cache')!r}, size=1 << 43))\n"
            f"edge.listen({address!r}, tls=Tls(Certificate({str(tmp_path / 'localhost.pem')!r},"
            f" {str(tmp_path / 'localhost.key')!r})))\n"
            "edge.route('/*', respond='x')\n"
        )
        silent = f"127.0.0.1:{free_port()}"
        done = command("doctor", str(file), "--admin", silent, "--json")
    assert done.returncode == 1, done.stdout
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["configuration"]["level"] == "ok"
    assert found[f"address {address}"]["level"] == "problem"
    assert found[f"certificate {tmp_path / 'localhost.pem'}"]["level"] == "warning"
    assert found[f"disk cache {tmp_path / 'cache'}"]["level"] == "warning"
    assert found["the edge"]["level"] == "note"


def test_an_application_with_mistakes_is_a_problem_beside_the_others(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text("from edgerouter import Edge\nedge = Edge('a')\nedge.route('/*', to='nobody')\n")
    done = command("doctor", str(file), "--admin", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert [level for level, subject, _ in lines if subject == "configuration"] == ["problem"]
    assert any(subject == "clock" for _, subject, _ in lines)


def test_the_edge_that_runs_is_examined_and_its_own_port_is_no_problem(origin: Origin) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("lost", f"http://127.0.0.1:{free_port()}"))
    with running(edge) as served:
        import httpx

        httpx.get(served.url)
        address = served.url.removeprefix("http://")
        admin = served.admin_url.removeprefix("http://")
        done = command("doctor", "--listen", address, "--admin", admin, "--json")
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found[f"address {address}"]["found"] == "in use, and an edge runs"
    assert found["the edge"]["level"] == "ok"
    assert found["origin lost"]["level"] == "warning"
    assert done.returncode == (1 if any(one["level"] == "problem" for one in found.values()) else 0)
