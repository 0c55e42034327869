"""``edgerouter purge``: orders a purge at a running edge's admin listener, and follows it to its end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from edgerouter.cli.admin import Admin
from edgerouter.cli.running import say, warn
from edgerouter.purging import DryRun, Matched, Purge

__all__ = ["run"]

T = TypeVar("T")


def run(admin: Admin, order: Mapping[str, object], *, wait: float, as_json: bool) -> None:
    """Orders the purge and waits ``wait`` seconds for its counts. Raises ``AdminError``."""
    if order.get("dry_run"):
        _show_dry(_read(admin, admin.post("/v1/purges", order), DryRun), as_json=as_json)
        return
    purge = _read(admin, admin.post("/v1/purges", order), Purge)
    if not as_json and not purge.new:
        at = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(purge.created))
        say(f"{purge.id}: this reference was used before, at {at}; nothing more is purged")
    elif not as_json and wait > 0:
        say(f"{purge.id}: in effect for every request from now on")
    purge = _follow(admin, purge, wait, quiet=as_json)
    if as_json:
        say(json.dumps(msgspec.to_builtins(purge)))
    elif purge.completed:
        say(f"{purge.id}: completed, {_count(purge.matched)} matched")
    else:
        say(f"{purge.id}: in effect, still counting ({_count(purge.matched)} so far)")
    if purge.warning:
        warn(f"warning: {purge.warning}")


def _follow(admin: Admin, purge: Purge, wait: float, *, quiet: bool) -> Purge:
    """Polls until it is completed."""
    console = Console(stderr=True)
    shown: Any = nullcontext()
    progress = None
    if console.is_terminal and not quiet:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        progress = shown = Progress(*columns, console=console, transient=True)
    deadline = time.monotonic() + wait
    pause = 0.02
    with shown:
        task = None if progress is None else progress.add_task("purging", total=None)
        while not purge.completed and time.monotonic() < deadline:
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 1.5, 0.5)
            now = _read(admin, admin.get(f"/v1/purges/{purge.id}"), Purge)
            purge = msgspec.structs.replace(now, new=purge.new)
            if progress is not None and task is not None:
                progress.update(task, description=f"purging: {_count(purge.matched)}")
    return purge


def _show_dry(dry: DryRun, *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(msgspec.to_builtins(dry)))
    else:
        say(f"would match {_count(dry.matched)}")
        for name in dry.sample:
            say(f"  {name}")
    if dry.warning:
        warn(f"warning: {dry.warning}")


def _read(admin: Admin, answer: Mapping[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError:
        raise admin.stranger(200) from None


def _count(matched: Matched) -> str:
    objects = f"{matched.objects:,} object{'' if matched.objects == 1 else 's'}"
    return f"{objects}, {matched.bytes:,} bytes"
