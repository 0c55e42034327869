"""Functions and hooks as an edge declares them, and the checks of what is given to a decorator."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, TypeVar, Unpack, get_args, overload

from edgerouter.arguments import helpful
from edgerouter.cache import STANDARD, CachePolicy, Duration
from edgerouter.checks import Check, Value, shown
from edgerouter.deploying.names import plain_name
from edgerouter.errors import ConfigError, Problem
from edgerouter.experiments import Experiment
from edgerouter.functions.fetch_use import fetches
from edgerouter.functions.parameters import filled
from edgerouter.functions.signatures import FunctionDecorator, RequestHookDecorator, ResponseHookDecorator
from edgerouter.isolation import Isolation, isolated, isolated_application
from edgerouter.jobs import Handler, job
from edgerouter.route_options import RouteOptions, fields_of
from edgerouter.routes import Hook, Phase, Redirect, Route, check_varies
from edgerouter.trailing_slash import TrailingSlash, other_routes

if TYPE_CHECKING:
    from edgerouter.declarations import Declarations
    from edgerouter.functions.lifecycle import Life
    from edgerouter.functions.processes import ProcessPool
    from edgerouter.mounting import Interface

__all__ = ["CallableSpec", "Callables", "Called"]

F = TypeVar("F", bound=Callable[..., Any])
G = TypeVar("G", bound=Callable[[], Any])
_WEEK = 604_800


class Called(Value, frozen=True, kw_only=True):
    """A function or hook in the plan; the callable itself stays in Python."""

    name: str
    inline: bool = False
    serial: bool = False
    timeout: Duration | None = None
    fail: Literal["open", "closed"] = "closed"
    varies: Collection[str] | None = None

    @property
    def seconds(self) -> float | None:
        """The time-out as a number, which a ``timedelta`` became when it was checked."""
        return None if self.timeout is None else float(self.timeout)  # type: ignore[arg-type]

    def _check(self, check: Check) -> None:
        check.text("name")
        check.flag("inline", "serial")
        check.seconds("timeout", optional=True, positive=True)
        check.choice("fail", ("open", "closed"))
        check_varies(check)
        if self.inline is True and self.serial is True:
            check.fail("inline", "cannot be combined with serial: an inline callable runs on the thread that serves")


class CallableSpec(NamedTuple):
    """A callable as the function runtime takes it, in the plan's order."""

    callable: Callable[..., Any]
    is_async: bool
    inline: bool
    serial: bool
    timeout: float | None
    name: str
    waits_for_content: bool


class _HookOptions(TypedDict, total=False):
    """The options of ``Callables.on``."""

    host: str | None
    inline: bool
    serial: bool
    timeout: Duration | None
    fail: Literal["open", "closed"]
    varies: Collection[str] | None
    transforms: bool


class _MountOptions(RouteOptions, total=False):
    """The options that ``Callables.mount`` has from ``Callables.function``."""

    methods: Collection[str] | None
    experiment: Experiment | Collection[Experiment]
    cache: CachePolicy | None


