"""What ``edgerouter run`` does, and how a plain use of it is parsed without typer."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgerouter import logs, serving, storage
from edgerouter.application import FileApplication
from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.secrets import Secret, env

__all__ = ["Options", "plain", "refuse", "run", "say", "serve", "warn"]


#: Options that ``plain`` understands, each with one value; variables have the same names.
_WITH_VALUE = (
    "--listen",
    "--admin",
    "--admin-token-env",
    "--workers",
    "--disk-cache",
    "--disk-cache-size",
    "--memory-cache-size",
    "--access-log",
    "--access-log-format",
)
#: Options without a value.
_FLAGS = ("--reload", "--debug-errors")


@dataclass
class Options:
    """The command line of ``run``."""

    application: str = ""
    listen: list[str] = field(default_factory=list)
    admin: str | None = None
    admin_token_env: str | None = None
    admin_key_env: list[str] = field(default_factory=list)
    workers: int | None = None
    disk_cache: str | None = None
    disk_cache_size: str | None = None
    memory_cache_size: str | None = None
    access_log: str | None = None
    access_log_format: str | None = None
    reload: bool = False
    debug_errors: bool = False

    def sizes(self) -> storage.Sizes:
        """Raises ``ConfigError`` when a size is not one."""
        return storage.Sizes(
            disk_cache=self.disk_cache or None,
            disk_cache_size=_size("disk_cache_size", self.disk_cache_size, least=1 << 20),
            memory_cache_size=_size("memory_cache_size", self.memory_cache_size),
        )

    def settings(self) -> serving.Settings:
        """Raises ``ConfigError`` when an address or a number is not one."""
        return serving.Settings(
            listen=[item for given in self.listen for item in given.replace(",", " ").split()] or ["127.0.0.1:8080"],
            admin=self.admin or None,
            admin_token=env(self.admin_token_env) if self.admin_token_env else None,
            admin_keys=dict(_key_env(given) for given in self.admin_key_env),
            workers=self.workers,
            access_log=self.access_log or None,
            access_log_format=self.access_log_format or "combined",  # type: ignore[arg-type]  # it is checked
            debug_errors=self.debug_errors,
        )


def _size(option: str, given: str | None, *, least: int = 0) -> int | None:
    if not given:
        return None
    path = f"Settings.{option}"
    try:
        bytes_ = storage.size(given)
    except ValueError as error:
        raise ConfigError([Problem(path, repr(given), str(error))]) from None
    if bytes_ < least:
        raise ConfigError([Problem(path, repr(given), f"must be at least {least:,} bytes")])
    return bytes_


def _key_env(given: str) -> tuple[str, Secret]:
    """``AKID=NAME``: an access key, and the variable with its secret."""
    key, equals, name = given.partition("=")
    if not (key and equals and name):
        raise ConfigError([Problem("Settings.admin_key_env", given, "must be KEY=NAME, a key and a variable")])
    return key, env(name)


def plain(arguments: Sequence[str]) -> Options | None:
    """The options of a command line that is beyond doubt; ``None`` where typer should explain or complain."""
    options = Options()
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if not argument.startswith("-") and not options.application:
            options.application = argument
        elif argument in _FLAGS:
            setattr(options, argument[2:].replace("-", "_"), True)
        elif name in _WITH_VALUE:
            given = value if equals else next(rest, None)
            if given is None or not _take(options, name, given):
                return None
        else:
            return None
    if not options.application or not _take_environment(options):
        return None
    try:
        options.settings()
        options.sizes()
    except ConfigError:
        return None
    return options


def run(options: Options) -> int:
    """Serves to the end; the exit code."""
    logs.keep_standard_descriptors()
    with logs.queued():
        try:
            serve(options, options.settings())
        except EdgeError as error:
            refuse(error)
            return 1
        except KeyboardInterrupt:
            return 130
        return 0


class _Sized(FileApplication):
    """An application whose store is as the command line says, at the start and after each reload."""

    def __init__(self, spec: str, sizes: storage.Sizes) -> None:
        super().__init__(spec)
        self._sizes = sizes

    def load(self) -> Edge:
        return super().load()._sized(self._sizes)


def serve(options: Options, settings: serving.Settings) -> None:
    application = _Sized(options.application, options.sizes())
    if not serving.serve(application, settings, watch=options.reload, say=say, warn=warn):
        serving.leave(0)


def refuse(error: EdgeError) -> None:
    """Prints what is wrong, a line for each problem; indented lines show where."""
    for line in str(error).splitlines():
        warn(line if line.startswith(" ") else f"error: {line}")


def say(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # Whoever read this has gone; that is no reason to stop serving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(line: str) -> None:
    word, colon, rest = line.partition(":")
    colour = {"error": "31", "warning": "33"}.get(word)
    if sys.stderr is None:
        return
    if colour and sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        line = f"\033[1;{colour}m{word}{colon}\033[0m{rest}"
    print(line, file=sys.stderr, flush=True)


def _take(options: Options, name: str, value: str) -> bool:
    if name == "--listen":
        options.listen.append(value)
    elif name == "--workers":
        if not (value.isascii() and value.isdigit()):
            return False
        options.workers = int(value)
    else:
        setattr(options, name[2:].replace("-", "_"), value)
    return True


def _take_environment(options: Options) -> bool:
    """What the command line left open."""
    for name in _WITH_VALUE:
        attribute = name[2:].replace("-", "_")
        value = os.environ.get(f"EDGEROUTER_{attribute.upper()}")
        if value and not getattr(options, attribute) and not _take(options, name, value):
            return False
    options.admin_key_env = options.admin_key_env or os.environ.get("EDGEROUTER_ADMIN_KEY_ENV", "").split()
    for name in _FLAGS:
        attribute = name[2:].replace("-", "_")
        flag = os.environ.get(f"EDGEROUTER_{attribute.upper()}", "").lower()
        if flag not in ("", "0", "1", "true", "false", "yes", "no", "on", "off"):
            return False
        if flag in ("1", "true", "yes", "on"):
            setattr(options, attribute, True)
    return True
