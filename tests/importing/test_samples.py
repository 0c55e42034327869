"""Ten configurations of each kind, written from what vendors document, become programs that edgerouter accepts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgerouter.application import FileApplication
from edgerouter.importing import FORMATS, Imported, read, writing
from edgerouter.testing.places import file_of

from ..certificates import Authority
from .samples import ALL, KINDS, Sample, samples

Import = Callable[[Sample], Imported]


@pytest.fixture
def import_(tmp_path: Path) -> Import:
    def make(sample: Sample) -> Imported:
        file = tmp_path / sample.file
        file.write_text(sample.source)
        return read(file)

    return make


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sample" in metafunc.fixturenames:
        metafunc.parametrize("sample", ALL, ids=[f"{sample.kind}: {sample.name}" for sample in ALL])


@pytest.mark.parametrize("kind", FORMATS)
def test_there_are_ten_samples_of_each_kind(kind: str) -> None:
    assert kind in KINDS
    assert len({sample.name for sample in samples(kind)}) >= 10


def test_the_page_names_every_format() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text().partition("## `edgerouter import FILE`")[2]
    assert [kind for kind in FORMATS if f"`{kind}`" not in page.partition("\n## ")[0]] == []


def test_a_source_is_recognised_and_each_difference_is_named(import_: Import, sample: Sample) -> None:
    imported = import_(sample)
    assert imported.format == sample.kind
    assert [f"{note.kind} {note.path}" for note in imported.report.notes] == sample.differences
    assert all(note.message and "\n" not in note.message for note in imported.report.notes)


def test_the_program_is_the_one_that_a_person_looked_at(import_: Import, sample: Sample) -> None:
    lines = [line for line in import_(sample).program.split("\n") if line]
    start = next(at for at, line in enumerate(lines) if line == sample.program[0])
    assert lines[start:] == sample.program


def test_the_program_passes_the_checks_of_edgerouter(
    import_: Import, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = import_(sample).program
    for name in re.findall(r'env\("(\w+)"\)', program):
        monkeypatch.setenv(name, "a secret of the test, long enough")
    for folder in re.findall(r'edge\.files\(\s*"[^"]*",\s*"([^"]+)"', program):
        there = tmp_path / "folders" / folder.strip("/.")
        there.mkdir(parents=True, exist_ok=True)
        program = program.replace(f'"{folder}"', f'"{there}"')
    issued = Authority(tmp_path).issue("www.example.com")
    (tmp_path / "GeoLite2-Country.mmdb").write_bytes(file_of({"192.0.2.1": {"country": "DE"}}))
    (tmp_path / "htpasswd").write_text(f"name:$2y$05${'.' * 53}\n")
    for name, there in (("ssl/www.pem", issued.chain), ("ssl/www.key", issued.key), ("nginx/htpasswd", "htpasswd")):
        program = program.replace(f'"/etc/{name}"', f'"{tmp_path / there}"')
    program = program.replace('"users.htpasswd"', f'"{tmp_path / "htpasswd"}"')
    file = tmp_path / "app.py"
    file.write_text(program)
    edge = FileApplication(str(file)).load()
    table = edge.compile()
    assert len(table.routes) == len(edge.routes) > 0, program


def test_the_text_is_the_same_without_a_formatter(
    import_: Import, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    formatted = import_(sample).program
    monkeypatch.setattr(writing, "formatted", lambda text: text)
    assert import_(sample).program == formatted


def test_no_value_that_may_be_secret_is_in_the_program_or_the_report(import_: Import, sample: Sample) -> None:
    imported = import_(sample)
    text = imported.program + "\n".join(note.text("x") for note in imported.report.notes)
    assert "do-not-copy" not in text