class Callables:
    """The functions and hooks of an ``Edge``, which keeps them with the rest of its declarations."""

    _declared: Declarations

    @helpful
    def function(
        self,
        pattern: str,
        *,
        methods: Collection[str] | None = None,
        experiment: Experiment | Collection[Experiment] = (),
        trailing_slash: TrailingSlash = "strict",
        inline: bool = False,
        serial: bool = False,
        timeout: Duration | None = None,
        cache: CachePolicy | None = None,
        varies: Collection[str] | None = None,
        isolation: Literal["process"] | Isolation | None = None,
        **options: Unpack[RouteOptions],
    ) -> FunctionDecorator:
        """Declares an edge function: ``function(request, ctx)`` answers the route with a ``Response``.

        A function returns a ``Response``, text, bytes, a value that JSON can hold (also a dataclass, a msgspec struct
        or a pydantic model), a pair of such a value and a status, or an iterator of text or bytes, which is streamed.
        Parameters beside ``request`` and ``ctx`` are filled from the path and the query by their annotations. An async
        function gets an ``AsyncContext``. A plain ``def`` runs on a thread, and may run several times at once; an
        ``async def`` on the event loop.

        ``host``, ``methods``, ``when``, ``priority``, ``viewer``, ``headers``, ``auth``, ``addresses``, ``cors``,
        ``rate_limit``, ``signed``, ``basic``, ``security``, ``experiment``  see ``route``
        ``trailing_slash``  the other spelling of the path, with or without the slash at its end: ``"strict"``, another
        path; ``"redirect"``, a 308 to this one; ``"ignore"``, the same function
        ``inline``  it promises never to block or wait, and is called on the worker itself
        ``serial``  a plain callable that must not run beside itself or another serial one: all run on one thread
        ``timeout``  seconds it may take; ``limits.functions.timeout`` when ``None``
        ``cache``  how responses to GET are stored and reused, as those of an origin; ``None``: it is called for each
        request
        ``varies``  with ``cache``: the request fields (``"accept-language"``) and cookies (``"cookie:variant"``) that
        its response depends on, in place of what it is seen to read
        ``isolation``  ``"process"`` or an ``Isolation``: it runs in a process of its own, which imports it by its name
        """

        check_decorator("function", pattern, '@edge.function("/hello/{name}")')
        number = self._declared.decorator("function", pattern)

        def register(function: F) -> F:
            self._declared.waiting.pop(number, None)
            if varies is not None and not _stores(cache):
                message = "is for a function with cache=, whose responses are stored; remove it"
                raise ConfigError([Problem("function.varies", None, message)])
            called = declared(
                function,
                decorator="function",
                timeout=timeout,
                inline=inline,
                serial=serial,
                streams=True,
                varies=varies,
            )
            if inline is True and not is_async(function) and fetches(function, 1):
                message = "cannot be combined with ctx.fetch, which waits: leave inline=True out, or make it async"
                raise ConfigError([Problem("function.inline", called.name, message)])
            given = filled(function, pattern, called.name)
            if given is function:
                check_arguments(function, "request", "ctx")
            if isolation is not None:
                if inline or serial:
                    message = "cannot be combined with inline or serial: the function runs in another process"
                    raise ConfigError([Problem("function.isolation", called.name, message)])
                if _stores(cache) and varies is None:
                    message = "needs varies= beside cache=: what the function reads is not seen in another process"
                    raise ConfigError([Problem("function.isolation", called.name, message)])
                given = isolated(function, called.name, pattern, self._processes(isolation))

            def route(pattern: str, redirect: Redirect | None = None) -> Route:
                return Route(
                    pattern,
                    function=len(self._declared.callables) if redirect is None else None,
                    redirect=redirect,
                    methods=methods,
                    # A copy, as the default is left out of the plan, where a function without a policy has no cache.
                    cache=STANDARD if cache is None else copy.copy(cache) if isinstance(cache, CachePolicy) else cache,
                    **fields_of(options, experiment),
                )

            for make in (lambda: route(pattern), *other_routes(pattern, trailing_slash, route)):
                self._declared.add_route(make)
            self._declared.callables.append((called, given))
            return function

        return register

    def _processes(self, isolation: Literal["process"] | Isolation) -> ProcessPool:
        policy = Isolation() if isolation == "process" else isolation
        if not isinstance(policy, Isolation):
            message = f'is {shown(isolation)}, but must be "process" or an Isolation'
            raise ConfigError([Problem("function.isolation", None, message)])
        pools = self._declared.processes
        if (pool := pools.get(policy)) is None:
            from edgerouter.functions.processes import ProcessPool

            pool = pools[policy] = ProcessPool(policy, self._declared.bindings)
            self.on("start", timeout=pool.patience)(pool.start)
            self.on("stop")(pool.stop)
        return pool

    @helpful
    def mount(
        self,
        path: str,
        app: Callable[..., Any],
        *,
        interface: Interface | None = None,
        timeout: Duration | None = None,
        message_bytes: int = 1 << 20,
        sends_files: bool = False,
        isolation: Literal["process"] | Isolation | None = None,
        **options: Unpack[_MountOptions],
    ) -> None:
        """Declares a web application of another framework at ``path`` and below: ASGI 3.0, or WSGI.

        It is called as a function is, with requests that the edge has cleaned; its lifespan begins before this version
        serves, and ends after its last call. ``root_path`` and ``SCRIPT_NAME`` are ``path``.

        ``interface``  ``"asgi"`` or ``"wsgi"``; ``None``: seen from the application
        ``timeout``  seconds until its response begins; ``limits.functions.timeout`` when ``None``
        ``message_bytes``  the largest message that a client may send on a WebSocket; a larger one closes it with 1009
        ``sends_files``  an ASGI application may have the edge read files for it (``http.response.pathsend``)
        ``isolation``  ``"process"`` or an ``Isolation``: it runs in processes of its own, which import it by its name.
        Each runs one call at a time, and others have its WebSockets
        ``host``, ``methods``, ``when``, ``priority``, ``viewer``, ``headers``, ``auth``, ``addresses``, ``cors``,
        ``rate_limit``, ``signed``, ``basic``, ``security``, ``experiment``  see ``route``
        ``cache``  see ``function``; the ``Vary`` of its responses tells them apart, as that of an origin does
        """
        from edgerouter import mounting, wsgi

        if not isinstance(path, str) or not path.startswith("/") or any(mark in path for mark in "*?{}#"):
            raise mounting.refuse(path, "must be a path such as /app, without wildcards and parameters")
        found = mounting.interface_of(app) if interface is None else interface
        if found not in ("asgi", "wsgi"):
            message = f"{shown(app)} is no ASGI or WSGI application; say interface='asgi' or 'wsgi' if it is one"
            raise mounting.refuse(path, message)
        if isinstance(message_bytes, bool) or not isinstance(message_bytes, int) or not 1 <= message_bytes <= 1 << 30:
            message = f"message_bytes={shown(message_bytes)}: must be a number of bytes from 1 to 2**30"
            raise mounting.refuse(path, message)
        if not isinstance(sends_files, bool):
            raise mounting.refuse(path, f"sends_files={shown(sends_files)}: must be True or False")
        if sends_files and found != "asgi":
            raise mounting.refuse(path, "sends_files=True is for ASGI: a WSGI application has no message for a file")
        root = path.rstrip("/")
        mounted: Any
        if isolation is not None:
            mounted = isolated_application(app, root, found, message_bytes, sends_files, self._processes(isolation))
        elif found == "asgi":
            mounted = asgi = mounting.AsgiMount(app, root, message_bytes, sends_files=sends_files)
            for phase, handler in (("start", asgi.start), ("stop", asgi.stop)):
                self.on(phase)(handler)  # type: ignore[call-overload]
        else:
            mounted = wsgi.WsgiMount(app, root)
        # Its name in logs, in metrics and in what ``check`` prints: there may be several.
        mounted.__module__, mounted.__qualname__ = "edge", f"mount({root or '/'})"
        cache = options.get("cache")
        # An application is an origin: the `Vary` of its responses says what they depend on.
        varies = () if _stores(cache) else None
        for pattern in (f"{root}/*", *((root,) if root else ())):
            self.function(pattern, timeout=timeout, varies=varies, **options)(mounted)

    def schedule(
        self, expression: str, *, timezone: str = "UTC", timeout: Duration = 300
    ) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
        """Declares a job: ``job()``, async or not, is called at the times of a cron expression while the edge serves.

        Of several processes of one user on a machine, one runs it each time. A time that comes while the job still runs
        is left out; a failure is logged under an id.

        ``expression``  minute, hour, day, month and weekday, as in ``*/5 * * * *``; six fields begin with the second
        ``timezone``  an IANA name, by which they are read
        ``timeout``  seconds that a run may take
        """

        check_decorator("schedule", expression, '@edge.schedule("*/5 * * * *")')
        number = self._declared.decorator("schedule", expression)

        def register(function: Callable[[], Any]) -> Callable[[], Any]:
            self._declared.waiting.pop(number, None)
            check_arguments(function)
            called = declared(function, decorator="schedule", timeout=timeout)
            seconds = _patience("schedule", called)
            self._declared.jobs.append(job(called.name, function, expression, timezone, seconds))
            return function

        return register

    @overload
    def on(self, phase: Literal["start", "stop"], *, timeout: Duration = ...) -> Callable[[G], G]: ...
    @overload
    def on(
        self, phase: Literal["viewer_request", "origin_request"], pattern: str = ..., **options: Unpack[_HookOptions]
    ) -> RequestHookDecorator: ...
    @overload
    def on(
        self, phase: Literal["origin_response", "viewer_response"], pattern: str = ..., **options: Unpack[_HookOptions]
    ) -> ResponseHookDecorator: ...
    @overload
    def on(self, phase: Phase, pattern: str = ..., **options: Unpack[_HookOptions]) -> Callable[[F], F]: ...
    @helpful
    def on(
        self,
        phase: Phase | Literal["start", "stop"],
        pattern: str = "/*",
        *,
        host: str | None = None,
        inline: bool = False,
        serial: bool = False,
        timeout: Duration | None = None,
        fail: Literal["open", "closed"] = "closed",
        varies: Collection[str] | None = None,
        transforms: bool = False,
    ) -> Any:
        """Declares a hook: it is called in ``phase`` for every request that matches ``pattern``.

        ``"start"`` and ``"stop"`` are no phases: such a handler takes nothing, and is called before this version of the
        application serves, and after its last call. One that fails at the start keeps the version from serving. It may
        take ``timeout`` seconds (30).

        ``viewer_request`` and ``origin_request`` hooks take ``(request, ctx)``; ``origin_response`` and
        ``viewer_response`` hooks take ``(request, response, ctx)``. A hook returns nothing to go on, the changed
        request or response, or in the request phases a ``Response`` to answer now. Async hooks get an ``AsyncContext``.

        A stored response is given only to requests that agree in everything that hooks had a part in: the fields that a
        ``viewer_request`` hook sets or removes are part of the key, and a field or cookie that an ``origin_request`` or
        ``origin_response`` hook reads selects, as ``Vary`` would.

        ``host``  the one host on which it runs; ``None``: any
        ``inline``, ``serial``, ``timeout``  as for ``function``
        ``fail``  ``"closed"``: a hook that fails costs its request a 502 or 504; ``"open"``: go on without it, and
        store nothing of that request
        ``varies``  for the origin phases: the request fields (``"x-country"``) and cookies (``"cookie:variant"``) that
        the hook's effect depends on, in place of what it is seen to read; ``[]``: on nothing of the request
        ``transforms``  for the response phases: it calls ``response.transform`` or ``response.edit_html``, so that the
        origin is requested for content without a coding
        """

        check_decorator("on", phase, '@edge.on("viewer_request", "/*")')
        known = (*get_args(Phase), "start", "stop")
        if phase not in known:
            # The arguments that a hook has to take depend on it.
            raise ConfigError([Problem("Edge.on.phase", shown(phase), f"must be one of {', '.join(known)}")])

        if phase == "start" or phase == "stop":  # a type checker reads it so
            given = {
                "pattern": pattern != "/*",
                "host": host is not None,
                "inline": inline is not False,
                "serial": serial is not False,
                "fail": fail != "closed",
                "varies": varies is not None,
                "transforms": transforms is not False,
            }
            if without_effect := [name for name, value in given.items() if value]:
                message = f"has no effect for {phase!r}: leave it out"
                raise ConfigError(Problem(f"on.{name}", None, message) for name in without_effect)
            return self._handler(phase, 30 if timeout is None else timeout)

        number = self._declared.decorator("on", phase)

        def register(function: F) -> F:
            self._declared.waiting.pop(number, None)
            check_arguments(function, "request", *(["response"] if str(phase).endswith("response") else []), "ctx")
            called = declared(function, decorator="on", timeout=timeout, inline=inline, serial=serial, fail=fail)
            if fetches(function, 2 if str(phase).endswith("response") else 1):
                message = "calls ctx.fetch, which functions have and hooks have not: fetch in an edge.function"
                raise ConfigError([Problem("on", called.name, message)])
            self._declared.note("hooks")
            call = len(self._declared.callables)
            self._declared.hooks.append(
                Hook(phase=phase, pattern=pattern, host=host, call=call, varies=varies, transforms=transforms)
            )
            self._declared.callables.append((called, function))
            return function

        return register

    def _handler(self, phase: Literal["start", "stop"], timeout: Duration) -> Callable[[F], F]:
        number = self._declared.decorator("on", phase)

        def register(function: F) -> F:
            self._declared.waiting.pop(number, None)
            check_arguments(function)
            called = declared(function, decorator="on", timeout=timeout)
            handlers = self._declared.starts if phase == "start" else self._declared.stops
            handlers.append(Handler(called.name, function, _patience("on", called)))
            return function

        return register

    def life(self) -> Life | None:
        """The life of this version beside its calls; ``None`` where it has none."""
        declared = self._declared
        if not (declared.starts or declared.stops or declared.jobs):
            return None
        from edgerouter.functions.lifecycle import Life

        return Life(str(declared.head.get("name", "")), declared.starts, declared.stops, declared.jobs)

    def callables(self) -> list[CallableSpec]:
        """The functions and hooks, in the plan's order."""
        return self._declared.specs()


