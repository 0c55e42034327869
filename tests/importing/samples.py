"""Sources of each kind with the differences that their import reports, from files of several sections.

A section is ``=== NAME``, the source, ``--- differences`` with a line ``KIND PATH`` for each note, and ``--- program``
with lines that the program has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"

#: The format of each file of sections, and the name that a source of it gets.
KINDS = {
    "cloudformation": "site.yaml",
    "cloudfront": "site.json",
    "terraform": "site.tf",
    "wrangler": "wrangler.toml",
    "page-rules": "rules.json",
    "nginx": "nginx.conf",
    "caddy": "Caddyfile",
}


@dataclass(frozen=True)
class Sample:
    """One source."""

    kind: str
    name: str
    source: str
    differences: list[str]
    program: list[str]

    @property
    def file(self) -> str:
        """The name of its file."""
        if self.source.startswith("{") and self.kind != "caddy":
            return "wrangler.jsonc" if self.kind == "wrangler" else "site.json"
        return "wrangler.yaml" if self.source.startswith("name: ") else KINDS[self.kind]


def samples(kind: str) -> list[Sample]:
    """The samples of a kind."""
    found = []
    for section in (FIXTURES / f"{kind}.txt").read_text().split("\n=== "):
        name, _, rest = section.removeprefix("=== ").partition("\n")
        source, _, expected = rest.partition("\n--- differences\n")
        differences, _, program = expected.partition("--- program\n")
        found.append(Sample(kind, name, source + "\n", differences.split("\n")[:-1], program.strip("\n").split("\n")))
    return found


ALL = [sample for kind in KINDS for sample in samples(kind)]
