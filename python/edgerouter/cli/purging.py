"""What ``edgerouter purge`` does: asks a running edge's admin listener, and follows the purge to its end."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from edgerouter.cli.running import say, warn
from edgerouter.errors import CacheError
from edgerouter.purging import DryRun, Matched, Purge

__all__ = ["Admin", "run"]

_PATIENCE = 10.0
"""Seconds for one call."""
_MOST_ANSWER = 16 << 20


class Admin:
    """The admin listener of a running edge."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self.url = (address if "://" in address else f"http://{address}").rstrip("/")
        if not self.url.lower().startswith(("http://", "https://")):
            raise CacheError(f"--admin: {address}: must be a URL with http or https, or HOST:PORT")
        self._token = token
        # The admin listener is beside us: no proxy of the environment leads there.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> bytes:
        """The answer's body. Raises ``CacheError`` with the listener's own words, or why there are none."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310
            with self._opener.open(request, timeout=_PATIENCE) as answer:
                text: bytes = answer.read(_MOST_ANSWER)
                return text
        except urllib.error.HTTPError as error:
            raise CacheError(_words(error)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise CacheError(f"--admin: {self.url}: {reason}; is the edge running with --admin?") from None


def _words(error: urllib.error.HTTPError) -> str:
    try:
        said = json.loads(error.read(65536))["error"]
        field, message = said["field"], said["message"]
    except (ValueError, KeyError, TypeError, OSError):
        return f"the admin listener answered {error.code} {error.reason}"
    hint = "; name the token's variable with --token-env" if error.code == 401 else ""
    return f"{field}: {message}{hint}" if field else f"{message}{hint}"


def run(admin: Admin, order: Mapping[str, object], *, wait: float, as_json: bool) -> None:
    """Orders the purge and waits ``wait`` seconds for its counts. Raises ``CacheError``."""
    if order.get("dry_run"):
        _show_dry(admin.call("POST", "/v1/purges", order), as_json=as_json)
        return
    purge = _purge(admin.call("POST", "/v1/purges", order))
    if not as_json and wait > 0:
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
    """Asks again until it is completed."""
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
            purge = _purge(admin.call("GET", f"/v1/purges/{purge.id}"))
            if progress is not None and task is not None:
                progress.update(task, description=f"purging: {_count(purge.matched)}")
    return purge


def _show_dry(answer: bytes, *, as_json: bool) -> None:
    try:
        dry = msgspec.json.decode(answer, type=DryRun)
    except msgspec.DecodeError:
        raise CacheError("--admin: what answers there is no admin listener of edgerouter") from None
    if as_json:
        say(json.dumps(msgspec.to_builtins(dry)))
    else:
        say(f"would match {_count(dry.matched)}")
        for name in dry.sample:
            say(f"  {name}")
    if dry.warning:
        warn(f"warning: {dry.warning}")


def _purge(answer: bytes) -> Purge:
    try:
        return msgspec.json.decode(answer, type=Purge)
    except msgspec.DecodeError:
        raise CacheError("--admin: what answers there is no admin listener of edgerouter") from None


def _count(matched: Matched) -> str:
    objects = f"{matched.objects:,} object{'' if matched.objects == 1 else 's'}"
    return f"{objects}, {matched.bytes:,} bytes"
