"""The group of all commands: their order in the help, and the words of other tools that its errors know."""

from __future__ import annotations

from typing import Any

import typer

__all__ = ["CommandGroup"]

#: The commands of the first day, in the order in which they are used; the help shows the others behind them by name.
_FIRST = ("init", "dev", "check", "explain", "run", "docs")


#: Words that other servers have for it: the option that is meant, or what to do.
_OPTIONS = dict.fromkeys(("--port", "-p", "--host", "--bind", "-b", "--address"), "--listen")
_COMMANDS = {
    **dict.fromkeys(("serve", "server", "start"), "Did you mean 'run'?"),
    **dict.fromkeys(("validate", "test", "lint", "routes"), "Did you mean 'check'?"),
    **dict.fromkeys(("logs", "log"), "Did you mean 'tail'?"),
    **dict.fromkeys(("status", "stats"), "Did you mean 'top'?"),
    **dict.fromkeys(("new", "create"), "Did you mean 'init'?"),
    **dict.fromkeys(("invalidate", "ban"), "Did you mean 'purge'?"),
    "help": "Did you mean '--help'?",
    "reload": "An edge reloads by itself with 'run --reload', and on SIGHUP: kill -HUP PID.",
    **dict.fromkeys(("stop", "quit"), "An edge ends on SIGTERM, after the requests under way: kill PID."),
}


class CommandGroup(typer.core.TyperGroup):
    """A group whose help begins with the commands that a newcomer needs, and whose errors know words of other tools."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except Exception as error:
            # The classes of these errors have no name that all versions of typer know.
            meant = _OPTIONS.get(getattr(error, "option_name", None) or "")
            command = getattr(getattr(error, "ctx", None), "command", None)
            if meant and any(meant in parameter.opts for parameter in getattr(command, "params", ())):
                error.possibilities = [meant]  # type: ignore[attr-defined]
            raise

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            if args and (meant := _meant(args[0])) and hasattr(error, "message"):
                error.message = f"No such command {args[0]!r}. {meant}"
            raise

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [*_FIRST, *sorted(set(super().list_commands(ctx)) - set(_FIRST))]


def _meant(word: str) -> str | None:
    """The remedy for a first word that is no command; ``None`` where nothing is known of it."""
    if word.partition(":")[0].lower().endswith((".py", ".toml", ".json")) or word.startswith(("http://", "https://")):
        return f"Did you mean 'run {word}'?"
    return _COMMANDS.get(word)