def _stores(cache: object) -> bool:
    """True if responses are stored; anything that is no policy is left for the check of the route."""
    if isinstance(cache, Mapping):
        return cache.get("enabled", True) is not False
    return cache is not None and getattr(cache, "enabled", True) is not False


def _patience(declaration: str, called: Called) -> float:
    """The seconds that a handler or job may take, which the event loop waits for."""
    if called.seconds is None or called.seconds > _WEEK:
        message = f"must be seconds, at most {_WEEK} (a week)"
        raise ConfigError([Problem(f"{declaration}.timeout", shown(called.timeout), message)])
    return called.seconds


def declared(
    function: Callable[..., Any],
    *,
    decorator: Literal["function", "on", "schedule"],
    timeout: Duration | None,
    inline: bool = False,
    serial: bool = False,
    fail: Literal["open", "closed"] = "closed",
    streams: bool = False,
    varies: Collection[str] | None = None,
) -> Called:
    """The plan's entry for a function, which ``streams``, or a hook; refuses one that cannot be called so."""
    if not callable(function):
        remedy = "; it is what the decorator below gave: does that return its function?" if function is None else ""
        if isinstance(function, (classmethod, property)):
            remedy = "; declare the method of an object, as in edge.function(...)(thing.method)"
        raise ConfigError([Problem("callables", shown(function), f"must be callable{remedy}")])
    module = getattr(function, "__module__", None) or "?"
    name = f"{plain_name(module)}.{getattr(function, '__qualname__', None) or type(function).__qualname__}"
    kinds = (function, type(function).__call__)
    if not streams and any(inspect.isgeneratorfunction(kind) or inspect.isasyncgenfunction(kind) for kind in kinds):
        message = "is a generator, and hooks do not stream; return a Response with the whole body, or use edge.function"
        raise ConfigError([Problem("callables", name, message)])
    if serial is True and is_async(function):
        message = "is async, which serial=True contradicts: it runs on the event loop; remove serial=True, or "
        message += "write a plain def"
        raise ConfigError([Problem("callables", name, message)])
    try:
        return Called(name=name, inline=inline, serial=serial, timeout=timeout, fail=fail, varies=varies)
    except ConfigError as error:
        # By the name that the decorator has.
        given = ((problem, problem.path.replace("Called.", f"{decorator}.", 1)) for problem in error.problems)
        raise ConfigError(problem._replace(path=path) for problem, path in given) from None


