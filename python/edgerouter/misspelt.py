"""The remedy of an error that Python raises on its own: the name that was probably meant, or where a module is sought.

CPython before 3.12 finds such names only for tracebacks that it prints itself.
"""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Iterable, Iterator

__all__ = ["remedy"]

#: Decorators that other frameworks have.
_VERBS = ("get", "post", "put", "patch", "delete")


def remedy(error: BaseException) -> str:
    """The end of a message, such as ``; did you mean site?``; empty where nothing is near."""
    try:
        if isinstance(error, ModuleNotFoundError):
            return f"; is it installed for {sys.executable}?" if error.name else ""
        if isinstance(error, AttributeError) and type(error.obj).__name__ == "Edge" and error.name in _VERBS:
            return f'; write @edge.function("/path", methods=["{error.name.upper()}"])'
        if isinstance(error, AttributeError) and type(error.obj).__name__ == "Edge" and error.name == "run":
            return "; leave it out, and start it by edgerouter run app.py"
        if isinstance(error, SyntaxError):
            is_no_text = "unicode error" in (error.msg or "") or "null bytes" in (error.msg or "")
            return "; save the file as UTF-8" if is_no_text else ""
        return next(filter(None, (_nearest(*sought) for sought in _sought(error))), "")
    except Exception:  # noqa: BLE001  # an object of the user's may raise anything when its names are read
        return ""


def _sought(error: BaseException) -> Iterator[tuple[str | None, Iterable[str]]]:
    """The name that is not there, and those that are; the program's own names come before those of Python."""
    if isinstance(error, NameError) and error.__traceback__ is not None:
        last = error.__traceback__
        while last.tb_next is not None:
            last = last.tb_next
        yield error.name, {*last.tb_frame.f_locals, *last.tb_frame.f_globals}
        yield error.name, dir(builtins)
    elif isinstance(error, AttributeError):
        yield error.name, dir(error.obj)
    elif isinstance(error, ImportError) and error.name in sys.modules:
        name = re.match(r"cannot import name '(\w+)'", error.msg)
        module = sys.modules[error.name]
        yield name and name[1], getattr(module, "__all__", None) or dir(module)


def _nearest(name: str | None, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, [it for it in known if it != name], 1) if name else []
    return f"; did you mean {near[0]}?" if near else ""
