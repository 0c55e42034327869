"""Reads a file of any format: finds out which one it is, makes the site, and has edgerouter accept it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgerouter.errors import ConfigError
from edgerouter.importing import caddy, caddy_adapt, cloudformation, nginx, page_rules, terraform, wrangler
from edgerouter.importing.documents import read_hcl, read_json, read_text, read_toml, read_yaml
from edgerouter.importing.model import Site
from edgerouter.importing.nodes import Node
from edgerouter.importing.report import Report, SourceError
from edgerouter.importing.writing import program
from edgerouter.origins import Origin

__all__ = ["FORMATS", "Imported", "read"]


@dataclass(frozen=True)
class Imported:
    """The program that a source became, and the report.

    ``format``  the format of the source; ``name``  of the edge
    """

    format: str
    name: str
    program: str
    report: Report


_Reader = Callable[[Path, str, Report], tuple[Site, Node | None]]


def _of_document(read: Callable[[Node, Report, Path], Site], fits: Callable[[Node], bool], refusal: str) -> _Reader:
    """Reads a document by ``read``, if it ``fits``."""

    def reader(path: Path, text: str, report: Report) -> tuple[Site, Node | None]:
        root = _document(path, text, report)
        if not fits(root):
            raise SourceError(refusal)
        return read(root, report, path), root

    return reader


def _read_terraform(path: Path, text: str, report: Report) -> tuple[Site, Node | None]:
    return terraform.read_terraform(read_hcl(text, report), report, path), None


def _read_page_rules(path: Path, text: str, report: Report) -> tuple[Site, Node | None]:
    root = _document(path, text, report)
    return page_rules.read_page_rules(root, report, path), root


def _read_nginx(path: Path, text: str, report: Report) -> tuple[Site, Node | None]:
    return nginx.read_nginx(path, text, report)[0], None


def _read_caddy(path: Path, text: str, report: Report) -> tuple[Site, Node | None]:
    if not _is_caddy_json(path, text):
        text = caddy_adapt.adapted(path, text, report)
    root = read_json(text, report)
    if not caddy.is_caddy(root):
        raise SourceError("is no configuration of Caddy: it has no apps")
    return caddy.read_caddy(root, report, path), root


def _is_caddy_json(path: Path, text: str) -> bool:
    return path.suffix.lower() == ".json" or (text.lstrip().startswith("{") and '"apps"' in text)


def _document(path: Path, text: str, report: Report) -> Node:
    """TOML, JSON with comments, or YAML; text that begins with a bracket is JSON, if its name does not differ."""
    if path.suffix.lower() == ".toml":
        return read_toml(text, report)
    if path.suffix.lower() == ".jsonc":
        return read_json(text, report, comments=True)
    if text.lstrip()[:1] in ("{", "[") and path.suffix.lower() not in (".yaml", ".yml"):
        return read_json(text, report)
    return read_yaml(text, report)


#: By the name that ``--from`` has.
_READERS: dict[str, _Reader] = {
    "cloudformation": _of_document(
        cloudformation.read_template,
        cloudformation.is_template,
        "is no CloudFormation template: it has no Resources",
    ),
    "cloudfront": _of_document(
        cloudformation.read_api,
        cloudformation.is_api,
        "is no distribution of CloudFront's API: it has no DistributionConfig",
    ),
    "terraform": _read_terraform,
    "wrangler": _of_document(
        wrangler.read_wrangler,
        wrangler.is_wrangler,
        "is no wrangler file: it has no main, assets or routes",
    ),
    "page-rules": _read_page_rules,
    "nginx": _read_nginx,
    "caddy": _read_caddy,
}

FORMATS = tuple(_READERS)
#: Names of files that are documents, whose mistakes are shown.
_DOCUMENTS = ("", ".json", ".jsonc", ".template", ".toml", ".yaml", ".yml")


def read(path: Path, *, of: str | None = None, origins: Mapping[str, str] | None = None) -> Imported:
    """Imports a file.

    ``of``  its format, one of ``FORMATS``; ``None``: by its name and its first values
    ``origins``  URLs for origins by their names, instead of those of the source

    Raises ``SourceError``, one line, when the file cannot be understood.
    """
    report = Report()
    text = read_text(path)
    try:
        kind = of or _format(path, text)
        site, root = _READERS[kind](path, text, report)
        for node in root.unread() if root is not None else ():
            node.left_out("has no counterpart in edgerouter")
        _move(site, origins or {})
        site.accept()
    except RecursionError:
        raise SourceError("is nested too deep") from None
    if not site.routes:
        raise SourceError(_nothing(report))
    return Imported(kind, site.name, program(site, path.name), report)


def _nothing(report: Report) -> str:
    left = [note for note in report.notes if note.kind == "left-out"]
    refused = next((note for note in left if "edgerouter refuses" in note.message), None)
    # The innermost value is part of a route; others, such as the settings of a process, serve nothing anyway.
    first = refused or max(left, key=lambda note: len(re.split(r" / |\.", note.path)), default=None)
    why = f": {first.path}: {first.message}" if first is not None else ""
    return f"has no route that edgerouter could serve{why}"


def _format(path: Path, text: str) -> str:
    if path.suffix.lower() in (".tf", ".hcl"):
        return "terraform"
    if path.name.lower().startswith("caddyfile") or path.suffix.lower() == ".caddyfile":
        return "caddy"
    if path.suffix.lower() == ".conf" or re.search(r"^\s*(server|http|upstream\s+\S+)\s*\{", text, re.MULTILINE):
        return "nginx"
    unknown = f"is of no known format; name it with --from: {', '.join(FORMATS)}"
    try:
        root = _document(path, text, Report())
    except SourceError:
        if path.suffix.lower() in _DOCUMENTS:
            raise
        # A program or another language, which only seemed to be YAML for want of anything else.
        raise SourceError(unknown) from None
    if cloudformation.is_template(root):
        return "cloudformation"
    if cloudformation.is_api(root):
        return "cloudfront"
    if caddy.is_caddy(root):
        return "caddy"
    if page_rules.is_page_rules(root):
        return "page-rules"
    if wrangler.is_wrangler(root):
        return "wrangler"
    raise SourceError(unknown)


def _move(site: Site, origins: Mapping[str, str]) -> None:
    """Gives origins other URLs."""
    for name, url in origins.items():
        declared = site.origins.get(name)
        if declared is None or not isinstance(declared.value, Origin):
            known = ", ".join(site.origins) or "there is none"
            raise SourceError(f"has no origin {name!r} for --origin: {known}")
        try:
            declared.value = msgspec.structs.replace(declared.value, url=url)
        except ConfigError as error:
            raise SourceError(f"--origin {name}: {error.problems[0].message}") from None
        declared.comments = [text for text in declared.comments if not text.startswith("Replace the host")]
