"""The logs of functions, as they leave the process: by default, in the edge's own format and level, with its call."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

APP = """
import asyncio
import contextvars
import logging

from edgerouter import Edge

edge = Edge("a")
log = logging.getLogger("site.pages")
LINE = "first\\nsecond"


@edge.function("/says")
def says(request, ctx):
    ctx.log.debug("a detail")
    ctx.log.info("%s says", "it")
    log.warning("from the module")
    return ctx.request_id


@edge.function("/async")
async def coroutine(request, ctx):
    async def inside():
        log.info("in a task")

    await asyncio.create_task(inside())
    await asyncio.to_thread(log.info, "in a thread")
    ctx.wait_until(lambda: log.info("afterwards"))
    return ctx.request_id


OF_CALL = contextvars.ContextVar("of_call", default="nobody")


async def on_the_loop(request):
    log.info("awaited, for %s", OF_CALL.get())
    OF_CALL.set("the same call")
    await asyncio.sleep(0)
    log.info("further, for %s", OF_CALL.get())
    return request.id


@edge.function("/wrapped")
def wrapped(request, ctx):
    OF_CALL.set("a decorator")
    return on_the_loop(request)


@edge.function("/moves", inline=True)
async def moves(request, ctx):
    return await on_the_loop(request)


@edge.function("/inline", inline=True)
def inline(request, ctx):
    log.info("on the worker")
    return ctx.request_id


@edge.function("/surrogate")
def surrogate(request, ctx):
    ctx.log.info("half of \\ud83d says")
    raise RuntimeError("half of \\ud83d fails")


@edge.function("/raises")
def raises(request, ctx):
    raise RuntimeError(LINE)


@edge.function("/wrong")
async def wrong(request, ctx):
    return 42


@edge.function("/forged")
def forged(request, ctx):
    log.info("the client says %s", request.query["q"])
    return ""


@edge.function("/late", timeout=0.1)
def late(request, ctx):
    while True:
        pass


@edge.function("/aborts")
def aborts(request, ctx):
    from edgerouter import Abort

    raise Abort(404)
