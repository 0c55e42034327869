"""``edgerouter run``: its options, its work, and the parser of a plain use without typer."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

import msgspec

from edgerouter import logs, serving, storage
from edgerouter.application import FileApplication
from edgerouter.cli import variables
from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.left_threads import end_without
from edgerouter.secrets import Secret, env
from edgerouter.settings import Settings

__all__ = ["Options", "plain", "refuse", "run", "say", "serve", "serve_to_the_end", "variable", "warn"]


def _option(help: str, metavar: str | None = None, default: Any = None, **more: Any) -> Any:  # noqa: A002
    """An option of ``run``. Its flag and its variable follow from its name; ``more`` is as typer takes it."""
    more = {"help": help, "metavar": metavar, "show_default": False, **more}
    return field(default_factory=list, metadata=more) if default is list else field(default=default, metadata=more)


@dataclass
class Options:
    """The command line of ``run``: each field is ``--name`` and ``EDGEROUTER_NAME``, with its help."""

    application: str = ""
    listen: list[str] = _option(  # noqa: RUF009
        "The address to serve on, in plain text; may be repeated.  [default: 127.0.0.1:8080, or as APP says]",
        "HOST:PORT",
        default=list,
    )
    admin: str | None = _option(
        "The address of the admin listener (/healthz, /readyz, /metrics, purges).",
        "HOST:PORT",
        show_default="no admin listener",
    )
    admin_token_env: str | None = _option(
        "The environment variable with the Bearer token that the admin listener requires.", "NAME"
    )
    admin_reader_token_env: str | None = _option(
        "The variable with another token of the admin listener, whose holder may read and change nothing.", "NAME"
    )
    admin_socket: str | None = _option(
        "A unix socket of the admin listener, for processes of this user: they need no token.", "PATH"
    )
    deploy_folder: str | None = _option(
        "The folder of files that edgerouter deploy may name; needs a token or a socket of the admin listener.",
        "DIR",
        show_default="no deploys",
    )
    admin_key_env: list[str] = _option(  # noqa: RUF009
        "An access key for CloudFront clients, and the variable with its secret; may be repeated.",
        "KEY=NAME",
        default=list,
    )
    workers: int | None = _option("Worker threads.", show_default="one a core", min=1, max=1024)
    disk_cache: str | None = _option(
        "Also keep responses in this directory, so that they survive a restart.", "DIR", show_default="as APP says"
    )
    disk_cache_size: str | None = _option(
        "The size of the disk cache: 10GiB, 512MiB or bytes.", "SIZE", show_default="as APP says"
    )
    memory_cache_size: str | None = _option(
        "The size of the cache in memory.",
        "SIZE",
        show_default="as APP says, or a quarter of the memory, at most 4GiB",
    )
    access_log: str | None = _option("A file with a line for each request; - is standard output.", "FILE")
    access_log_format: str | None = _option("Its form.", "combined|json|short", show_default="combined")
    experiments_file: str | None = _option(
        "A file that keeps the counts of experiments, so that they survive a restart.",
        "FILE",
        show_default="in memory only",
    )
    cost_report: str | None = _option(
        "The file in which edgerouter cost watch --report keeps its report, for the dashboard.", "FILE"
    )
    tls_self_signed: bool = _option(
        "Serve https on the addresses of --listen, by a certificate for development (edgerouter cert).  "
        "[default address: 127.0.0.1:8443]",
        default=False,
    )
    reload: bool = _option("Reload when a file of the application changes.", default=False)
    debug_errors: bool = _option(
        "Show tracebacks of failed functions to clients on this machine, whatever the addresses are; "
        "--reload does so if all are loopback addresses.",
        default=False,
    )

    @classmethod
    def declared(cls) -> dict[str, Field[Any]]:
        """The options by their flags: every field but the application."""
        return {f"--{it.name.replace('_', '-')}": it for it in fields(cls) if it.metadata}

    def take(self, option: Field[Any], *given: str) -> bool:
        """Sets or extends an option; false: the text is not what the option takes."""
        if isinstance(values := getattr(self, option.name), list):
            values += given
        elif option.name == "workers":
            if not (given[0].isascii() and given[0].isdigit()):
                return False
            self.workers = int(given[0])
        else:
            setattr(self, option.name, given[0])
        return True

    def take_environment(self) -> bool:
        """Sets what the command line left open from the variables."""
        for option in self.declared().values():
            value = os.environ.get(variable(option), "")
            if option.default is False:
                if value.lower() not in ("", "0", "1", "true", "false", "yes", "no", "on", "off"):
                    return False
                if value.lower() in ("1", "true", "yes", "on"):
                    setattr(self, option.name, True)
            elif value and not getattr(self, option.name):
                given = value.split() if option.default is MISSING else [value]
                if given and not self.take(option, *given):
                    return False
        return True

    def addresses(self) -> list[str]:
        """The addresses of ``--listen``."""
        return [item for given in self.listen for item in given.replace(",", " ").split()]

    def sizes(self) -> storage.Sizes:
        """Raises ``ConfigError`` when a size is not one."""
        return storage.Sizes(
            disk_cache=self.disk_cache or None,
            disk_cache_size=_size("disk_cache_size", self.disk_cache_size, least=1 << 20),
            memory_cache_size=_size("memory_cache_size", self.memory_cache_size),
        )

    @classmethod
    def variables(cls) -> list[str]:
        """The variables of all options."""
        return [variable(option) for option in cls.declared().values()]

    def secrets(self) -> list[str]:
        """The variables that options name."""
        keys = (given.partition("=")[2] for given in self.admin_key_env)
        return [name for name in (self.admin_token_env, self.admin_reader_token_env, *keys) if name]

    def settings(self) -> Settings:
        """Raises ``ConfigError`` when an address or a number is not one."""
        return Settings(
            listen=self.addresses() or None,
            admin=self.admin or None,
            admin_token=env(self.admin_token_env) if self.admin_token_env else None,
            admin_reader_token=env(self.admin_reader_token_env) if self.admin_reader_token_env else None,
            admin_socket=self.admin_socket or None,
            deploy_folder=self.deploy_folder or None,
            admin_keys=dict(_key_env(given) for given in self.admin_key_env),
            workers=self.workers,
            access_log=self.access_log or None,
            access_log_format=self.access_log_format or "combined",  # type: ignore[arg-type]  # it is checked
            experiments_file=self.experiments_file or None,
            cost_report=self.cost_report or None,
            debug_errors=self.debug_errors,
        )


def variable(option: Field[Any]) -> str:
    """The environment variable that stands for an option."""
    return f"EDGEROUTER_{option.name.upper()}"


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
    declared = Options.declared()
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        option = declared.get(name)
        if not argument.startswith("-") and not options.application:
            options.application = argument
        elif option is None:
            return None
        elif option.default is False:
            if equals:
                return None
            setattr(options, option.name, True)
        else:
            given = value if equals else next(rest, None)
            if given is None or not options.take(option, given):
                return None
    if not options.application or not options.take_environment():
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
        except (OSError, RuntimeError, MemoryError) as error:
            if (lacking := _lacking(error)) is None:
                raise
            refuse(EdgeError(lacking))
            return 1
        except KeyboardInterrupt:
            return 130
        return 0


def _lacking(error: Exception) -> str | None:
    """The remedy for a lack of memory, descriptors or threads; ``None``: the error is another one."""
    if isinstance(error, MemoryError):
        return "there is not enough memory; raise its limit (ulimit -v, MemoryMax=)"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{os.strerror(error.errno)}; raise the limit on open files (ulimit -n, LimitNOFILE=)"
    # CPython has no other name for it; the core has the number of the system.
    without_thread = isinstance(error, RuntimeError) and str(error) == "can't start new thread"
    if without_thread or (isinstance(error, OSError) and error.errno == errno.EAGAIN):
        return "no thread can be started; raise the limits on them and on memory (ulimit -u, ulimit -v, TasksMax=)"
    return None


class _Changed(FileApplication):
    """An application whose store and listeners are as the command line says, at the start and after each reload."""

    def __init__(self, spec: str, sizes: storage.Sizes, secured: Secured | None, named: Iterable[str]) -> None:
        super().__init__(spec)
        self._sizes = sizes
        self._secured = secured
        #: Variables that options name; ``None`` after the first load.
        self._meant: set[str] | None = set(named)

    def load(self) -> Edge:
        edge = self.adapt(super().load())
        if self._meant is not None:
            variables.warn_of_misspelt({*Options.variables(), *variables.LOG}, self._meant, edge, warn)
            self._meant = None
        return edge

    def adapt(self, edge: Edge) -> Edge:
        edge.apply_sizes(self._sizes)
        if self._secured is not None:
            self._secured.apply(edge)
        return edge


class Secured:
    """The listeners of ``--tls-self-signed``, with one certificate for the life of the process."""

    def __init__(self, addresses: Sequence[str]) -> None:
        from edgerouter.development import LOCAL_NAMES, Authority
        from edgerouter.listening import Certificate, Tls
        from edgerouter.server import resolved

        addresses = addresses or ["127.0.0.1:8443"]
        hosts = (address.rpartition(":")[0].strip("[]") for address in addresses)
        names = dict.fromkeys([*LOCAL_NAMES, *(host for host in hosts if host not in ("", "0.0.0.0", "::"))])
        self.authority = Authority.of_user()
        chain, key = self.authority.issue(list(names), days=90)
        self._tls = Tls(Certificate(Secret.literal(chain), Secret.literal(key)))
        self._addresses = [address for given in addresses for address in resolved(given)]

    def apply(self, edge: Edge) -> None:
        for address in self._addresses:
            edge.listen(address, tls=self._tls)


def serve(options: Options, settings: Settings) -> None:
    secured = Secured(options.addresses()) if options.tls_self_signed else None
    application = _Changed(options.application, options.sizes(), secured, options.secrets())
    if secured is not None:
        say(f"clients verify the certificate by {secured.authority.certificate}")
        # They are listeners of the plan now.
        settings = msgspec.structs.replace(settings, listen=None)
    serve_to_the_end(application, settings, watch=options.reload)


def serve_to_the_end(application: FileApplication, settings: Settings, *, watch: bool) -> None:
    """Serves until the stop, after which the process ends whatever its callables still do."""
    if not serving.serve(application, settings, watch=watch, say=say, warn=warn):
        serving.leave(0)
    end_without(warn)


def refuse(error: EdgeError) -> None:
    """Prints what is wrong, a line for each problem; indented lines show where."""
    for line in str(error).splitlines():
        warn(line if line.startswith(" ") else f"error: {line}")


def say(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # The reader of this stream has gone; that is no reason to stop serving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(line: str) -> None:
    word, colon, rest = line.partition(":")
    colour = {"error": "31", "warning": "33"}.get(word)
    if sys.stderr is None:
        return
    if colour and sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        line = f"\033[1;{colour}m{word}{colon}\033[0m{rest}"
    print(line, file=sys.stderr, flush=True)
