"""``edgerouter docs``: the pages of the documentation in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from edgerouter.cli.running import say, warn

if TYPE_CHECKING:
    from edgerouter import manual

__all__ = ["docs"]

#: Other places that are named after a section.
MOST_OTHERS = 8


def docs(
    word: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="A page, a heading or any words.", show_default=False),
    ] = None,
    path: Annotated[bool, typer.Option("--path", help="Print the path of the file instead.")] = False,
) -> None:
    """Show the page or section that fits best, in a pager on a terminal; without WORD the list of pages.

    The pages are part of the package. The exit code is 1 if no page has the words.
    """
    from edgerouter import manual

    if not word:
        _list(manual.pages())
        return
    wanted = " ".join(word)
    found = manual.find(wanted)
    if not found:
        warn(f"error: no page has {wanted!r}; `edgerouter docs` lists them")
        raise typer.Exit(1)
    best = found[0]
    if path:
        say(str(best.file))
        return
    places = dict.fromkeys(f"{section.page}: {section.title}" for section in found[1:])
    others = "".join(f"\n- {place}" for place in list(places)[:MOST_OTHERS])
    more = f"\n---\n\nAlso in:\n{others}\n" if others else ""
    _show(f"{best.text}{more}", f"docs/{best.page}.md")


def _list(pages: list[manual.Section]) -> None:
    width = max((len(page.page) for page in pages), default=0)
    for page in pages:
        say(f"{page.page:<{width}}  {page.title}")


def _show(text: str, source: str) -> None:
    """Markdown as it is on a pipe, for programs; set out and paged on a terminal."""
    if not sys.stdout.isatty():
        say(f"{text.rstrip()}\n\n({source})")
        return
    # The other commands start sooner without these.
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.pager(styles=console.color_system is not None):
        console.print(Markdown(text, hyperlinks=False))
        console.print(f"({source})", style="dim")
