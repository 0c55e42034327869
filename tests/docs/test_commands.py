"""Every ``edgerouter`` command of a block for terminals does what its page says, in the order of the page."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from edgerouter import Edge, serving
from edgerouter.application import FileApplication
from edgerouter.cli.commands import app
from edgerouter.server import Server
from edgerouter.settings import Settings

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^(?:\$ )?(edgerouter .*)$", re.MULTILINE)
SOURCE = ROOT / "tests" / "importing" / "fixtures" / "article-cloudfront.yaml"
#: Exit codes other than 0: something of that file has no counterpart.
CODES = {"import": 3}

SITE = """
from edgerouter import Context, Edge, Experiment, Request

edge = Edge("shop")
edge.database("DB", "sqlite:app.db")
halves = {"control": 50, "treatment": 50}
edge.route("/*", respond="x", experiment=Experiment("home", variants=halves, conversion="POST /checkout*"))


@edge.function("/signup")
def signup(request: Request, ctx: Context) -> str:
    return "welcome"
"""


def pages() -> dict[str, list[str]]:
    """The commands of each page, whose lines may be continued."""
    found = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        blocks = (block for kind, block in BLOCK.findall(page.read_text()) if kind in ("", "console"))
        if commands := COMMAND.findall("\n".join(blocks).replace("\\\n", " ")):
            found[str(page.relative_to(ROOT))] = commands
    return found


PAGES = pages()


def line(number: int) -> str:
    """A line of an access log: a visitor's first request."""
    variant = ("control", "treatment")[number % 2]
    return json.dumps(
        {"time": "2026-11-26T16:27:54Z", "client": f"192.0.2.{number}", "method": "GET", "host": "a.test", "url": "/"}
        | {"status": 200, "bytes": 5, "cache": "miss", "route": "/*", "variant": f"home:{variant}", "seconds": 0.001}
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with all files that the pages name, and a running edge of it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "app.py").write_text(SITE)
    log = "".join(f"{line(number)}\n" for number in range(40))
    for name in ("access.log", "var/log/edge/access.log", "srv/releases/42/app.py", "cdn/a.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SITE if name.endswith("app.py") else log)
    for name in ("var/log/edge/access.log.1.gz", "cdn/a.gz"):
        (folder / name).write_bytes(gzip.compress(log.encode()))
    for name in ("var/lib/edgerouter", "var/lib/prometheus/node-exporter", "run/edge", "moved"):
        (folder / name).mkdir(parents=True)
    for part in (folder / "srv", folder / "srv/releases", folder / "srv/releases/42"):
        part.chmod(0o755)
    (folder / "srv/releases/42/app.py").chmod(0o644)
    shutil.copy(SOURCE, folder / "moved" / "cloudfront.yaml")
    settings = Settings(
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        workers=1,
        admin_socket=str(folder / "run/edge/admin.sock"),
        deploy_folder=str(folder / "srv/releases"),
    )
    before, imported = Path.cwd(), sys.path[:]
    os.chdir(folder)
    try:
        edge = FileApplication("app.py").load()
        with Server.start(edge, settings) as server:
            httpx.get(f"{server.urls[0]}/")
            yield folder, (server.admin_url or "").removeprefix("http://")
    finally:
        os.chdir(before)
        # Each application that was loaded has its folder there.
        sys.path[:] = imported


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page: str, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, admin = site
    # The page of imports begins without an application.
    monkeypatch.chdir(folder / "moved" if any("import" in command for command in PAGES[page]) else folder)
    served: list[Edge] = []

    def noted(application: serving.Application, *_: object, **__: object) -> bool:
        served.append(application.load())
        return True

    monkeypatch.setattr(serving, "serve", noted)
    environment = {
        "EDGEROUTER_ADMIN": admin,
        "HOOK_SECRET": "s" * 16,
        "ADMIN_TOKEN": "t" * 16,
        "READER_TOKEN": "r" * 16,
    }
    for text in PAGES[page]:
        arguments = shlex.split(text, comments=True)[1:]
        at = arguments.index(">") if ">" in arguments else len(arguments)
        target, arguments = arguments[at + 1 :], arguments[:at]
        given = [elsewhere(word, folder, admin) for word in arguments]
        given = [path for word in given for path in (sorted(map(str, Path().glob(word))) if "*.gz" in word else [word])]
        if arguments[:2] == ["cost", "watch"]:
            given.append("--once")
        before = len(served)
        variables = environment if arguments[0] != "run" else {**environment, "EDGEROUTER_ADMIN": ""}
        done = CliRunner().invoke(app, given, env=variables)
        assert done.exit_code == CODES.get(arguments[0], 0), f"{text}\n{done.output}\n{done.exception!r}"
        assert len(served) == before + (arguments[0] == "run")
        if target:
            Path(*target).write_text(done.stdout)


def elsewhere(word: str, folder: Path, admin: str) -> str:
    """A word of a command with the files of the folder and the address of the edge."""
    word = word.replace("http://10.0.0.5:9090", f"http://{admin}")
    return re.sub(r"^((?:unix:)?)(/(?:var|srv|run)/)", rf"\1{folder}\2", word)


def test_most_commands_of_the_pages_are_found() -> None:
    assert sum(map(len, PAGES.values())) > 25
