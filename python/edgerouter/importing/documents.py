"""Documents: text of a file to nodes. YAML with CloudFormation's short tags, JSON with comments, TOML, HCL.

Nothing of a file is executed, no tag makes an object, and size, depth and number of values are bounded before any
value is made. Aliases of YAML are refused: CloudFormation has none, and they are how a small file becomes a large one.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edgerouter.importing.nodes import Node, Plain, Scalar
from edgerouter.importing.report import Report, SourceError

__all__ = ["read_hcl", "read_json", "read_text", "read_toml", "read_yaml"]

LARGEST = 2 << 20
#: The parser of HCL is slow, and files of Terraform are small.
LARGEST_HCL = 64 << 10
DEEPEST = 60
MOST_VALUES = 100_000


def read_text(path: Path) -> str:
    """The text of a file, which must be UTF-8 and of a bounded size."""
    try:
        if not path.is_file():
            raise SourceError("is not a file" if path.exists() else "there is no such file")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > LARGEST:
        raise SourceError(f"is larger than {LARGEST >> 20} MiB, the most that is read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError("is not text in UTF-8") from None
    if "\0" in text:
        raise SourceError("is not text: it has NUL characters")
    return text


def read_yaml(text: str, report: Report) -> Node:
    """A YAML document. ``!Ref x`` becomes ``{"Ref": "x"}``, ``!Sub x`` ``{"Fn::Sub": "x"}``, and so on."""
    try:
        import yaml
    except ImportError:
        raise MissingPackageError("PyYAML", "YAML") from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    open_nodes: list[tuple[Node, str | None]] = []
    keys: list[str | None] = []
    root: Node | None = None
    values = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent):
                raise SourceError(f"line {line}: has a YAML alias, *{event.anchor}; write the value out")
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise SourceError(f"line {line}: has a second YAML document; only one is read")
            if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                open_nodes.pop()
                keys.pop()
                continue
            if not isinstance(event, yaml.NodeEvent):
                continue
            values += 1
            if values > MOST_VALUES:
                raise SourceError(f"has more than {MOST_VALUES} values")
            if len(open_nodes) > DEEPEST:
                raise SourceError(f"line {line}: is nested more than {DEEPEST} deep")
            parent = open_nodes[-1][0] if open_nodes else None
            if parent is not None and isinstance(parent.value, dict) and keys[-1] is None:
                if not isinstance(event, yaml.ScalarEvent):
                    raise SourceError(f"line {line}: has a key that is not a text")
                if event.value in parent.value:
                    raise SourceError(f"line {line}: has the key {event.value[:60]!r} twice")
                keys[-1] = event.value
                continue
            place = parent.path if parent is not None else ""
            if parent is not None:
                place += f"[{len(parent.value)}]" if isinstance(parent.value, list) else f".{keys[-1]}"
            place = place.removeprefix(".")
            made: Node
            if isinstance(event, yaml.ScalarEvent):
                plain = event.implicit[0] and event.tag is None
                made = Node(_scalar(event.value) if plain else event.value, place, report, line)
            else:
                made = Node({} if isinstance(event, yaml.MappingStartEvent) else [], place, report, line)
            outer = _tagged(event.tag, made, report)
            if parent is None:
                root = outer
            elif isinstance(parent.value, list):
                parent.value.append(outer)
            elif isinstance(parent.value, dict):
                parent.value[keys[-1] or ""] = outer
                keys[-1] = None
            if not isinstance(event, yaml.ScalarEvent):
                open_nodes.append((made, None))
                keys.append(None)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise SourceError(f"{where}is not YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise SourceError("is nested too deep") from None
    if root is None:
        raise SourceError("is empty")
    return root


class MissingPackageError(SourceError):
    """A package that reads a format is not installed."""

    def __init__(self, package: str, language: str) -> None:
        super().__init__(f"{package}, which reads {language}, is not installed: pip install 'edgerouter[import]'")


def _tagged(tag: str | None, node: Node, report: Report) -> Node:
    if not tag or not tag.startswith("!") or tag == "!":
        return node
    name = tag[1:]
    if name == "GetAtt" and isinstance(node.value, str):
        logical, _, attribute = node.value.partition(".")
        node.value = [Node(part, node.path, report, node.line) for part in (logical, attribute)]
    return Node({name if name in ("Ref", "Condition") else f"Fn::{name}": node}, node.path, report, node.line)


_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,18}\Z")


def _scalar(text: str) -> Scalar:
    """A plain scalar of YAML 1.1, as far as configurations have them; anything else stays a text."""
    low = text.lower()
    if low in ("", "~", "null"):
        return None
    if low in ("true", "yes", "on"):
        return True
    if low in ("false", "no", "off"):
        return False
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def read_json(text: str, report: Report, *, comments: bool = False) -> Node:
    """A JSON document, or one with comments and trailing commas."""
    if comments:
        text = _without_comments(text)
    return _parsed(partial(json.loads, parse_constant=_refused), text, "JSON", report)


def read_toml(text: str, report: Report) -> Node:
    """A TOML document."""
    # The parser takes quadratic time for a key of very many parts.
    for number, line in enumerate(text.splitlines(), 1):
        if _QUOTED.sub("", line).count(".") > 4 * DEEPEST:
            raise SourceError(f"line {number}: is nested more than {DEEPEST} deep")
    return _parsed(tomllib.loads, text, "TOML", report)


def _parsed(parse: Callable[[str], object], text: str, language: str, report: Report) -> Node:
    try:
        data = parse(text)
    except json.JSONDecodeError as error:
        raise SourceError(f"line {error.lineno}: is not {language}: {error.msg}") from None
    except RecursionError:
        raise SourceError("is nested too deep") from None
    except ValueError as error:
        raise SourceError(f"is not {language}: {error}") from None
    return Node.of(_bounded(data), "", report)


_QUOTED = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")


def read_hcl(text: str, report: Report) -> Node:
    """A Terraform document, as python-hcl2 gives it: blocks are lists of mappings, expressions ``${…}``."""
    try:
        import hcl2
        import lark
    except ImportError:
        raise MissingPackageError("python-hcl2", "Terraform") from None
    if len(text) > LARGEST_HCL:
        raise SourceError(f"is larger than {LARGEST_HCL >> 10} KiB, the most that is read of Terraform")
    _bound_nesting(text)
    options = hcl2.SerializationOptions(
        with_comments=False, explicit_blocks=True, preserve_heredocs=False, strip_string_quotes=False
    )
    try:
        data = hcl2.loads(text, serialization_options=options)
    except lark.exceptions.UnexpectedInput as error:
        line = getattr(error, "line", None)
        where = f"line {line}: " if isinstance(line, int) and line > 0 else ""
        raise SourceError(f"{where}is not HCL") from None
    except RecursionError:
        raise SourceError("is nested too deep") from None
    except Exception as error:  # noqa: BLE001 - the parser of a package, on a file of anybody
        raise SourceError(f"is not HCL: {type(error).__name__}") from None
    return _hcl_nodes(_bounded(data), "", report, None)


def _hcl_nodes(value: Plain, path: str, report: Report, line: int | None) -> Node:
    if isinstance(value, dict):
        made: dict[str, Node] = {}
        for quoted, item in value.items():
            name = quoted.strip('"')
            if not name.startswith("__"):
                made[name] = _hcl_nodes(item, f"{path}.{name}" if path else name, report, line)
        return Node(made, path, report, line)
    if isinstance(value, list):
        several = len(value) > 1 and path not in ("resource", "data")
        path = "" if path == "resource" else path
        return Node(
            [_hcl_nodes(item, f"{path}[{at}]" if several else path, report, line) for at, item in enumerate(value)],
            path,
            report,
            line,
        )
    if isinstance(value, str) and len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
    return Node(value, path, report, line)


def _bound_nesting(text: str) -> None:
    """Refuses brackets that are nested deeper than any configuration, before a recursive parser reads them."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        for sign in line:
            depth += (sign in "{[(") - (sign in "}])")
            if depth > DEEPEST:
                raise SourceError(f"line {number}: is nested more than {DEEPEST} deep")