def check_decorator(name: str, pattern: object, example: str) -> None:
    """Refuses ``@edge.function`` where ``@edge.function("/path")`` is meant."""
    if callable(pattern):
        what = getattr(pattern, "__qualname__", shown(pattern))
        raise ConfigError([Problem(f"Edge.{name}", what, f"the decorator needs parentheses: write {example}")])


def check_arguments(function: Callable[..., Any], *arguments: str) -> None:
    """Refuses a callable that cannot take these arguments, as far as its signature can be read."""
    try:
        signature = inspect.signature(function)
        signature.bind(*arguments)
        named = [name for name in signature.parameters if name in arguments]
        if named != [name for name in arguments if name in named]:
            raise TypeError(f"{' and '.join(named)} are in another order")
    except ValueError:
        return
    except TypeError as error:
        if callable(function):
            name = getattr(function, "__qualname__", shown(function))
            if inspect.isclass(function):
                message = "is a class; decorate a function"
            elif str(error).endswith("in another order"):
                message = f"must take ({', '.join(arguments)}): {error}"
            else:
                wanted, found = (
                    f"({', '.join(names)})" if names else "no arguments" for names in (arguments, _taken(function))
                )
                message = f"must take {wanted}, and takes {found}"
            raise ConfigError([Problem("callables", name, message)]) from None


def _taken(function: Callable[..., Any]) -> list[str]:
    """The parameters of a callable, as they stand in its signature, without annotations."""
    empty = inspect.Parameter.empty
    return [str(it.replace(annotation=empty, default=empty)) for it in inspect.signature(function).parameters.values()]


def is_async(function: Callable[..., Any]) -> bool:
    kinds = (function, type(function).__call__)
    return any(inspect.iscoroutinefunction(kind) or inspect.isasyncgenfunction(kind) for kind in kinds)
