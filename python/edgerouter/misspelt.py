"""The remedy of an error that Python raises on its own: the name that was probably meant, or where a module is sought.

CPython before 3.12 finds such names only for tracebacks that it prints itself, and none knows the words that other
frameworks have for the same thing.
"""

from __future__ import annotations

import builtins
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType, TracebackType

__all__ = ["did_you_mean", "habits", "remedy"]

#: Decorators that other frameworks have.
_VERBS = ("get", "post", "put", "patch", "delete")
#: The names that other frameworks give an application or its router.
_APPLICATIONS = (
    "app",
    "App",
    "application",
    "Application",
    "api",
    "router",
    "Router",
    "EdgeRouter",
    "server",
    "Server",
)
_REQUEST_HOOK, _RESPONSE_HOOK = '@edge.on("viewer_request", "/*")', '@edge.on("viewer_response", "/*")'
#: Names of classes of ours, and what they have for the words of others.
_WORDS: dict[str, dict[str, str]] = {
    "Edge": {
        "run": "leave it out, and start it by edgerouter run app.py",
        **{verb: f'write @edge.function("/path", methods=["{verb.upper()}"])' for verb in _VERBS},
        **dict.fromkeys(("before_request", "middleware", "hook", "add_middleware"), f"write {_REQUEST_HOOK}"),
        "after_request": f"write {_RESPONSE_HOOK}",
        "on_event": 'write @edge.on("start") or @edge.on("stop")',
        **dict.fromkeys(("errorhandler", "exception_handler"), 'write edge.route(..., errors={404: "/404.html"})'),
        **dict.fromkeys(
            ("add_route", "add_url_rule", "proxy", "proxy_pass", "reverse_proxy", "location"),
            'write edge.route("/*", to=edge.origin("site", "http://..."))',
        ),
        **dict.fromkeys(("upstream", "backend", "server"), 'write edge.origin("site", "http://...") or edge.group'),
        **dict.fromkeys(("static", "static_files", "root"), 'write edge.files("/static", "folder")'),
        **dict.fromkeys(("redirect", "add_redirect"), 'write edge.route("/old", redirect="/new")'),
        **dict.fromkeys(("cron", "every", "task"), 'write @edge.schedule("*/5 * * * *")'),
        "websocket": "write edge.mount with an ASGI application that has the websocket",
    },
    "Request": {
        **dict.fromkeys(("args", "GET", "query_params", "values"), 'write request.query["name"]'),
        **dict.fromkeys(("path_params", "view_args", "match_info"), 'write request.params["name"]'),
        "COOKIES": 'write request.cookies["name"]',
        **dict.fromkeys(("header", "META"), 'write request.headers["name"]'),
        **dict.fromkeys(("remote_addr", "ip", "remote", "client_ip"), "write request.client"),
        **dict.fromkeys(("data", "content", "get_data", "stream"), "write request.body"),
        "get_json": "write request.json()",
        **dict.fromkeys(("POST", "files", "FILES"), "write request.form()"),
        "user_agent": 'write request.headers.get("user-agent")',
        "full_path": "write request.path and request.query_string",
        "base_url": "write request.url",
        "jwt": "write request.claims",
    },
    "Response": {
        **dict.fromkeys(("status_code", "code"), "write status"),
        **dict.fromkeys(("data", "content", "response"), "write body"),
        **dict.fromkeys(("mimetype", "content_type", "media_type"), 'write headers={"content-type": "..."}'),
        **dict.fromkeys(("file", "send_file", "FileResponse"), 'serve the folder by edge.files("/path", "folder")'),
    },
    "Context": {
        "kv": 'write ctx.env.NAME, which edge.kv("NAME", ...) declares',
        **dict.fromkeys(("db", "database"), 'write ctx.env.NAME, which edge.database("NAME", ...) declares'),
        **dict.fromkeys(("geo", "user", "client", "params"), "that is on the request"),
        "waitUntil": "write ctx.wait_until",
    },
}
_WORDS["AsyncContext"] = _WORDS["Context"]
#: Examples of calls whose arguments are missing.
_CALLS = {
    "Edge": 'Edge("site")',
    "origin": 'edge.origin("site", "http://127.0.0.1:9000")',
    "group": 'edge.group("site", [first, second])',
    "route": 'edge.route("/*", to=site)',
    "function": '@edge.function("/hello/{name}")',
    "on": '@edge.on("viewer_request", "/*")',
    "files": 'edge.files("/static", "folder")',
    "mount": 'edge.mount("/app", app)',
    "kv": 'edge.kv("NAME", "memory:")',
}
#: Words of others for fields and arguments; each is given only where it exists.
_FIELDS = {
    **dict.fromkeys(("max_age", "s_maxage", "expires", "lifetime", "duration", "seconds"), "ttl"),
    **dict.fromkeys(("port", "host", "bind", "address"), "listen"),
    **dict.fromkeys(("code", "status_code"), "status"),
    **dict.fromkeys(("origin", "upstream", "backend", "target", "proxy_pass"), "to"),
    **dict.fromkeys(("cache_policy", "caching"), "cache"),
    **dict.fromkeys(("limit", "limits", "throttle"), "rate_limit"),
    **dict.fromkeys(("jwt", "token", "authentication"), "auth"),
    "claims": "forward",
    **dict.fromkeys(("gzip", "compression"), "compress"),
    **dict.fromkeys(("https", "tls", "scheme"), "viewer"),
}
_FUNCTION = 'a function that answers requests is declared by @edge.function("/*") and takes (request, ctx)'
#: Names that other platforms call by themselves, and what stands for them here.
_HABITS = {
    "on_fetch": _FUNCTION,
    "Default": _FUNCTION,
    "lambda_handler": 'lambda_edge.attach(edge, lambda_handler, "viewer-request", "/*") runs a handler of Lambda@Edge',
}
#: The file of ``os.environ``, which may be a part of the interpreter.
_OS = (os.__file__, "<frozen os>")
#: Modules with public names that ``edgerouter`` itself does not have.
_HOLDERS = ("edgerouter.testing", "edgerouter.settings", "edgerouter.cache")
#: The least likeness of a name that is proposed.
_NEAR = 0.65


