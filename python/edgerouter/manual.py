"""The pages of ``docs/``, which the package holds as Markdown, and a search through their sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGES", "Section", "find", "pages"]

#: A link to ``docs/`` in the repository, a folder in the wheel.
PAGES = Path(__file__).parent / "pages"

#: Pages about the edge itself, and those that compare and measure it.
_ASIDE = frozenset({"architecture", "benchmarks", "compared", "conformance", "design", "style", "where-to-add"})
_HEADING = re.compile(r"^(#{1,6}) (.+?)\s*#*$")
_FENCE = re.compile(r"^ *(```|~~~)")


@dataclass(frozen=True)
class Section:
    """A heading with its text, up to the next heading of its level or above. ``page`` is the path without ``.md``."""

    page: str
    level: int
    title: str
    text: str

    @property
    def file(self) -> Path:
        return PAGES / f"{self.page}.md"


def pages() -> list[Section]:
    """Each page as a whole, in the order of their names."""
    return [page for file in _files() if (page := next(_sections(file), None)) is not None]


def find(word: str) -> list[Section]:
    """The sections that fit, the best first.

    A page of that name comes before a heading that has the words, and that before a section whose text has them. Words
    match in their other forms: ``cache`` is also ``caching``. Among equals a page for users is better than one about
    the edge itself, and the section with the words more often is better.
    """
    wanted = _plain(word)
    if not wanted:
        return []
    ranked = []
    for file in _files():
        for section in _sections(file):
            rank = _rank(section, wanted)
            if rank is not None:
                ranked.append((rank, section.page, section.title, section))
    return [section for *_, section in sorted(ranked, key=lambda one: one[:3])]


def _rank(section: Section, wanted: str) -> tuple[int, ...] | None:
    """Less is better; ``None``: the section does not have the word."""
    title, stems, count = _plain(section.title), _stems(wanted), _plain(section.text).count(wanted)
    own, aside = section.level == 1, section.page in _ASIDE or section.page.startswith("runbooks/")
    if own and wanted in (_plain(section.page), _plain(Path(section.page).name)):
        return (0, 0)
    if own and stems and stems == _stems(_plain(section.page)):
        return (0, 1)
    if title == wanted:
        return (1, aside, section.level, -count)
    if stems and set(stems) <= set(_stems(title)):
        return (2, aside, section.level, -count)
    # A page has all words of its sections: those come first.
    return (4 if own else 3, aside, -count, section.level) if count else None


def _stems(text: str) -> list[str]:
    """The words without their endings: ``cache`` and ``caching`` have one stem, and so have ``log`` and ``logging``."""
    return [re.sub(r"(.)\1$", r"\1", re.sub(r"(?<=..)(ing|es|s|e)$", "", word)) for word in re.findall(r"\w+", text)]


def _plain(text: str) -> str:
    return re.sub(r"[\s`*_-]+", " ", text).strip().lower()


def _files() -> list[Path]:
    return sorted(file for folder in (PAGES, PAGES / "runbooks") for file in folder.glob("*.md"))


def _sections(file: Path) -> Iterator[Section]:
    lines = file.read_text(encoding="utf-8").splitlines()
    fenced, heads = False, []
    for number, line in enumerate(lines):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and (found := _HEADING.match(line)):
            heads.append((number, len(found[1]), found[2]))
    page = file.relative_to(PAGES).with_suffix("").as_posix()
    for index, (number, level, title) in enumerate(heads):
        end = next((at for at, other, _ in heads[index + 1 :] if other <= level), len(lines))
        yield Section(page, level, title, "\n".join(lines[number:end]).rstrip() + "\n")
