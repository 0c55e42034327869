"""``edgerouter import``: writes the program of another edge's configuration, and its report."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgerouter.importing import Imported, read
from edgerouter.importing.caddy_adapt import MissingCaddyError
from edgerouter.importing.documents import MissingPackageError
from edgerouter.importing.report import SourceError

__all__ = ["Order", "run"]

DONE, REFUSED, NOT_UNDERSTOOD, LEFT_OUT = 0, 1, 2, 3


@dataclass(frozen=True)
class Order:
    """The arguments of the command.

    ``output``  the file of the program; ``-``: standard output
    ``report``  a file for the report besides standard error
    """

    file: Path
    output: str
    report: Path | None
    of: str | None
    origins: Mapping[str, str]
    as_json: bool


def run(order: Order) -> int:
    """Imports the file; returns the exit code."""
    shown = str(order.file)
    try:
        imported = read(order.file, of=order.of, origins=order.origins)
    except (MissingPackageError, MissingCaddyError) as error:
        return _failed(f"{shown}: {error}", REFUSED)
    except SourceError as error:
        return _failed(f"{shown}: {error}", NOT_UNDERSTOOD)
    except Exception as error:  # noqa: BLE001 - a file of anybody: what no test has found is one line, too
        return _failed(f"{shown}: has a shape that is not understood ({type(error).__name__})", NOT_UNDERSTOOD)
    lines = _lines(imported, order.file.name)
    if (message := _write(order, imported, lines)) is not None:
        return _failed(message, REFUSED)
    for line in lines:
        print(line, file=sys.stderr)
    if order.as_json:
        print(json.dumps(_data(order, imported), indent=2, ensure_ascii=False))
    elif order.output == "-":
        sys.stdout.write(imported.program)
    else:
        print(f"wrote {order.output}")
    return LEFT_OUT if imported.report.left_out else DONE


def _failed(message: str, code: int) -> int:
    printable = "".join(sign if sign.isprintable() else "�" for sign in message)
    print(f"error: {printable}", file=sys.stderr)
    return code


def _lines(imported: Imported, file: str) -> list[str]:
    lines = [note.text(file) for note in imported.report.notes]
    if imported.report.more:
        lines.append(f"left out: {file}: {imported.report.more} more differences are not shown")
    return lines


def _write(order: Order, imported: Imported, lines: list[str]) -> str | None:
    """Writes the files. Returns the reason if that is not possible."""
    if order.output != "-":
        try:
            with Path(order.output).open("x", encoding="utf-8") as file:
                file.write(imported.program)
        except FileExistsError:
            return f"{order.output}: already there; nothing was written. Choose another with --output"
        except (OSError, ValueError) as error:
            return f"{order.output}: cannot be written: {getattr(error, 'strerror', None) or error}"
    if order.report is not None:
        data = json.dumps(_data(order, imported), indent=2, ensure_ascii=False)
        text = data if order.report.suffix == ".json" else "\n".join(lines)
        try:
            order.report.write_text(text + "\n" if text else "", encoding="utf-8")
        except (OSError, ValueError) as error:
            return f"{order.report}: cannot be written: {getattr(error, 'strerror', None) or error}"
    return None


def _data(order: Order, imported: Imported) -> dict[str, object]:
    return {
        "source": str(order.file),
        "format": imported.format,
        "name": imported.name,
        "output": order.output,
        **({"program": imported.program} if order.output == "-" else {}),
        "left_out": imported.report.left_out,
        "more": imported.report.more,
        "notes": imported.report.as_data(),
    }
