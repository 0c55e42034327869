"""The guards that ``docs/where-to-add.md`` promises, and the names in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.main import get_command

from edgerouter import Edge
from edgerouter.cli.commands import app
from edgerouter.testing import running

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDE = (DOCS / "where-to-add.md").read_text()
COMMANDS = (DOCS / "cli.md").read_text()
EXAMPLE = ROOT / "rust/core/src/plan/compile/every_field.json"
FIELDS = [(kind, name) for kind, schema in Edge.schema()["$defs"].items() for name in schema["properties"]]
#: A value of these has one of several forms, and one plan cannot show all.
FORMS = {"ErrorPage", "KeySource", "Secret"}
#: Numbers of callables, which no user writes.
NUMBERS = {("Hook", "call")}


def shown(value: Any, schema: dict[str, Any], kinds: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of each field that a plan has."""
    for form in schema.get("anyOf", ()):
        yield from shown(value, form, kinds)
    if reference := schema.get("$ref"):
        kind = reference.rsplit("/", 1)[1]
        if isinstance(value, dict):
            yield from ((kind, name) for name in value)
            yield from shown(value, kinds[kind], kinds)
    elif isinstance(value, dict):
        other = schema.get("additionalProperties")
        for name, inner in value.items():
            found = schema.get("properties", {}).get(name, other)
            if isinstance(found, dict):
                yield from shown(inner, found, kinds)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            yield from shown(item, schema["items"], kinds)


def unmentioned(names: list[str], page: str) -> list[str]:
    return [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", page)]


def test_the_files_and_tests_that_the_guide_names_exist() -> None:
    named = re.findall(r"`((?:rust|python|docs|tests)/[\w/.-]*|README\.md)`", GUIDE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
    tests = re.findall(r"`(test_\w+|[a-z]\w+_\w+_\w+)`", GUIDE)
    files = (file for folder in ("tests", "rust/core/src") for file in (ROOT / folder).rglob("*.[pr][ys]"))
    code = "\n".join(file.read_text() for file in files if "test" in str(file.relative_to(ROOT)))
    assert len(tests) > 5
    assert [test for test in tests if not re.search(rf"\b(?:def|fn) {test}\b", code)] == []


def test_the_example_plan_has_every_field() -> None:
    schema = Edge.schema()
    found = set(shown(json.loads(EXAMPLE.read_text()), schema, schema["$defs"]))
    assert [field for field in FIELDS if field[0] not in FORMS and field not in found] == []


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in FIELDS}))
def test_a_page_names_every_field(kind: str) -> None:
    pages = "\n".join(page.read_text() for page in DOCS.glob("*.md"))
    code = "\n".join(re.findall(r"`[^`\n]+`|```.*?```", pages, re.DOTALL))
    names = [name for of, name in FIELDS if of == kind and (of, name) not in NUMBERS]
    assert unmentioned(names, code) == []


def test_the_page_names_every_command_and_option() -> None:
    def names(command: Any, path: str) -> Iterator[str]:
        for parameter in command.params:
            yield from (option for option in parameter.opts if option.startswith("--"))
        for name, inner in getattr(command, "commands", {}).items():
            yield f"{path} {name}"
            yield from names(inner, f"{path} {name}")

    told = COMMANDS + " ".join(
        f"edgerouter {outer} {inner}"
        for outer, several in re.findall(r"^## `edgerouter (\w+) ([\w |]+)", COMMANDS, re.MULTILINE)
        for inner in re.findall(r"\b[a-z]+\b", several)
    )
    assert unmentioned([*dict.fromkeys(names(get_command(app), "edgerouter"))], told) == []


def test_the_page_names_every_endpoint() -> None:
    with running(Edge("test")) as served:
        listed = httpx.get(f"{served.admin_url}/").text.split()[1:]
    assert "/metrics" in listed
    assert [path for path in listed if f"`{path}`" not in COMMANDS] == []
