"""The command in odd surroundings: variables that are misspelt, folders that are gone or closed, signals of others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from edgerouter import ConfigError, Edge
from edgerouter.settings import Settings

from ..origins import wait_until
from ..processes import Process, free_port, reachable

Run = Callable[..., Process]

APP = 'from edgerouter import Edge\nedge = Edge("t")\nedge.route("/*", respond="x")\n'


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgerouter", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )


def test_a_variable_that_is_nearly_one_of_run_is_warned_of_and_no_other(tmp_path: Path, run: Run) -> None:
    app, port = tmp_path / "app.py", free_port()
    app.write_text(APP + 'edge.route("/in", respond="x", auth=Jwt.hs256(env("EDGEROUTER_LISTENS")))\n')
    app.write_text(app.read_text().replace("import Edge", "import Edge, Jwt, env"))
    given = {
        "EDGEROUTER_LISTN": "127.0.0.1:1",
        "EDGEROUTER_ADMIN_TOKEN": "a-token-of-sufficient-length",
        "EDGEROUTER_LOG_LEVEL": "debug",
        "edgerouter_workers": "1",
        # Named by an option and by the application, the program's own, and as Kubernetes has them for a service.
        "EDGEROUTER_ADMIN_TOKENS": "a-token-of-sufficient-length",
        "EDGEROUTER_LISTENS": "a secret of more than thirty-two bytes",
        "EDGEROUTER_SHOP_NAME": "shop",
        "EDGEROUTER_PORT": "tcp://10.0.0.1:80",
        "EDGEROUTER_PORT_80_TCP_ADDR": "10.0.0.1",
        "EDGEROUTER_SERVICE_HOST": "10.0.0.1",
    }
    options = ("--admin-token-env", "EDGEROUTER_ADMIN_TOKENS", "--listen", f"127.0.0.1:{port}")
    process = run("run", str(app), *options, env=given)
    wait_until(lambda: reachable(port), 60, "the listener")
    assert process.end() == 0
    said = [line for line in process.lines if line.startswith("warning: ") and "variable" in line]
    assert [line.split()[1].rstrip(":") + " " + line.split()[-1] for line in said] == [
        "EDGEROUTER_ADMIN_TOKEN EDGEROUTER_ADMIN_TOKEN_ENV?",
        "EDGEROUTER_LISTN EDGEROUTER_LISTEN?",
        "EDGEROUTER_LOG_LEVEL EDGEROUTER_LOG?",
        "edgerouter_workers EDGEROUTER_WORKERS?",
    ]
    assert "a-token" not in process.output


@pytest.mark.parametrize("given", [("check",), ("run", "app.py"), ("explain", "app.py", "GET", "/"), ("dev",)])
def test_a_current_folder_that_has_been_removed_is_one_line(tmp_path: Path, given: tuple[str, ...]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f'cd "$0" && rmdir "$0" && exec "{sys.executable}" -m edgerouter "$@"'
    found = subprocess.run(
        ["/bin/sh", "-c", line, str(gone), *given],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert found.returncode == 1
    assert found.stderr == (
        "error: the current folder cannot be found: No such file or directory; change to one that is there\n"
    )


def test_an_application_in_a_folder_that_is_closed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    # Nobody can look below a name that is too long, either, and that holds for root as well.
    name = f"{'x' * 300}/app.py"
    found = command("check", name, folder=tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == f"error: {name}: cannot be read: File name too long; its folders must be open to this user\n"


@pytest.mark.parametrize("word", ["app.py", "app.py:edge", "site.toml", "http://127.0.0.1:9000"])
def test_an_application_without_a_command_is_answered_with_run(tmp_path: Path, word: str) -> None:
    found = command(word, folder=tmp_path)
    assert found.returncode == 2
    assert f"Did you mean 'run {word}'?" in found.stderr


def test_an_interrupt_while_the_command_is_imported_prints_nothing(tmp_path: Path) -> None:
    # The first module of others that the package imports.
    (tmp_path / "msgspec.py").write_text("import signal\nprint('importing', flush=True)\nsignal.pause()\n")
    with subprocess.Popen(
        [sys.executable, "-c", "from edgerouter_command import main; main()", "check"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_a_signal_that_other_servers_know_ends_nothing(tmp_path: Path, run: Run) -> None:
    app, port = tmp_path / "app.py", free_port()
    app.write_text(APP)
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the listener")
    process.process.send_signal(signal.SIGUSR2)
    process.wait_for(r"warning: SIGUSR2 has no meaning here: SIGHUP reads the configuration again")
    assert httpx.get(f"http://127.0.0.1:{port}/").text == "x"
    assert process.end() == 0


def test_a_handler_of_the_application_for_that_signal_stays(tmp_path: Path, run: Run) -> None:
    app, port = tmp_path / "app.py", free_port()
    app.write_text(f"import faulthandler, signal\nfaulthandler.register(signal.SIGUSR2)\n{APP}")
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the listener")
    process.process.send_signal(signal.SIGUSR2)
    process.wait_for(r"most recent call first")
    assert httpx.get(f"http://127.0.0.1:{port}/").text == "x"
    assert process.end() == 0 and "has no meaning" not in process.output


@pytest.mark.parametrize("field", ["access_log", "experiments_file", "cost_report", "admin_socket", "deploy_folder"])
def test_a_path_of_the_settings_may_be_any_path(tmp_path: Path, field: str) -> None:
    others: dict[str, str] = {"admin": "127.0.0.1:0", "admin_token": "a-token-of-sufficient-length"}
    given = Settings(**others, **{field: tmp_path / "file"})  # type: ignore[arg-type]
    assert getattr(given, field) == str(tmp_path / "file")
    for wrong, message in ((b"file", "must be a path"), (3, "must be a path"), ("a\0b", "a null character")):
        with pytest.raises(ConfigError, match=rf"Settings\.{field}: .*{message}"):
            Settings(**others, **{field: wrong})  # type: ignore[arg-type]


def test_an_edge_writes_where_paths_say(tmp_path: Path) -> None:
    edge = Edge("t")
    edge.route("/*", respond="x")
    log = tmp_path / "access.log"
    server = edge.start(listen="127.0.0.1:0", access_log=log, admin_socket=tmp_path / "admin.sock")
    try:
        assert httpx.get(server.urls[0]).text == "x"
        assert (tmp_path / "admin.sock").is_socket()
    finally:
        assert edge.stop()
    assert '"GET / HTTP/1.1" 200' in log.read_text()


def test_a_path_that_no_socket_can_have_is_refused_with_its_bound() -> None:
    assert Settings(admin_socket="/" + "x" * 106).admin_socket
    with pytest.raises(ConfigError, match=r"Settings\.admin_socket: .*: must be a path of at most 107 bytes"):
        Settings(admin_socket="/" + "x" * 107)