def remedy(error: BaseException) -> str:
    """The end of a message, such as ``; did you mean site?``; empty where nothing is near."""
    try:
        return next((f"; {text}" for text in _remedies(error) if text), "")
    except Exception:  # noqa: BLE001  # an object of the user's may raise anything when its names are read
        return ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean NAME?``: a word that others have for it, the nearest, or those that ``name`` is a word of."""
    import difflib

    names = [it for it in known if it != name]
    if (word := _FIELDS.get(name)) in names:
        return f"did you mean {word}?"
    near = [it for it in names if it.lower() == name.lower()] or difflib.get_close_matches(name, names, 1, _NEAR)
    holding = [it for it in names if name in it.split("_")]
    if len(holding) > 1:
        return f"did you mean {', '.join(holding[:-1])} or {holding[-1]}?"
    return f"did you mean {(near or holding)[0]}?" if near or holding else ""


def habits(names: Iterable[str]) -> Iterator[str]:
    """The remedies for those of the names that other platforms call by themselves."""
    given = set(names)
    return (remedy for name, remedy in _HABITS.items() if name in given)


def _remedies(error: BaseException) -> Iterator[str]:
    if isinstance(error, ModuleNotFoundError):
        yield from _of_module(error.name or "")
    elif isinstance(error, SyntaxError):
        is_no_text = "unicode error" in (error.msg or "") or "null bytes" in (error.msg or "")
        yield "save the file as UTF-8" if is_no_text else ""
    elif isinstance(error, AttributeError):
        yield from _of_attribute(error)
    elif isinstance(error, NameError):
        yield from _of_name(error)
    elif isinstance(error, ImportError):
        yield from _of_import(error)
    elif isinstance(error, TypeError):
        yield from _of_type(str(error))
    elif isinstance(error, KeyError):
        frame = _last(error.__traceback__)
        if frame is not None and frame.f_code.co_filename in _OS:
            yield "the variable is not set; env(NAME) in place of os.environ names it and its field"


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _last(trace: TracebackType | None) -> FrameType | None:
    """The frame that raised."""
    frame = None
    for frame in _frames(trace):  # noqa: B007
        pass
    return frame


def _of_attribute(error: AttributeError) -> Iterator[str]:
    if error.name is None:
        # An assignment: only the text has the names.
        given = re.search(r"'edgerouter\.(\w+)' object has no attribute '(\w+)'", str(error))
        yield _WORDS.get(given[1], {}).get(given[2], "") if given else ""
        return
    name, holder = error.name, error.obj
    kind = holder if isinstance(holder, type) else type(holder)
    if hasattr(kind, "__await__"):
        yield "is an await missing?"
    if isinstance(holder, Mapping) and name in holder:
        yield f'it is a key: write ["{name}"]'
    if kind.__module__.partition(".")[0] == "edgerouter":
        yield _WORDS.get(kind.__name__, {}).get(name, "")
        # A value beside its class, as ``cache.OPTIMIZED`` is beside ``CachePolicy``.
        module = sys.modules[kind.__module__]
        if isinstance(holder, type) and name in getattr(module, "__all__", ()):
            yield f"did you mean {module.__name__.rpartition('.')[2]}.{name}?"
    yield did_you_mean(name, _shown(dir(holder), name))


def _of_name(error: NameError) -> Iterator[str]:
    """The program's own names come before those of Python."""
    name, frame = error.name or "", _last(error.__traceback__)
    if frame is None:
        return
    known = {**frame.f_globals, **frame.f_locals}
    if name in _APPLICATIONS:
        yield from (f"did you mean {it}?" for it, value in known.items() if type(value).__name__ == "Edge")
    yield did_you_mean(name, sorted(known))
    yield did_you_mean(name, dir(builtins)) if len(name) > 3 else ""


