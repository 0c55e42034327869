"""``scripts/check-words`` finds what docs/style.md keeps out of prose, and nothing else."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHECK = Path(__file__).parents[2] / "scripts/check-words"

BAD = {
    "opening.rs": ("/// What the client sent.\nfn head() {}\n", "1: opens with “What”"),
    "second_paragraph.rs": ("//! Heads.\n//!\n//! Whoever waits gets one.\n", "3: opens with “Whoever”"),
    "boolean.rs": ("/// Whether it is fresh.\nfn fresh() {}\n", "1: opens with “Whether”"),
    "behind_code.rs": ('fn f() {}\nlet url = "http://x/"; // Who waits.\n', "2: opens with “Who”"),
    "block.rs": ("/* Where the field goes. */\n", "1: opens with “Where the”"),
    "filled.rs": ("// One fetch\n// that asks the origin.\n", "1: “asks”"),
    "name.rs": ("pub enum AttemptVerdict {}\n", "1: “AttemptVerdict”"),
    "docstring.py": ('def f() -> None:\n    """Whose turn it is."""\n', "2: opens with “Whose”"),
    "comment.py": ("count = 0  # What is left.\n", "1: opens with “What”"),
    "name.py": ("class PlanHelper: ...\n", "1: “PlanHelper”"),
    "item.md": ("# What it is\n\n* A worker\n* Whatever is left\n", "4: opens with “Whatever”"),
    "cell.md": ("| field | meaning |\n|---|---|\n| a | told to the client |\n", "3: “told”"),
    "item_goes_on.md": ("1. A fetch is\n   born on a miss.\n", "1: “born”"),
}

GOOD = {
    "code.rs": 'let asked = "// What the client sent"; let quote = \'"\'; // `told` is a name here\n',
    "question.py": "# What may be stored? RFC 9111 §3.\n",
    "apart.md": "# Whose it is\n\nA dimension tells responses apart.\n\n```\nasked = 1\n```\n",
    "verb.rs": "/// Stores the response unless what the client sent forbids it.\nstruct Response;\n",
}


words: Any = runpy.run_path(str(CHECK), run_name="check-words")


@pytest.mark.parametrize(("name", "text", "complaint"), [(name, *row) for name, row in BAD.items()], ids=BAD)
def test_a_comment_that_the_style_forbids_is_found_with_its_line(
    tmp_path: Path, name: str, text: str, complaint: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    ((line, found),) = words["complaints"](file)
    assert f"{line}: {found}".startswith(complaint)


@pytest.mark.parametrize(("name", "text"), GOOD.items(), ids=GOOD)
def test_code_quotations_and_questions_are_left_alone(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert list(words["complaints"](file)) == []


def test_a_file_with_a_complaint_fails_the_check_and_one_without_passes(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.md", tmp_path / "good.md"
    bad.write_text("The edge tells the origin.\n")
    good.write_text("The edge notifies the origin.\n")
    failed, passed = (subprocess.run([CHECK, file], capture_output=True, text=True, timeout=60) for file in (bad, good))
    assert (failed.returncode, failed.stdout.startswith(f"{bad}:1: “tells”")) == (1, True), failed
    assert (passed.returncode, passed.stdout, passed.stderr) == (0, "", "")