"""


@dataclass
class Process:
    url: str
    errors: list[str] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def read(self, stream: Any) -> None:
        for line in stream:
            with self.arrived:
                self.errors.append(line.rstrip("\n"))
                self.arrived.notify_all()

    def line(self, words: str) -> str:
        """The first line with these words; waits for it."""

        def found() -> list[str]:
            return [line for line in self.errors if words in line]

        with self.arrived:
            assert self.arrived.wait_for(found, 60), self.errors
            return found()[0]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60)


@contextmanager
def run(folder: Path, app: str = APP, options: tuple[str, ...] = (), **environment: str) -> Iterator[Process]:
    (folder / "app.py").write_text(app)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("EDGEROUTER_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "edgerouter", "run", "app.py", "--listen", "127.0.0.1:0", *options],
        cwd=folder,
        env=variables | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None and process.stderr is not None
        url = next(line.strip() for line in process.stdout if line.strip().startswith("http"))
        running = Process(url)
        reader = threading.Thread(target=running.read, args=(process.stderr,), daemon=True)
        reader.start()
        yield running
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        reader.join(60)
    finally:
        process.kill()
        process.wait()
        watchdog.cancel()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_what_functions_log_is_printed_with_function_and_request(tmp_path: Path) -> None:
    with run(tmp_path) as edge:
        request = edge.get("/says").text
        line = edge.line("it says")
        assert re.match(r"\d{4}-\d\d-\d\dT\S+ +INFO ", line)
        assert f'function="app.says" request="{request}"' in line
        line = edge.line("from the module")
        assert " WARN " in line and 'logger="site.pages"' in line and f'request="{request}"' in line
        assert not any("a detail" in line for line in edge.errors)


def test_tasks_and_threads_of_a_call_log_as_the_call(tmp_path: Path) -> None:
    with run(tmp_path) as edge:
        request = edge.get("/async").text
        for words in ("in a task", "in a thread", "afterwards"):
            assert f'function="app.coroutine" request="{request}"' in edge.line(words), words
        request = edge.get("/inline").text
        assert f'function="app.inline" request="{request}"' in edge.line("on the worker")


@pytest.mark.parametrize(("path", "by"), [("/wrapped", "a decorator"), ("/moves", "nobody")])
def test_a_coroutine_that_goes_on_elsewhere_is_in_the_context_of_its_call(tmp_path: Path, path: str, by: str) -> None:
    with run(tmp_path) as edge:
        request = edge.get(path).text
        for words in (f"awaited, for {by}", "further, for the same call"):
            assert f'function="app.{path[1:]}" request="{request}"' in edge.line(words), words


def test_a_failure_brings_its_traceback_and_client_text_forges_no_line(tmp_path: Path) -> None:
    with run(tmp_path) as edge:
        identifier = edge.get("/raises").headers["x-error-id"]
        line = edge.line(identifier)
        assert " ERROR " in line and "app.raises (GET /raises) raised RuntimeError" in line
        assert re.search(r'function="app\.raises" request="[0-9a-f]{16}"', line)
        assert edge.line("RuntimeError: first").startswith("    ")
        assert edge.line("second") == "    second"
        assert edge.line('app.py", line')
        edge.get("/forged?q=a%0A2026-01-01T00:00:00Z%20ERROR%20forged%1b[31m")
        assert edge.line("ERROR forged").startswith("    ") and "\x1b" not in edge.line("ERROR forged")
        identifier = edge.get("/wrong").headers["x-error-id"]
        assert "returned int, expected" in edge.line(identifier) and "request=" in edge.line(identifier)
        assert edge.get("/late").status_code == 504
        assert 'function="app.late" request="' in edge.line("was interrupted")
        assert edge.get("/aborts").status_code == 404
        identifier = edge.get("/surrogate").headers["x-error-id"]
        assert "raised RuntimeError" in edge.line(identifier)
        assert edge.line(r"RuntimeError: half of \ud83d fails") and edge.line(r"half of \ud83d says")
    assert not any("Abort" in line for line in edge.errors)


def test_an_application_with_a_start_handler_logs_as_others_do(tmp_path: Path) -> None:
    handler = '\n\n@edge.on("start")\ndef opens():\n    log.info("it begins")\n'
    with run(tmp_path, APP + handler) as edge:
        edge.line("it begins")
        assert " ERROR " in edge.line(edge.get("/raises").headers["x-error-id"])


def test_in_json_mode_the_traceback_is_a_field(tmp_path: Path) -> None:
    with run(tmp_path, EDGEROUTER_LOG_FORMAT="json") as edge:
        request = edge.get("/says").text
        edge.line("from the module")
        identifier = edge.get("/raises").headers["x-error-id"]
        edge.line(identifier)
    records = [json.loads(line) for line in edge.errors]
    (said,) = [record for record in records if record["fields"]["message"] == "from the module"]
    assert said["level"] == "WARN" and said["fields"] == {
        "message": "from the module",
        "logger": "site.pages",
        "function": "app.says",
        "request": request,
    }
    (failed,) = [record for record in records if identifier in record["fields"]["message"]]
    assert failed["level"] == "ERROR" and failed["fields"]["function"] == "app.raises"
    assert failed["fields"]["exception"].startswith("Traceback")
    assert failed["fields"]["exception"].endswith("RuntimeError: first\nsecond")


@pytest.mark.parametrize(
    ("level", "printed", "silent"),
    [
        ("warn", ["from the module"], ["it says", "a detail"]),
        ("info,functions=debug", ["from the module", "it says", "a detail"], []),
        ("DEBUG", ["from the module", "it says", "a detail"], []),
        ("debug, functions=error", [], ["from the module", "it says", "a detail"]),
    ],
)
def test_the_level_is_the_edges(tmp_path: Path, level: str, printed: list[str], silent: list[str]) -> None:
    with run(tmp_path, EDGEROUTER_LOG=level) as edge:
        edge.get("/says")
        for words in printed:
            edge.line(words)
        identifier = edge.get("/raises").headers["x-error-id"]
        edge.line(identifier)
    assert not [line for line in edge.errors for words in silent if words in line]


@pytest.mark.parametrize(
    "environment",
    [
        {"EDGEROUTER_LOG": "verbose"},
        {"EDGEROUTER_LOG": "info,functions=loud"},
        {"EDGEROUTER_LOG": "nothing=debug"},
        {"EDGEROUTER_LOG": "info,"},
        {"EDGEROUTER_LOG": "[span]=info"},
        {"EDGEROUTER_LOG_FORMAT": "xml"},
    ],
    ids=lambda environment: "-".join(environment.values()),
)
def test_an_unknown_level_or_format_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "edgerouter", "run", "app.py", "--listen", "127.0.0.1:0"]
    ran = subprocess.run(
        command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, timeout=30
    )
    ((name, value),) = environment.items()
    assert ran.returncode == 1
    assert ran.stderr.startswith(f'error: {name}: "{value}": must be ')


def test_a_watched_application_is_not_told_of_every_change(tmp_path: Path) -> None:
    with run(tmp_path, options=("--reload",)) as edge:
        assert len(edge.get("/says").text) == 16
        (tmp_path / "other.txt").write_text("a change that means nothing")
        (tmp_path / "app.py").write_text(APP.replace("return ctx.request_id", "return 'changed'"))
        until = time.monotonic() + 60
        while edge.get("/says").text != "changed":
            assert time.monotonic() < until, edge.errors
        edge.line("from the module")
    assert not [line for line in edge.errors if "watchfiles" in line or "change detected" in line]


def test_a_program_with_handlers_of_its_own_keeps_them(tmp_path: Path) -> None:
    own = 'import logging\n\nlogging.basicConfig(format="own %(levelname)s %(message)s", level="DEBUG")\n' + APP
    with run(tmp_path, app=own) as edge:
        edge.get("/says")
        assert edge.line("from the module") == "own WARNING from the module"
        assert edge.line("a detail") == "own DEBUG a detail"
    assert len([line for line in edge.errors if "from the module" in line]) == 1
