"""The other parts of pages that a reader types: plan files, tests of a site, and commands within the text."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from edgerouter import Edge
from edgerouter.cli.commands import app
from edgerouter.costs.prices import Prices

from ..certificates import Authority

ROOT = Path(__file__).parents[2]
PAGES = {str(page.relative_to(ROOT)): page.read_text() for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]}
TOML = [
    pytest.param(page, block, id=f"{page}:{text.count(chr(10), 0, match.start()) + 1}")
    for page, text in sorted(PAGES.items())
    for match in re.finditer(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in [match[1]]
]
#: The beginning of a plan, for blocks that are a part of one.
ORIGIN = 'version = 1\nname = "shop"\n[[origins]]\nname = "site"\nurl = "http://10.0.0.1:8000"\n'
ROUTE = '[[routes]]\npattern = "/*"\nto = "site"\n'
SITE = """
from edgerouter import Edge, Request, Response

edge = Edge("shop")
edge.route("/*", to=edge.origin("site", "http://127.0.0.1:9"))


@edge.function("/hello/{name}")
async def hello(request: Request, ctx: object) -> Response:
    return Response.json({"hello": request.params["name"]})
"""


@pytest.mark.parametrize(("page", "block"), TOML)
def test_a_part_of_a_file_in_toml_is_read(
    page: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JWT_SECRET", "k" * 64)
    if page == "docs/costs.md":
        assert Prices.read(f'name = "of the page"\n{block}', page).name == "of the page"
        return
    issued = Authority(tmp_path, "of-the-page").issue("www.example.com")
    issued.chain.rename("fullchain.pem")
    issued.key.rename("privkey.pem")
    Path("errors").mkdir()
    Path("errors/502.html").write_text("<p>of the page")
    whole = block if "version" in block else ORIGIN + ROUTE + block
    Path("site.toml").write_text(whole)
    edge = Edge.from_file("site.toml")
    edge.compile()
    assert edge.count("routes")


def test_the_tests_of_the_pages_pass(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nedgerouter_app = app.py\n")
    count = 0
    for page, text in PAGES.items():
        blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        if tests := [block for block in blocks if re.search(r"^def test_", block, re.MULTILINE)]:
            (tmp_path / f"test_{Path(page).stem.replace('-', '_')}.py").write_text("\n".join([SITE, *tests]))
            count += sum(block.count("\ndef test_") + block.startswith("def test_") for block in tests)
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert f"{count} passed" in done.stdout and count >= 3


def within(text: str) -> list[str]:
    """The commands in the text of a page, which may continue over the end of a line."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(found.split()) for found in re.findall(r"`(edgerouter [a-z][^`]*)`", text)]


@pytest.mark.parametrize("page", sorted(page for page, text in PAGES.items() if within(text)))
def test_a_command_within_the_text_exists_and_has_its_options(page: str) -> None:
    whole, unknown = typer.main.get_command(app), []
    for line in within(PAGES[page]):
        command, options = whole, {"--help", "-h", "--version", "--install-completion", "--show-completion"}
        for word in shlex.split(line.replace("\\|", " "), comments=True)[1:]:
            is_option = word.startswith("-") and word != "-"
            if word in (commands := getattr(command, "commands", {})):
                command = commands[word]
                options |= {name for it in command.params for name in (*it.opts, *it.secondary_opts)}
            elif (is_option and word.partition("=")[0] not in options) or (command is whole and not is_option):
                unknown.append(f"{line}: {word}")
    assert unknown == []
