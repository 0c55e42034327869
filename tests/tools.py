"""Programs that ``scripts/install-tool`` builds once."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def tool(name: str) -> str:
    found = subprocess.run(
        [str(ROOT / "scripts" / "install-tool"), name], stdout=subprocess.PIPE, text=True, check=True
    )
    return f"{found.stdout.strip()}/{name}"