def _bounded(data: object) -> Plain:
    """The data as plain values, within the bounds; anything else, such as a date, becomes a text."""
    count = 0

    def walk(value: object, depth: int) -> Plain:
        nonlocal count
        count += 1
        if count > MOST_VALUES:
            raise SourceError(f"has more than {MOST_VALUES} values")
        if depth > DEEPEST:
            raise SourceError(f"is nested more than {DEEPEST} deep")
        if isinstance(value, dict):
            return {str(name): walk(item, depth + 1) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [walk(item, depth + 1) for item in value]
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        return str(value)

    return walk(data, 0)


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no value")


def _without_comments(text: str) -> str:
    """JSON with comments and trailing commas as JSON. Line numbers stay. Each sign is looked at once."""
    made: list[str] = []
    comma: int | None = None
    at, end = 0, len(text)
    while at < end:
        sign = text[at]
        if sign == '"':
            stop = at + 1
            while stop < end and text[stop] not in '"\n':
                stop += 2 if text[stop] == "\\" else 1
            made.append(text[at : stop + 1])
            at, comma = stop + 1, None
        elif text.startswith("//", at):
            stop = text.find("\n", at)
            at = end if stop < 0 else stop
        elif text.startswith("/*", at):
            stop = text.find("*/", at + 2)
            stop = end if stop < 0 else stop + 2
            made.append("\n" * text.count("\n", at, stop))
            at = stop
        else:
            if sign in "]}" and comma is not None:
                made[comma] = ""
            if sign == ",":
                comma = len(made)
            elif not sign.isspace():
                comma = None
            made.append(sign)
            at += 1
    return "".join(made)
