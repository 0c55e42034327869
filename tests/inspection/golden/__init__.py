"""Output of `edgerouter explain` for the examples: one file for each, of commands and their output.

To add a case, write its line that begins with `$` into the file; to renew all outputs, run
`python -m tests.inspection.golden` in .venv and read the difference before you commit it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "examples"
FILES = sorted(HERE.glob("*.txt"))


def commands(file: Path) -> list[str]:
    return re.findall(r"^\$ (.+)$", file.read_text(), re.MULTILINE)


def output(example: str, command: str) -> str:
    """The command, and its output in the folder of the example."""
    name, *arguments = shlex.split(command)
    assert name == "edgerouter"
    ended = subprocess.run(
        [sys.executable, "-m", "edgerouter", *arguments],
        cwd=EXAMPLES / example,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "NO_COLOR": "1", "COLUMNS": "120", "JWT_SECRET": "0123456789abcdef" * 4},
    )
    lines = (line.rstrip() for line in (ended.stdout + ended.stderr).splitlines())
    return f"$ {command}\n" + "".join(f"{line}\n" for line in lines)


def renewed(file: Path) -> str:
    return "\n".join(output(file.stem, command) for command in commands(file))
