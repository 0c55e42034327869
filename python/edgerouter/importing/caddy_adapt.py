"""The Caddyfile as JSON, by ``caddy adapt``, which reads and never runs it.

The command gets no environment, a bound on time, memory and output, and no file outside of the Caddyfile's folder.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgerouter.importing.report import Report, SourceError

__all__ = ["MissingCaddyError", "adapted"]

#: Of waiting, and of a processor: a usual Caddyfile takes a tenth of a second.
_SECONDS = 20
_CPU_SECONDS = 4
_LARGEST = 16 << 20
_MEMORY = 4 << 30


class MissingCaddyError(SourceError):
    """There is no ``caddy`` that reads a Caddyfile."""

    def __init__(self) -> None:
        super().__init__(
            "needs the command caddy, which reads Caddyfiles: install it, or import the JSON that "
            "`caddy adapt --config Caddyfile` prints on another machine"
        )


def adapted(path: Path, text: str, report: Report) -> str:
    """The configuration as JSON."""
    _look(text, report)
    caddy = shutil.which("caddy")
    if caddy is None:
        raise MissingCaddyError
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        command = [caddy, "adapt", "--config", str(path.resolve()), "--adapter", "caddyfile"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": home, "XDG_CONFIG_HOME": home, "XDG_DATA_HOME": home}
        try:
            done = subprocess.run(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                timeout=_SECONDS,
                check=False,
                preexec_fn=_bounded,
            )
        except subprocess.TimeoutExpired:
            raise SourceError(f"took caddy more than {_SECONDS} seconds") from None
        except OSError as error:
            raise SourceError(f"caddy cannot be started: {error.strerror}") from None
        out.seek(0)
        data = out.read(_LARGEST + 1)
        err.seek(0)
        said = err.read(4096).decode("utf-8", "replace")
    if done.returncode < 0 or "out of memory" in said:
        raise SourceError("takes caddy more time or memory than any usual Caddyfile")
    if done.returncode != 0:
        lines = [line for line in said.splitlines() if line.strip() and not line.startswith("{")]
        reason = (
            re.sub(r"^.*?(adapting config using caddyfile adapter: |Error: )", "", lines[-1]) if lines else "failed"
        )
        if "unrecognized directive" in reason or "unknown subdirective" in reason:
            reason += f"; {caddy} does not have it, and a newer one may: install that, or import its JSON"
        raise SourceError(f"is no Caddyfile: {reason.replace(str(path.resolve()), path.name)}")
    if len(data) > _LARGEST:
        raise SourceError("is more than 16 MiB as JSON")
    return data.decode("utf-8", "replace")


def _bounded() -> None:
    """Runs in the child: a bound on its memory, time and files."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST + 1, _LARGEST + 1))


def _look(text: str, report: Report) -> None:
    """Notes variables of the environment, and refuses files of other folders."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words[:1] == ["import"] and len(words) > 1 and (words[1].strip('"`').startswith("/") or ".." in words[1]):
            raise SourceError(f"line {number}: imports a file of another folder; put it beside the Caddyfile")
        for name, default in re.findall(r"\{\$(\w{1,60})(:[^}\s]*)?\}", line):
            if default:
                report.note("choice", name, f"is a variable of the environment; {default[1:]} is used", line=number)
            else:
                report.note("left-out", name, "is a variable of the environment, and empty here", line=number)
