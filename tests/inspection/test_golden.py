"""``edgerouter explain`` says of each example what its golden file holds (see ``tests/inspection/golden``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from .golden import EXAMPLES, FILES, renewed


def test_each_example_has_a_golden_file() -> None:
    examples = {folder.name for folder in EXAMPLES.iterdir() if (folder / "app.py").exists()}
    # The example of places needs files that cannot be part of this repository; tests/geo makes some for it.
    assert {file.stem for file in FILES} == examples - {"geo"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_explain_prints_what_the_golden_file_holds(file: Path) -> None:
    assert renewed(file) == file.read_text()