def _of_module(name: str) -> Iterator[str]:
    if name.startswith("edgerouter."):
        yield "the public names are in edgerouter itself, as in from edgerouter import Edge"
    if name.replace("_", "").lower().startswith("edgerouter"):
        yield "did you mean edgerouter?"
    yield f"is it installed for {sys.executable}?" if name else ""


def _of_import(error: ImportError) -> Iterator[str]:
    named = re.match(r"cannot import name '(\w+)'", error.msg)
    if named is None or error.name not in sys.modules:
        return
    module = sys.modules[error.name]
    if any(frame.f_globals is vars(module) for frame in _frames(error.__traceback__)):
        yield f"{error.name} is still being read, and imports this file: move what both need to a third one"
        return
    if error.name == "edgerouter" and named[1] in _APPLICATIONS:
        yield "did you mean Edge?"
    if error.name == "edgerouter":
        for holder in _HOLDERS:
            if named[1] in importlib.import_module(holder).__all__:
                yield f"write from {holder} import {named[1]}"
    yield did_you_mean(named[1], getattr(module, "__all__", None) or _shown(dir(module), named[1]))


def _of_type(text: str) -> Iterator[str]:
    if re.search(r"can't be used in 'await' expression", text):
        yield "leave await out: it is here already"
    if re.search(r"\b(coroutine|Operation)\b", text):
        yield "is an await missing?"
    if re.match(r"'(builtin_function_or_method|method|function)' object is not (subscriptable|iterable)", text):
        yield "is it called, with parentheses?"
    if found := re.match(r"(?:\w+\.)*?(\w+)(?:\.__(?:new|init)__)?\(\) (got an unexpected keyword|missing)", text):
        if found[2] == "missing":
            yield f"as in {_CALLS[found[1]]}" if found[1] in _CALLS else ""
        elif argument := re.search(r"argument '(\w+)'", text):
            yield _WORDS.get(found[1], {}).get(argument[1], "")


def _shown(names: Iterable[str], sought: str) -> Iterable[str]:
    """Names without the private ones, unless such a one is sought."""
    return names if sought.startswith("_") else [name for name in names if not name.startswith("_")]
