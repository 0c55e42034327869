"""Certificates for development: `edgerouter cert` and `edgerouter run --tls-self-signed`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from edgerouter import Certificate, Edge, Tls

from ..certificates import Authority
from ..processes import Process
from .clients import connected, get
from .conftest import Start


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a data folder of its own."""
    return {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}


def cert(home: dict[str, str], folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgerouter", "cert", *options]
    return subprocess.run(command, env=home, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_certificate_for_this_machine_is_verified_by_the_authority_that_was_made(
    home: dict[str, str], tmp_path: Path, start: Start
) -> None:
    done = cert(home, tmp_path)
    authority = tmp_path / "data" / "edgerouter" / "development-ca"
    assert (done.returncode, done.stderr) == (0, "")
    assert "no trust store was changed" in done.stdout
    assert str(authority / "ca.pem") in done.stdout
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=Tls(Certificate(tmp_path / "localhost.pem", tmp_path / "localhost.key")))
    edge.route("/*", respond="hello")
    server = start(edge)
    for name in ("localhost", "127.0.0.1", "::1"):
        context = ssl.create_default_context(cafile=str(authority / "ca.pem"))
        with connected(server.urls[0], context, name) as sock:
            assert get(sock, "localhost").status == 200


def test_keys_are_for_the_user_only_and_the_authority_is_made_once(home: dict[str, str], tmp_path: Path) -> None:
    authority = tmp_path / "data" / "edgerouter" / "development-ca"
    assert cert(home, tmp_path).returncode == 0
    before = (authority / "ca.pem").read_bytes()
    second = cert(home, tmp_path, "--name", "app.test", "--name", "*.app.test", "--days", "7", "--json")
    assert json.loads(second.stdout) == {
        "names": ["app.test", "*.app.test"],
        "chain": "app.test.pem",
        "key": "app.test.key",
        "authority": str(authority / "ca.pem"),
    }
    assert (authority / "ca.pem").read_bytes() == before
    for file in (authority / "ca.key", tmp_path / "localhost.key", tmp_path / "app.test.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(authority.stat().st_mode) == 0o700
    assert [it.name for it in authority.parent.iterdir()] == ["development-ca"]
    assert sorted(it.name for it in tmp_path.iterdir() if it.name != "data") == [
        "app.test.key",
        "app.test.pem",
        "localhost.key",
        "localhost.pem",
    ]


def test_what_cannot_be_written_or_certified_is_refused_with_the_remedy(home: dict[str, str], tmp_path: Path) -> None:
    absent = cert(home, tmp_path, "--dir", str(tmp_path / "absent"))
    assert (absent.returncode, "give another folder with --dir" in absent.stderr) == (1, True)
    names = ["münchen.example", "../beside", "", "a b", "*", "a..b", "shop.test:443", "300.1.1.1"]
    odd = cert(home, tmp_path, *(word for name in names for word in ("--name", name)))
    assert (odd.returncode, odd.stderr.count("cannot be certified: give a host name")) == (1, len(names))
    assert not list(tmp_path.parent.glob("*.pem"))
    bare = cert(home, tmp_path, "shop.test")
    assert (bare.returncode, "give --name shop.test" in bare.stderr) == (2, True)
    (tmp_path / "file").write_text("")
    blocked = cert({**home, "XDG_DATA_HOME": str(tmp_path / "file")}, tmp_path)
    assert (blocked.returncode, "XDG_DATA_HOME" in blocked.stderr) == (1, True)


@pytest.mark.parametrize("absent", ["ca.pem", "ca.key"])
def test_a_half_of_the_authority_is_refused_with_the_remedy(home: dict[str, str], tmp_path: Path, absent: str) -> None:
    assert cert(home, tmp_path).returncode == 0
    authority = tmp_path / "data" / "edgerouter" / "development-ca"
    (authority / absent).unlink()
    done = cert(home, tmp_path, "--name", "shop.test")
    assert (done.returncode, f"{authority}: has no {absent}; put it back, or remove the folder" in done.stderr) == (
        1,
        True,
    )
    shutil.rmtree(authority)
    assert cert(home, tmp_path, "--name", "shop.test").returncode == 0


def test_run_serves_https_at_once(home: dict[str, str], tmp_path: Path, run: Callable[..., Process]) -> None:
    app = tmp_path / "app.py"
    app.write_text("from edgerouter import Edge\nedge = Edge('test')\nedge.route('/*', respond='hello')\n")
    process = run("run", str(app), "--listen", "127.0.0.1:0", "--tls-self-signed", env=home)
    url = process.wait_for(r"(https://127\.0\.0\.1:\d+)")[1]
    authority = tmp_path / "data" / "edgerouter" / "development-ca" / "ca.pem"
    context = ssl.create_default_context(cafile=str(authority))
    with connected(url, context, "localhost") as sock:
        assert get(sock, "localhost").body == b"hello"
        app.write_text(app.read_text().replace("hello", "again"))
        process.process.send_signal(signal.SIGHUP)
        process.wait_for("reloaded: version 2")
        assert get(sock, "localhost").body == b"again"


DEVELOPED = """
from edgerouter import Certificate, Edge, Tls

edge = Edge("test")
edge.listen("192.0.2.1:443", tls=Tls(Certificate("/absent/chain.pem", "/absent/key.pem")))


@edge.function("/*")
def page(request, ctx):
    raise ValueError("first fault")
"""


def test_dev_serves_a_site_with_listeners_for_service_on_this_machine(
    home: dict[str, str], tmp_path: Path, run: Callable[..., Process]
) -> None:
    app = tmp_path / "app.py"
    app.write_text(DEVELOPED)
    process = run("dev", str(app), "--listen", "127.0.0.1:0", "--tls", "127.0.0.1:0", env=home)
    https = process.wait_for(r"(https://127\.0\.0\.1:\d+)")[1]
    plain = process.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]
    authority = tmp_path / "data" / "edgerouter" / "development-ca" / "ca.pem"
    with connected(https, ssl.create_default_context(cafile=str(authority)), "localhost") as sock:
        page = get(sock, "localhost")
        assert page.status == 502 and b'raise ValueError("first fault")' in page.body
    assert "first fault" in httpx.get(plain, timeout=20).text
    process.wait_for(r"502 .*GET .*")
    app.write_text(DEVELOPED.replace('raise ValueError("first fault")', 'return "second"'))
    process.wait_for("reloaded: version 2")
    assert httpx.get(plain, timeout=20).text == "second"


def test_dev_refuses_an_address_before_it_makes_an_authority(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(DEVELOPED)
    command = [sys.executable, "-m", "edgerouter", "dev", "app.py", "--tls", "nowhere"]
    done = subprocess.run(command, env=home, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: --tls: 'nowhere': must be HOST:PORT such as 127.0.0.1:8080" in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_file_of_another_authority_does_not_verify_it(home: dict[str, str], tmp_path: Path, start: Start) -> None:
    assert cert(home, tmp_path).returncode == 0
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=Tls(Certificate(tmp_path / "localhost.pem", tmp_path / "localhost.key")))
    edge.route("/*", respond="hello")
    server = start(edge)
    with (
        pytest.raises(ssl.SSLCertVerificationError),
        connected(server.urls[0], Authority(tmp_path).trusted(), "localhost"),
    ):
        pass
