"""The engine and the decisions in Rust; ``rust/python/src`` documents each class."""

from asyncio import AbstractEventLoop, Task
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from datetime import datetime, timedelta
from logging import Logger
from pathlib import Path
from typing import (
    Any,
    ClassVar,
    Literal,
    NotRequired,
    Protocol,
    Self,
    TypeAlias,
    TypedDict,
    TypeVar,
    final,
    overload,
    type_check_only,
)

from typing_extensions import disjoint_base

from edgerouter.functions.forms import Form
from edgerouter.html import Edits, HtmlEdit
from edgerouter.origins import Group, Origin

__all__ = [
    "AssignedVariant",
    "AsyncCache",
    "AsyncContext",
    "AsyncDatabase",
    "AsyncDocumentServer",
    "AsyncKv",
    "AsyncStatement",
    "BackgroundCall",
    "Bindings",
    "Cache",
    "Caches",
    "CallContext",
    "Chunks",
    "ClientCertificate",
    "Context",
    "Database",
    "DocumentServer",
    "Engine",
    "EngineDeploys",
    "Env",
    "Geo",
    "Headers",
    "HtmlRewriter",
    "Interrupt",
    "Kv",
    "KvEntry",
    "KvKeys",
    "LoopQueue",
    "PendingFetch",
    "PieceSink",
    "PieceSource",
    "PlanTable",
    "Replay",
    "Request",
    "Response",
    "Runner",
    "SignalWatch",
    "SqlResult",
    "SqlScript",
    "Statement",
    "TracePlace",
    "Values",
    "WebSocketCodec",
    "__version__",
    "asgi_response",
    "asgi_scope",
    "assemble",
    "bucket",
    "cache_key",
    "captures",
    "certificate_facts",
    "check_edit",
    "compile",
    "current_call",
    "development_authority",
    "dismantle",
    "explain",
    "field_lines",
    "flush_streams",
    "inherited_addresses",
    "is_bound_file",
    "issue_certificate",
    "lint",
    "log",
    "log_level",
    "matches",
    "may_have_content",
    "mysql_statements",
    "normalise_path",
    "parse_cache_control",
    "parse_cookies",
    "password_line",
    "process_ended",
    "processes_changed",
    "raise_in",
    "server_of",
    "serves",
    "write_stream",
]

_T = TypeVar("_T")

_Phase: TypeAlias = Literal["function", "viewer_request", "origin_request", "origin_response", "viewer_response"]
_Fields: TypeAlias = Mapping[str, str] | Headers | Iterable[tuple[str, str]]
_Pieces: TypeAlias = AsyncIterator[str] | AsyncIterator[bytes] | Iterator[str] | Iterator[bytes]
_Body: TypeAlias = str | bytes | bytearray | memoryview | _Pieces
_Calls: TypeAlias = Literal["plain", "serial", "nested"]
#: Callable, is it async, inline, serial, time-out in seconds, name.
_Callable: TypeAlias = tuple[Callable[..., Any], bool, bool, bool, float | None, str, bool]

__version__: str

@type_check_only
class Lint(TypedDict):
    path: str
    route: str
    level: Literal["warning", "info"]
    rule: str
    message: str
    remedy: str
    place: NotRequired[str]

@type_check_only
class _CacheControl(TypedDict):
    max_age: int | None
    s_maxage: int | None
    stale_while_revalidate: int | None
    stale_if_error: int | None
    no_store: bool
    no_cache: bool
    private: bool
    public: bool
    must_revalidate: bool

# -- plans -------------------------------------------------------------------------------------------------------------

@final
class PlanTable:
    """A compiled plan, for looking at."""

    @property
    def name(self) -> str: ...
    @property
    def routes(self) -> list[dict[str, Any]]:
        """The routes in the order in which they are matched."""
    @property
    def unreachable(self) -> list[tuple[str, str]]:
        """Routes that can never match, each with the one that always comes before."""

def compile(plan: bytes) -> PlanTable:  # noqa: A001
    """Compiles a plan; raises ``ConfigError`` with every problem."""

def lint(plan: bytes) -> list[Lint]:
    """The core's advice about a plan that is valid and still dangerous."""

def explain(
    plan: bytes,
    method: str,
    url: str,
    headers: list[tuple[str, str]],
    client: str | None = None,
    now: int | None = None,
    response: tuple[int, list[tuple[str, str]]] | None = None,
) -> list[dict[str, Any]]:
    """The decisions about a request, phase by phase, without sending it anywhere."""

@final
class Replay:
    """A run of the requests of access logs through the decisions of a plan."""

    def __new__(
        cls,
        plan: bytes,
        files: list[Path],
        *,
        tiers: list[int],
        format: str | None,  # noqa: A002
        host: str,
        scheme: str,
        lifetimes: list[tuple[str, str]],
        sample: int,
        most_entries: int,
    ) -> Self:
        """``tiers``: bytes of memory for each prediction; ``lifetimes``: path patterns with their ``Cache-Control``."""

    @staticmethod
    def memory(plan: bytes) -> int:
        """Bytes of the plan's memory cache on a machine with the memory of this one."""
    def run(self) -> dict[str, Any]:
        """Reads the logs to their end. ``ValueError`` if there is no prediction."""
    def progress(self) -> tuple[int, int]:
        """Bytes and lines that have been read, from any thread."""
    def stop(self) -> None:
        """Ends the run soon, from any thread."""

# -- service -----------------------------------------------------------------------------------------------------------

@final
class Engine:
    """A running edge."""

    def __new__(
        cls,
        plan: bytes,
        callables: Iterable[_Callable],
        *,
        listen: list[str],
        admin: str | None = None,
        admin_token: str | None = None,
        workers: int | None = None,
        descriptors: int | None = None,
        test_clock: bool = False,
        traces: bool = False,
        ended: Callable[[], object] | None = None,
    ) -> Engine:
        """Compiles; raises ``ConfigError`` with every problem.

        ``traces``: error pages show clients on this machine the traceback.
        ``ended()`` is called after the last call of these callables.
        """
    def start(self) -> None:
        """Binds and serves; returns when every worker accepts. Raises ``ListenError``."""
    def silence(self) -> float:
        """Seconds since the last beat of the worker whose last one is oldest: each beats once a second."""
    def runtime(self) -> Any:
        """The ``functions.runtime.Runtime``, started if need be."""
    def reload(self, plan: bytes, callables: Iterable[_Callable], ended: Callable[[], object] | None = None) -> int:
        """Puts a new plan in service and returns its version. Raises ``ConfigError``, and then the old one stays."""
    def shift_clock(self, seconds: int) -> None:
        """Moves the wall clock. Raises ``RuntimeError`` unless it was made with ``test_clock``."""
    def reload_failed(self, reason: str) -> None:
        """Notes in log and metrics that a new plan was refused."""
    def stop(self, drain: float | None = None, ending: Callable[[], object] | None = None) -> bool:
        """Drains and ends; true when nothing was cut off. Seconds; ``None``: the plan's limit.

        ``ending()`` is called when no call runs any more, and the event loop still does.
        """
    @property
    def addresses(self) -> list[str]:
        """The bound addresses; empty when it is not running."""
    @property
    def urls(self) -> list[str]:
        """Their URLs; empty when it is not running."""
    @property
    def admin_address(self) -> str | None: ...
    def metrics(self) -> str:
        """Prometheus text."""
    def access_log(
        self, path: str | None, form: Literal["combined", "json", "short"], *, colours: bool = False
    ) -> None:
        """Writes a line for each request to a file, or to standard output; before ``start``."""
    def reopen_logs(self) -> None:
        """Opens log files again by their names."""
    def next_record(self) -> tuple[int, str, Literal["set", "remove", "allow"], str, str] | None:
        """The next call for certificates: number, callable, purpose, name, text of a record. Waits half a second."""
    def record_ended(self, number: int, result: bool, fault: str | None = None) -> None:
        """The end of such a call, with the result, or the reason if it failed."""
    def watch_signals(self) -> SignalWatch:
        """Watches for signals to stop while Python is busy; for ``signal.set_wakeup_fd``."""
    def admin_socket(self, path: str) -> None:
        """The path of the admin listener's unix socket, for the user of the process; before ``start``."""
    def admin_reader_token(self, token: str) -> None:
        """The token of those who may read and change nothing; before ``start``."""

    def experiments_file(self, path: str) -> None:
        """The file that keeps the counts of experiments; before ``start``."""

    def cost_report(self, path: str) -> None:
        """The file with the report on costs that the dashboard shows; before ``start``."""

    def document(self, data: bytes) -> None:
        """The data of the plan in service as JSON, for those who look at it: without secrets.

        Raises ``ValueError`` if it is not JSON.
        """

    def admin_keys(self, keys: list[tuple[str, str]]) -> None:
        """The access keys of CloudFront clients and their secrets; before ``start``."""
    def purge(self, order: str) -> str:
        """Orders a purge; JSON in and out as at the admin listener. Raises ``CacheError``."""
    def purges(self, id: str | None = None) -> str:  # noqa: A002
        """The remembered purges, or the one of this id, as JSON; ``null`` when there is none."""

@final
class EngineDeploys:
    """The deploys of an engine."""

    def __new__(cls, engine: Engine) -> EngineDeploys: ...
    def open(self) -> None:
        """From now on orders are taken."""
    def next_order(self) -> tuple[int, str] | None:
        """The next order: its number and JSON. Waits half a second. ``RuntimeError``: the engine does not run."""
    def answer(self, number: int, status: int, body: str) -> None:
        """The answer to an order: a status of HTTP, and JSON."""
    def begin(
        self,
        plan: bytes,
        callables: Iterable[_Callable],
        ended: Callable[[], object],
        running: bytes,
        *,
        file: str,
        hash: str,  # noqa: A002
        author: str,
        percent: float,
        cookie: str | None,
        min_responses: int,
        max_errors: float,
        max_latency: float | None,
    ) -> int:
        """Puts a version beside the one in service; the id of the deploy. Raises ``ConfigError``.

        ``ended()`` is called after the last call of its callables. ``running``: the data of the plan in service.
        """
    def promote(self, id: int | None = None) -> int:  # noqa: A002
        """Puts the version of the deploy under way in service; its number. Raises ``LookupError``."""
    def roll_back(self, id: int | None = None, reason: str = "") -> None:  # noqa: A002
        """Ends the deploy under way, or the one of this id. Raises ``LookupError``."""
    def refused(self, file: str, hash: str, author: str, reason: str) -> None:  # noqa: A002
        """Notes a deploy that was refused before it served."""
    @property
    def under_way(self) -> int | None:
        """The id of the deploy under way."""

@final
class PendingFetch:
    """A request that a callable has made and whose response it waits for."""

    def when_ready(self, call: Callable[[], object]) -> bool:
        """Has ``call()`` made, once, when the response is there; false when it is already."""
    def wait(self, seconds: float) -> bool:
        """Waits for the response, for ``seconds`` at most; true when it is there."""
    def abandon(self) -> None:
        """Ends the request: nobody waits for its response."""
    def take(self) -> Response:
        """The response, once; ``FetchError`` when there is none."""

@final
class PieceSink:
    """The end of a response's content that Python writes."""

    def put(self, piece: Any) -> bool | None:
        """Sends a piece: true while there is room for another, ``None`` when the client is gone."""
    def turns_with(self, event_loop: AbstractEventLoop) -> None:
        """Has the worker woken at the end of a turn of this event loop, on which the pieces are put."""
    def wake(self) -> None:
        """Wakes the worker for the pieces that were put."""
    def refuse(self, error: BaseException, name: str | None) -> bool:
        """Answers with the failure of an iterator that has given nothing; false: the response has begun.

        Without a name, its id in the log, only an ``Abort`` is an answer.
        """
    def room(self) -> Awaitable[None] | None:
        """The time when there is room or the client is gone, to be awaited; ``None`` when that is so already."""
    def when_unwanted(self, call: Callable[[], object]) -> bool:
        """Has ``call()`` made, once, when the client is gone; false when it is already."""
    @property
    def unwanted(self) -> bool:
        """True if the client is gone."""
    def end(self, complete: bool, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Ends the content, with trailers; not ``complete``: the client sees that it broke off.

        ``ValueError`` for trailers that are none, and then it is not ended.
        """

@final
class HtmlRewriter:
    """Edits one HTML document; see ``edgerouter.html``."""

    def __new__(cls, edits: list[Edits], charset: str | None) -> HtmlRewriter:
        """``ValueError`` for edits that cannot be made, ``LookupError`` for a charset that is unknown."""
    def feed(self, piece: bytes) -> bytes:
        """Takes a piece; the bytes that have been edited by now."""
    def end(self) -> bytes:
        """The rest of the edited bytes."""

@final
class WebSocketCodec:
    """The server's side of the frames of a WebSocket (RFC 6455 §5), without I/O."""

    def __new__(cls, most: int) -> WebSocketCodec:
        """``most``: bytes of a message of the client."""
    def feed(self, content: bytes) -> list[tuple[Literal["text", "bytes", "pong", "close"], Any]]:
        """Takes bytes of the client; the messages that they complete. A close, with code and reason, is the last."""
    def send_text(self, message: str) -> None:
        """A message of text. ``RuntimeError`` after a close."""
    def send_bytes(self, message: bytes) -> None:
        """A message of bytes."""
    def ping(self) -> None:
        """A ping without content."""
    def close(self, code: int, reason: str = "") -> None:
        """Begins the closing handshake."""
    def take(self) -> bytes:
        """Takes the bytes that are to be sent."""
    @property
    def waiting(self) -> int:
        """The number of bytes that are to be sent."""

@final
class PieceSource:
    """The end of a request's content that Python reads."""

    def take(self) -> bytes | None:
        """The next piece; ``None``: none yet; empty: the content is complete. ``BodyError`` when it broke off."""
    def when_ready(self, call: Callable[[], object]) -> bool:
        """Has ``call()`` made, once, when there is a piece or the end; false when there is one already."""
    def wait(self, seconds: float) -> None:
        """Waits for a piece or the end, for ``seconds`` at most."""

@final
class Runner:
    """The Python side's end of the queue."""

    def fileno(self) -> int:
        """Readable when calls wait."""
    def loop_queue(
        self, create: Callable[[Coroutine[Any, Any, None]], Task[None]], later: Callable[[], None]
    ) -> LoopQueue:
        """The queue of this thread's event loop.

        ``create`` makes a task; ``later`` has the loop call ``announce`` at the end of its turn.
        """
    def work(self, kind: _Calls) -> None:
        """Runs calls of a kind on this thread until it is not needed any more."""
    def watch(self, seconds: float) -> list[_Calls]:
        """Waits until threads are wanted, for ``seconds`` at most: the kind of calls of each."""
    def not_started(self, kind: _Calls) -> None:
        """A thread that was wanted could not be started."""
    def background(self, start: Callable[[BackgroundCall, bool], None]) -> None:
        """Sets how work of ``wait_until`` starts: ``start(call, awaited)``."""
    def streams(self, start: Callable[[Any, PieceSink, AsyncContext | Context | None], None]) -> None:
        """Sets how the content of a streamed response is made: ``start(source, sink, call)``."""
    def overdue(self) -> list[Interrupt]:
        """Threads whose callable is past its time: each is to be interrupted, then confirmed by ``sent()``."""
    def load(self) -> tuple[int, int, int]:
        """Calls waiting, calls running, threads abandoned."""

@final
class BackgroundCall(Coroutine[Any, Any, None]):
    """Work of ``wait_until``: a coroutine for a task, or a call for a thread."""

    def __call__(self) -> None: ...
    def remaining(self) -> float:
        """Seconds that are left."""
    def __await__(self) -> Generator[Any, Any]: ...
    def send(self, value: Any, /) -> Any: ...
    def throw(self, *what: Any) -> Any: ...
    def close(self) -> None: ...

@final
class LoopQueue:
    """The end of the queue from which an event loop takes calls."""

    def run(self, woken: bool) -> bool:
        """Takes and starts calls; ``woken``: because the descriptor is readable. True when more wait."""
    def announce(self) -> None:
        """Wakes the workers whose calls were answered in this turn of the loop."""
    def expired(self) -> list[Task[None]]:
        """Tasks past their time, to be cancelled; one that goes on all the same is given again."""
    def stuck(self) -> bool:
        """True if the event loop is stuck; then another replaces it, and this one takes no more calls."""
    @property
    def busy(self) -> bool:
        """True if a callable is in one of its steps."""
    @property
    def replaced(self) -> bool:
        """True if another event loop has replaced this one."""

@final
class Interrupt:
    """A thread whose callable is past its time."""

    @property
    def thread(self) -> int: ...
    def sent(self) -> None:
        """Must be called, whether it worked or not."""

def current_call() -> Context | None: ...
def raise_in(thread: int, exception: type[BaseException] | None) -> None:
    """Has a thread raise this at its next bytecode; ``None`` takes back one that has not arrived."""

def log(
    level: int,
    logger: str,
    message: str,
    function: str | None = None,
    request: str | None = None,
    trace: str | None = None,
) -> None:
    """Writes a record of ``logging`` to the edge's log."""

def log_level() -> int:
    """The least level, as in ``logging``, of what functions log and the edge's log takes."""

# -- what callables see ------------------------------------------------------------------------------------------------

@final
class Headers:
    """Header fields: a mutable mapping whose names do not depend on case."""

    def __getitem__(self, name: str, /) -> str: ...
    def __setitem__(self, name: str, value: str, /) -> None: ...
    def __delitem__(self, name: str, /) -> None: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def keys(self) -> list[str]:
        """Names, each once, in lower case."""
    def values(self) -> list[str]:
        """The first value of each name."""
    def items(self) -> list[tuple[str, str]]:
        """Name and value of every field, repeated ones repeated."""
    @overload
    def get(self, name: str, default: None = None) -> str | None: ...
    @overload
    def get(self, name: str, default: _T) -> str | _T: ...
    def get_all(self, name: str) -> list[str]:
        """Every value of that name."""
    def add(self, name: str, value: str) -> None:
        """Adds a field beside those of the same name."""
    def update(self, fields: _Fields) -> None:
        """Sets every field of a mapping or of pairs; repeated names in pairs stand beside one another."""
    def setdefault(self, name: str, default: str) -> str:
        """The first value of that name; sets it first where there is none."""
    def discard(self, name: str) -> None:
        """Removes every field of that name, if there is one. Unlike ``pop`` and ``in`` it reads nothing."""
    @overload
    def pop(self, name: str, default: None = None) -> str | None: ...
    @overload
    def pop(self, name: str, default: _T) -> str | _T: ...
    def clear(self) -> None:
        """Removes every field."""

@final
class AssignedVariant:
    """The variant that a visitor has in an experiment."""

    @property
    def name(self) -> str:
        """The experiment's name."""
    @property
    def variant(self) -> str:
        """The variant's name."""
    @property
    def payload(self) -> Any:
        """Data of the variant, from the experiment's ``config``; ``None`` without any."""

@final
class Geo:
    """The place of a client, as far as it is known."""

    @property
    def country(self) -> str | None:
        """ISO 3166-1 code, as ``"DE"``."""
    @property
    def region(self) -> str | None:
        """ISO 3166-2 code of the subdivision, without the country."""
    @property
    def city(self) -> str | None:
        """Its English name."""
    @property
    def latitude(self) -> float | None:
        """Degrees."""
    @property
    def longitude(self) -> float | None:
        """Degrees."""
    @property
    def time_zone(self) -> str | None:
        """A name of the IANA time zone database, as ``"Europe/Berlin"``."""
    @property
    def asn(self) -> int | None:
        """The number of the autonomous system that announces the address."""
    @property
    def eu(self) -> bool | None:
        """``True`` if the country is a member of the European Union; ``None`` where the country is not known."""

@final
class ClientCertificate:
    """A certificate that a client has proved to hold, verified by the authority of the listener (``Tls.client_ca``)."""

    @property
    def subject(self) -> str:
        """The subject by RFC 4514, as ``"CN=ann,O=Shop"``; empty if it has none."""
    @property
    def names(self) -> tuple[str, ...]:
        """Alternative names, as ``"DNS:a.example"``, ``"URI:spiffe://a/b"``, ``"email:…"`` and ``"IP:…"``."""
    @property
    def serial(self) -> str:
        """The serial number in hexadecimal."""
    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hexadecimal."""
    @property
    def not_before(self) -> int:
        """Unix seconds from which it is valid."""
    @property
    def not_after(self) -> int:
        """Unix seconds until which it is valid."""
    @property
    def der(self) -> bytes:
        """The certificate in DER, for whatever else it says."""

@final
class Request:
    """A request. Alive for as long as its call: ``RuntimeError`` afterwards."""

    method: str
    """As it was sent; hooks of the request phases may change it."""
    path: str
    """Normalised and percent-encoded, without the query; hooks of the request phases may change it."""
    query_string: str
    """The query as it was sent, without the ``?``; empty when there is none."""
    def __new__(
        cls,
        url: str | Request,
        method: str | None = None,
        headers: _Fields | None = None,
        body: str | bytes | None = None,
        json: Any = None,
    ) -> Request:
        """A request for ``ctx.fetch`` and ``ctx.cache``; ``CacheError`` unless ``url`` is absolute.

        Of another request it has method, fields and content where no others are given. ``ValueError`` for a GET or HEAD
        with content.
        """
    def clone(self) -> Request:
        """A request of its own with the same values, which outlives the call."""
    @property
    def http_version(self) -> Literal["1.0", "1.1", "2", "3"]:
        """The version of HTTP that the client speaks."""
    @property
    def scheme(self) -> Literal["http", "https"]:
        """As the client requested, behind trusted proxies too."""
    @property
    def host(self) -> str:
        """Lower case, without port."""
    @property
    def query(self) -> Values:
        """Decoded parameters of the query; of repeated ones the first."""
    @property
    def url(self) -> str:
        """Scheme, host, path and query."""
    @property
    def headers(self) -> Headers:
        """Its header fields; hooks of the request phases may change them."""
    @property
    def cookies(self) -> Values:
        """Of repeated ones the first."""
    @property
    def params(self) -> dict[str, str]:
        """Parameters of the route's pattern, decoded."""
    @property
    def client(self) -> str:
        """The client's address."""
    @property
    def client_certificate(self) -> ClientCertificate | None:
        """The verified certificate of the client of the connection; ``None`` without one, and for plain text."""
    @property
    def claims(self) -> Mapping[str, Any] | None:
        """Verified claims; ``None`` without a token."""
    @property
    def user(self) -> str | None:
        """The user by the verified token: its ``userId``, or its ``sub`` if it has none; ``None`` for a null one."""
    @property
    def variant(self) -> str | None:
        """The variant of the route's first experiment; ``None`` without one."""
    @property
    def variants(self) -> dict[str, str]:
        """Experiment → variant."""
    @property
    def experiment(self) -> AssignedVariant | None:
        """The variant in the route's first experiment; ``None`` without one."""
    @property
    def experiments(self) -> dict[str, AssignedVariant]:
        """The variants in the route's experiments, by the experiments' names."""
    @property
    def geo(self) -> Geo:
        """The place of the client, as far as it is known."""
    @property
    def id(self) -> str:
        """Its name in logs and error answers."""
    @property
    def trace_id(self) -> str | None:
        """The id of its trace; ``None`` if the edge does not trace."""
    @property
    def body(self) -> bytes:
        """The whole body; hooks see none. A larger one than ``limits.functions.body_bytes`` is answered with 413."""
    def text(self) -> str:
        """The body as UTF-8; ``BodyError``, a ``ValueError`` that is answered with 400, when it is not."""
    def json(self) -> Any:
        """The body as JSON; ``BodyError``, a ``ValueError`` that is answered with 400, when it is not."""
    def form(
        self,
        *,
        max_fields: int = 1_000,
        max_files: int = 20,
        max_field_bytes: int = 65_536,
        max_file_bytes: int = 10_485_760,
        max_bytes: int = 33_554_432,
    ) -> Form:
        """The fields and files of a form, url-encoded or multipart, once. An async callable awaits it.

        Over a bound it is answered with 413, a body of another media type with 415, one that is no form with 400.
        """
    def _whole(self) -> bytes | None:
        """The content in the place of an iteration over it, where all of it is there; ``None``: iterate."""
    def take_tunnel(self) -> AsyncIterator[bytes] | None:
        """The client's bytes once the request has become a WebSocket; ``None``: it is to become none."""
    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body in pieces, of whatever size, once."""
    def __iter__(self) -> Iterator[bytes]:
        """The body in pieces, of whatever size, once. Waits for each: for plain functions."""

@final
class Values(Mapping[str, str]):
    """Values by name; of repeated names the first. In hooks reading all of it is reading everything of its kind."""

    def __getitem__(self, name: str, /) -> str: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    @overload
    def get(self, name: str, default: None = None) -> str | None: ...
    @overload
    def get(self, name: str, default: _T) -> str | _T: ...
    def get_all(self, name: str) -> list[str]:
        """All values of that name, in their order."""

@type_check_only
class _MakesJson(Protocol):
    def __call__(self, value: Any, status: int = 200, headers: _Fields | None = None) -> Response: ...

@type_check_only
class _MakesText(Protocol):
    def __call__(self, text: str, status: int = 200, headers: _Fields | None = None) -> Response: ...

@type_check_only
class _MakesOrReadsJson(Protocol):
    @overload
    def __get__(self, response: None, owner: type[Response], /) -> _MakesJson: ...
    @overload
    def __get__(self, response: Response, owner: type[Response], /) -> Callable[[], Any]: ...

@type_check_only
class _MakesOrReadsText(Protocol):
    @overload
    def __get__(self, response: None, owner: type[Response], /) -> _MakesText: ...
    @overload
    def __get__(self, response: Response, owner: type[Response], /) -> Callable[[], str]: ...

@final
class Response:
    """A response: made by a callable, or seen by one in a response phase.

    ``json``, ``text``  called on the class they make a response of a value or a text; called on a response they read it
    """

    status: int
    """From 200 to 599."""
    def __new__(cls, body: _Body | None = None, status: int = 200, headers: _Fields | None = None) -> Response: ...
    json: ClassVar[_MakesOrReadsJson]
    """``Response.json(value, status=200, headers=None)`` makes one of compact JSON; ``response.json()`` reads one.

    ``ValueError`` for content that is not JSON.
    """
    text: ClassVar[_MakesOrReadsText]
    """``Response.text(text, status=200, headers=None)`` makes one of text in UTF-8; ``response.text()`` reads one.

    ``UnicodeDecodeError`` for content that is not UTF-8.
    """
    @staticmethod
    def html(html: str, status: int = 200, headers: _Fields | None = None) -> Response:
        """HTML in UTF-8."""
    @staticmethod
    def events(source: Any, heartbeat: float = 15.0, headers: _Fields | None = None) -> Response:
        """Server-sent events: each item of ``source`` is an ``Event``, text, or data for JSON.

        ``heartbeat``  seconds without an event after which a comment keeps the connection open; 0 for none. Async
            iterators only.
        """
    @staticmethod
    def redirect(url: str, status: int = 302, headers: _Fields | None = None) -> Response:
        """301, 302, 303, 307 or 308. Characters that a URL cannot have are percent-encoded as UTF-8."""
    @staticmethod
    def begun(iterator: AsyncIterator[bytes] | Iterator[bytes], status: int, headers: _Fields) -> Response:
        """A response of an application that has begun it: its head does not wait for the first piece."""
    @staticmethod
    def switched(iterator: AsyncIterator[bytes], headers: _Fields) -> Response:
        """The connection becomes a WebSocket, on which the iterator gives the bytes; see ``edgerouter.websocket``."""
    def clone(self) -> Response:
        """A response of its own with the same values; ``RuntimeError`` for one that streams."""
    def take_iterator(self) -> Any:
        """Takes the iterator that gives its content; ``None`` where there is none. For responses of other processes."""
    @property
    def ok(self) -> bool:
        """True for a status from 200 to 299."""
    @property
    def headers(self) -> Headers:
        """Its header fields; they may be changed."""
    @property
    def body(self) -> bytes:
        """``RuntimeError`` while it is streamed; set it to replace it."""
    @body.setter
    def body(self, body: _Body | None) -> None: ...
    def set_cookie(
        self,
        name: str,
        value: str = "",
        *,
        max_age: int | timedelta | None = None,
        expires: datetime | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["strict", "lax", "none"] | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Adds a ``Set-Cookie`` field (RFC 6265 §4.1); ``ValueError`` for what clients would ignore or misread."""
    @overload
    def transform(
        self, function: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]], *, text: Literal[False] = False
    ) -> None: ...
    @overload
    def transform(self, function: Callable[[AsyncIterator[str]], AsyncIterator[str]], *, text: Literal[True]) -> None:
        """Has ``function`` make other content of a response that passes a hook, while it streams.

        Declare the hook with ``transforms=True``. Content that may not be transformed passes as it is. With ``text``
        the pieces are text in the response's charset.
        """
    def edit_html(self, *edits: HtmlEdit) -> None:
        """Has elements of HTML that passes a hook edited, while it streams; other content passes as it is."""
    def delete_cookie(
        self, name: str, *, path: str = "/", domain: str | None = None, partitioned: bool = False
    ) -> None:
        """Has the client forget a cookie: name it with the path and domain that it was set with, and ``partitioned``
        if it was.
        """

@final
class TracePlace:
    """The place of a call in a trace (W3C Trace Context)."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
    @property
    def span_id(self) -> str:
        """Of the call's span, 16 digits."""
    @property
    def sampled(self) -> bool:
        """The trace was chosen to be kept."""
    @property
    def traceparent(self) -> str:
        """The value of ``traceparent`` for requests that the callable makes by itself."""

@disjoint_base
class CallContext:
    """The call of a callable, async or not."""

    @property
    def name(self) -> str:
        """The callable's name, as ``app.page``."""
    @property
    def phase(self) -> _Phase:
        """The phase in which it is called; ``"function"`` for a function."""
    @property
    def request_id(self) -> str:
        """The id of its request, as ``request.id``."""
    @property
    def region(self) -> str | None:
        """The region of ``GeoPolicy.regions`` that is nearest to the client; ``None`` where its place is not known."""
    @property
    def nested(self) -> bool:
        """True if a callable has made its request by ``ctx.fetch``, and waits for the response."""
    @property
    def log_id(self) -> str:
        """The id of its request for the log; reading it does not make the response depend on the request."""
    @property
    def trace(self) -> TracePlace | None:
        """The place of the call in its trace; ``None`` if the edge does not trace."""
    @property
    def env(self) -> Env:
        """The data that the edge is bound to, by name. An async callable awaits its operations."""
    def tag(self, tag: str) -> None:
        """Gives the response a tag by which it can be purged, beside those of its fields.

        For functions with ``cache=`` and hooks of the origin phases, before the head of the response is given. Where
        nothing may be stored it has no effect. Raises ``ValueError`` for what is no tag.
        """
    def convert(self, goal: str, value: float = 0.0) -> bool:
        """Counts a conversion of the visitor in each experiment of the plan, if it got a variant of it before.

        A visitor counts once for each goal; the values of all its conversions add up. ``False`` if the conversion was
        lost because too many wait, or where no visitor is counted: there is no experiment, or the request is the edge's
        own. Raises ``ValueError`` for what is no name of a goal, and for a value beyond ±1e9.
        """
    def early_hints(self, *links: str) -> bool:
        """Sends the client a 103 with these values of ``Link`` ahead of the response (RFC 8297), at once.

        A client that knows them loads what the page will need while the function makes it. False if the call was
        answered already, if it is plain and inline, or if it has sent 16. Of functions; ``RuntimeError`` in a hook,
        ``ValueError`` for values that no field may hold.
        """
    def fetch_origin(self) -> tuple[str, str]:
        """Scheme and authority of its request."""
    def begin_fetch(
        self,
        method: str,
        scheme: str,
        authority: str,
        target: str,
        fields: _Fields,
        body: bytes,
        cache: str,
        seconds: float,
        outside: tuple[str, int] | None,
        origin: str | None,
    ) -> PendingFetch:
        """Starts a request for ``fetch``, whose parts have been checked."""
    def remaining(self) -> float:
        """Seconds left for the call; its time in the queue counts."""
    @property
    def log(self) -> Logger:
        """A logger with the callable's name; what it writes is in the edge's log, with function and request id."""
    def _answer(self, response: Response) -> None:
        """Answers the call while its function goes on, as an application that was mounted does."""
    def _when_gone(self, call: Callable[[], object]) -> bool:
        """Has ``call()`` made, once, when the client is gone before there is an answer; false when it is already."""
    def wait_until(self, work: Awaitable[object] | Callable[[], object]) -> bool:
        """Goes on with ``work`` after the response, for ``limits.functions.background_timeout`` at most.

        A callable runs on a thread of its own. ``False``, after a line in the log, when
        ``limits.functions.background_tasks`` go on already. A failure is logged under an id and costs the visitor
        nothing.
        """

@final
class Context(CallContext):
    """The call of a plain callable, and the services that it may use. Async ones get an ``AsyncContext``."""

    def fetch(
        self,
        request: Request | str,
        *,
        method: str | None = None,
        headers: _Fields | None = None,
        body: str | bytes | None = None,
        json: Any = None,
        cache: Literal["default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached"] = "default",
        timeout: float | None = None,
        redirect: Literal["follow", "manual", "error"] | None = None,
        origin: str | Origin | Group | None = None,
    ) -> Response:
        """Makes a request through the edge itself: routes, cache, pools, health and failover, as a client's would.

        ``request``  a ``Request``, a path on the host of this request, a URL of this host, or one of a host that the
        edge's ``fetch=`` names, which is requested from there
        ``method``, ``headers``, ``body``, ``json``  of the request, in the place of the ``Request``'s own
        ``cache``  by the Fetch standard; ``timeout``  seconds, at most those that the call has left
        ``redirect``  ``"follow"`` up to 3 redirects, ``"manual"`` or ``"error"``; by default redirects of the edge's
        own routes are given as they are, and those of other hosts are followed
        ``origin``  an origin or group, or its name, which answers in place of the route: no guard, hook or rewriting
        of a route applies, and its stored responses are apart from those of routes

        A status of any kind is a response. Raises ``FetchError`` when there is no whole response, ``ValueError`` for a
        request that cannot be made.
        """
    @property
    def cache(self) -> Cache:
        """The cache of functions. No route is served from it, and it is not filled by any."""
    @property
    def caches(self) -> Caches:
        """Caches by name, each apart from all others."""

@final
class AsyncContext(CallContext):
    """The context of an async callable: what waits for others is awaited."""

    async def fetch(
        self,
        request: Request | str,
        *,
        method: str | None = None,
        headers: _Fields | None = None,
        body: str | bytes | None = None,
        json: Any = None,
        cache: Literal["default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached"] = "default",
        timeout: float | None = None,
        redirect: Literal["follow", "manual", "error"] | None = None,
        origin: str | Origin | Group | None = None,
    ) -> Response:
        """Makes a request through the edge itself: routes, cache, pools, health and failover, as a client's would.

        ``request``  a ``Request``, a path on the host of this request, a URL of this host, or one of a host that the
        edge's ``fetch=`` names, which is requested from there
        ``method``, ``headers``, ``body``, ``json``  of the request, in the place of the ``Request``'s own
        ``cache``  by the Fetch standard; ``timeout``  seconds, at most those that the call has left
        ``redirect``  ``"follow"`` up to 3 redirects, ``"manual"`` or ``"error"``; by default redirects of the edge's
        own routes are given as they are, and those of other hosts are followed
        ``origin``  an origin or group, or its name, which answers in place of the route: no guard, hook or rewriting
        of a route applies, and its stored responses are apart from those of routes

        A status of any kind is a response. Raises ``FetchError`` when there is no whole response, ``ValueError`` for a
        request that cannot be made.
        """
    @property
    def cache(self) -> AsyncCache:
        """The cache of functions, to be awaited. No route is served from it, and it is not filled by any."""
    @property
    def caches(self) -> AsyncCaches:
        """Caches by name, each apart from all others, to be awaited."""

@final
class Cache:
    """A cache of functions, with the semantics of Cloudflare Workers. ``CacheError`` for requests it cannot take."""

    @property
    def name(self) -> str:
        """The name that it was opened by."""
    def match(self, request: Request | str, *, ignore_method: bool = False) -> Response | None:
        """The stored response while it is fresh.

        Answers the request's conditions (304) and ranges (206). ``None`` for another method than GET, unless
        ``ignore_method``.
        """
    def put(self, request: Request | str, response: Response) -> bool:
        """Stores a response for as long as it says itself.

        ``False`` when it forbids that. ``CacheError`` for another method than GET, a 206 and ``Vary: *``.
        """
    def delete(self, request: Request | str, *, ignore_method: bool = False) -> bool:
        """Forgets a URL with all its variants; whether something was stored."""

@final
class AsyncCache:
    """``Cache``, to be awaited. An operation takes place when it is called; awaiting it gives its result."""

    @property
    def name(self) -> str:
        """The name that it was opened by."""
    def match(self, request: Request | str, *, ignore_method: bool = False) -> Awaitable[Response | None]:
        """As ``Cache.match``."""
    def put(self, request: Request | str, response: Response) -> Awaitable[bool]:
        """As ``Cache.put``."""
    def delete(self, request: Request | str, *, ignore_method: bool = False) -> Awaitable[bool]:
        """As ``Cache.delete``."""

@final
class Caches:
    """Caches by name, at most ``limits.functions.named_caches``."""

    @property
    def default(self) -> Cache:
        """The cache as ``ctx.cache``."""
    def open(self, name: str) -> Cache:
        """A cache apart from all others; made at its first use. ``CacheError`` for one name too many."""

@type_check_only
class AsyncCaches:
    """``Caches``, to be awaited."""

    @property
    def default(self) -> AsyncCache: ...
    def open(self, name: str) -> Awaitable[AsyncCache]: ...

# -- data --------------------------------------------------------------------------------------------------------------

@final
class Env:
    """Bindings by name: ``ctx.env.CARTS`` is what ``edge.kv("CARTS", ...)`` declared.

    A ``Kv`` in a plain callable, an ``AsyncKv`` in an async one; ``AttributeError`` for a name that is not declared.
    """

    def __getattr__(self, name: str) -> Any: ...
    def __contains__(self, name: str, /) -> bool: ...

@final
class Kv:
    """A key-value store. ``BindingError`` when it cannot be reached, is full or is too slow; ``ValueError`` for bounds.

    The callable waits for each operation, ``limits.data.timeout`` at most.
    """

    @property
    def name(self) -> str:
        """The name of the binding."""
    @overload
    def get(self, key: str, type: Literal["text"] = "text") -> str | None: ...
    @overload
    def get(self, key: str, type: Literal["json"]) -> Any: ...
    @overload
    def get(self, key: str, type: Literal["bytes"]) -> bytes | None: ...
    @overload
    def get(self, key: str, type: Literal["stream"]) -> Chunks | None: ...
    def entry(self, key: str) -> KvEntry | None:
        """The entry of a key with metadata and version, never from the read cache."""
    def put(
        self,
        key: str,
        value: object,
        *,
        ttl: float | timedelta | None = None,
        metadata: object = None,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> bool:
        """Stores a value: text and bytes as they are, others as JSON.

        ``ttl``  seconds until it expires
        ``metadata``  up to 1,024 bytes of JSON, read with ``entry``
        ``if_absent``, ``if_version``  a condition; ``False``, and nothing changes, where it does not hold
        """
    def delete(self, key: str) -> bool:
        """Removes a key; whether there was an entry."""
    def list(self, prefix: str = "", *, cursor: str | None = None, limit: int = 1_000) -> KvKeys:
        """A page of keys, at most 1,000."""
    def add(self, key: str, by: int = 1, *, ttl: float | timedelta | None = None) -> int:
        """Adds to a counter and gives its new number. A counter that is not there begins at 0, and gets the ``ttl``."""

@final
class AsyncKv:
    """``Kv``, to be awaited. An operation begins when it is called."""

    @property
    def name(self) -> str:
        """The name of the binding."""
    @overload
    def get(self, key: str, type: Literal["text"] = "text") -> Awaitable[str | None]: ...
    @overload
    def get(self, key: str, type: Literal["json"]) -> Awaitable[Any]: ...
    @overload
    def get(self, key: str, type: Literal["bytes"]) -> Awaitable[bytes | None]: ...
    @overload
    def get(self, key: str, type: Literal["stream"]) -> Awaitable[Chunks | None]: ...
    def entry(self, key: str) -> Awaitable[KvEntry | None]:
        """As ``Kv.entry``."""
    def put(
        self,
        key: str,
        value: object,
        *,
        ttl: float | timedelta | None = None,
        metadata: object = None,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> Awaitable[bool]:
        """As ``Kv.put``."""
    def delete(self, key: str) -> Awaitable[bool]:
        """As ``Kv.delete``."""
    def list(self, prefix: str = "", *, cursor: str | None = None, limit: int = 1_000) -> Awaitable[KvKeys]:
        """As ``Kv.list``."""
    def add(self, key: str, by: int = 1, *, ttl: float | timedelta | None = None) -> Awaitable[int]:
        """As ``Kv.add``."""

@final
class Database:
    """A SQL database, in the shape of Cloudflare's D1. ``BindingError`` for what the engine refuses.

    The callable waits for each operation, ``limits.data.timeout`` at most.
    """

    @property
    def name(self) -> str:
        """The name of the binding."""
    @property
    def engine(self) -> Literal["sqlite", "postgresql", "mysql"]:
        """The dialect of SQL; MariaDB is ``"mysql"``."""
    def prepare(self, sql: str) -> Statement:
        """One statement, whose parameters are ``?``; nothing runs yet."""
    def batch(self, statements: list[Statement]) -> list[SqlResult]:
        """Runs statements in one transaction: all take effect, or none does."""
    def exec(self, sql: str) -> SqlScript:
        """Runs statements without parameters in one transaction."""
    def apply(self, script: str, sql: str, values: tuple[object, ...]) -> list[SqlResult]:
        """Runs a script and then a statement in one transaction, for migrations."""
    def with_session(self, bookmark: str | None = None) -> Database:
        """The same database in a session: each call sees what those before it wrote and read, on any replica.

        ``bookmark``  that of an earlier session, from which this one goes on; ``"first-primary"`` to see all that was
            written anywhere before; ``None``, an empty text or ``"first-unconstrained"`` to begin with any replica. All
            other texts, such as one that somebody made up, count as ``"first-primary"``
        """
    @property
    def bookmark(self) -> str | None:
        """The place from which a later session goes on: up to 256 characters of base64url.

        ``None`` before the first call of the session, outside of a session, and for a database without replicas.
        """

@final
class AsyncDatabase:
    """``Database``, to be awaited."""

    @property
    def name(self) -> str:
        """The name of the binding."""
    @property
    def engine(self) -> Literal["sqlite", "postgresql", "mysql"]:
        """The dialect of SQL; MariaDB is ``"mysql"``."""
    def prepare(self, sql: str) -> AsyncStatement:
        """As ``Database.prepare``; it is not awaited."""
    def batch(self, statements: list[AsyncStatement]) -> Awaitable[list[SqlResult]]:
        """As ``Database.batch``."""
    def exec(self, sql: str) -> Awaitable[SqlScript]:
        """As ``Database.exec``."""
    def with_session(self, bookmark: str | None = None) -> AsyncDatabase:
        """As ``Database.with_session``; it is not awaited."""
    @property
    def bookmark(self) -> str | None:
        """As ``Database.bookmark``."""

@final
class DocumentServer:
    """A server with documents that are in no database; ``edgerouter.documents`` writes the scripts."""

    @property
    def name(self) -> str:
        """The name of the binding."""
    @property
    def engine(self) -> Literal["redis"]:
        """The kind of server."""
    def run(self, operation: str, script: str, prefix: str, arguments: tuple[str, ...]) -> list[str]:
        """Runs a script; ``operation`` is its name in metrics."""

@final
class AsyncDocumentServer:
    """``DocumentServer``, to be awaited."""

    @property
    def name(self) -> str:
        """The name of the binding."""
    @property
    def engine(self) -> Literal["redis"]:
        """The kind of server."""
    def run(self, operation: str, script: str, prefix: str, arguments: tuple[str, ...]) -> Awaitable[list[str]]:
        """As ``DocumentServer.run``."""

@final
class Statement:
    """A statement of a ``Database``; it may run any number of times."""

    def bind(self, *values: str | float | bytes | bytearray | memoryview | None) -> Statement:
        """The same with values for its parameters."""
    def all(self) -> SqlResult:
        """All rows, in ``results``, with ``meta``."""
    def run(self) -> SqlResult:
        """As ``all``, for statements whose rows do not matter."""
    def first(self, column: str | None = None) -> Any:
        """The first row as a dictionary, or its value of a column; ``None`` where there is no row."""
    def raw(self, *, column_names: bool = False) -> list[list[Any]]:
        """All rows as lists, after the names of the columns if they are wanted."""

@final
class AsyncStatement:
    """``Statement``, to be awaited."""

    def bind(self, *values: str | float | bytes | bytearray | memoryview | None) -> AsyncStatement:
        """As ``Statement.bind``; it is not awaited."""
    def all(self) -> Awaitable[SqlResult]:
        """As ``Statement.all``."""
    def run(self) -> Awaitable[SqlResult]:
        """As ``Statement.run``."""
    def first(self, column: str | None = None) -> Awaitable[Any]:
        """As ``Statement.first``."""
    def raw(self, *, column_names: bool = False) -> Awaitable[list[list[Any]]]:
        """As ``Statement.raw``."""

@final
class SqlResult:
    """The result of a statement."""

    @property
    def success(self) -> bool:
        """``True``: a failure is raised."""
    @property
    def results(self) -> list[dict[str, Any]]:
        """The rows."""
    @property
    def meta(self) -> dict[str, Any]:
        """``duration`` (ms), ``changes``, ``last_row_id``, ``changed_db``, ``rows_read``, ``rows_written``."""

@final
class SqlScript:
    """The result of a script."""

    @property
    def count(self) -> int:
        """Statements that have run."""
    @property
    def duration(self) -> float:
        """Milliseconds."""

@final
class Bindings:
    """The bindings of a plan that is not served."""

    def __new__(cls, plan: bytes) -> Bindings: ...
    @property
    def env(self) -> Env:
        """As a plain callable finds them."""
    def close(self) -> None:
        """Closes files and connections."""

def mysql_statements(script: str) -> list[tuple[str, bool]]:
    """The statements of a script for MySQL: first words, and whether it ends the transaction that it is in."""

def is_bound_file(device: int, inode: int) -> bool:
    """True if a binding has a file open."""

@final
class KvEntry:
    """A stored entry."""

    @property
    def value(self) -> bytes:
        """The value."""
    def text(self) -> str:
        """The value as text."""
    def json(self) -> Any:
        """The value, which is JSON."""
    @property
    def metadata(self) -> Any:
        """As it was put; ``None`` where there is none."""
    @property
    def version(self) -> str:
        """For ``if_version``."""
    @property
    def expires(self) -> float | None:
        """Seconds since the Unix epoch; ``None``: it does not expire."""

@final
class KvKeys:
    """A page of keys."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys."""
    @property
    def cursor(self) -> str | None:
        """Leads to the next page; ``None``: there is none."""

@final
class Chunks:
    """A value in pieces of 64 KiB, for ``for`` and for ``async for``."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def __anext__(self) -> Awaitable[bytes]: ...

# -- what is printed, and signals --------------------------------------------------------------------------------------

@final
class SignalWatch:
    """Obeys a signal to stop when Python cannot."""

    def fileno(self) -> int: ...
    def heard(self) -> None:
        """Python stops what it serves by itself."""
    def close(self) -> None: ...

def certificate_facts(der: bytes) -> tuple[list[str], int] | None:
    """The DNS names of a certificate in DER, and the Unix second until which it is valid; ``None`` if it is none."""

def development_authority(now: int, days: int) -> tuple[str, str]:
    """A new authority, as the PEM of its certificate and of its key."""

def issue_certificate(authority_key: str, names: list[str], now: int, days: int) -> tuple[str, str]:
    """A certificate for host names and addresses, as its PEM and that of its key. Raises ``ValueError``."""

def password_line(user: str, password: str, salt: bytes) -> str:
    """``USER:HASH`` for a password, with a salt of 16 random bytes. Raises ``ValueError`` without the password."""

def write_stream(error: bool, text: bytes) -> bool:
    """Queues text for standard output or standard error; false when it was dropped."""

def serves() -> bool:
    """True in a callable that runs on a thread that serves: an inline one, which must not wait."""

def inherited_addresses() -> list[str]:
    """The addresses of the sockets that a service manager listens on for this process, as far as none is taken."""

def flush_streams() -> None:
    """Waits for what is queued, as long as the readers take it."""

# -- decisions, for property tests -------------------------------------------------------------------------------------

def matches(pattern: str, path: str) -> bool:
    """True if a path pattern matches a path; ``ValueError`` for what is no pattern."""

def captures(pattern: str, path: str) -> dict[str, str] | None:
    """The decoded parameters of a path; ``None`` when the pattern does not match."""

def normalise_path(path: str) -> str:
    """The one spelling of a path; ``ValueError`` where there is none."""

def cache_key(policy: bytes, host: str, path: str, query: str | None, headers: list[tuple[str, str]]) -> bytes:
    """The cache key of a request under a policy (the ``cache`` of a route, as JSON)."""

def parse_cookies(field: str) -> list[tuple[str, str]]:
    """The pairs of a ``Cookie`` line, in order."""

def parse_cache_control(lines: list[str]) -> _CacheControl:
    """The directives of response ``Cache-Control`` lines."""

def bucket(experiment: bytes, id: str) -> str:  # noqa: A002
    """The variant of a stable id in an experiment (as JSON, as in a route)."""

def dismantle(request: Request) -> dict[str, Any]:
    """The parts of a request for a process without an edge, its content apart."""

def asgi_scope(request: Request, root: str, state: dict[str, Any]) -> dict[str, Any]:
    """The connection scope of a request to an application below ``root``."""

def asgi_response(status: int, fields: Iterable[Iterable[bytes]], content: bytes | AsyncIterable[bytes]) -> Response:
    """A response whose fields are pairs of bytes; for an iterator the head does not wait."""

def field_lines(given: Any) -> list[tuple[str, str]]:
    """The lines of header fields that are given as a mapping or as pairs; ``TypeError`` and ``ValueError`` name the
    field.
    """

def may_have_content(status: int) -> bool:
    """False for a final status whose responses have no content; ``ValueError`` for any other status."""

def server_of(request: Request) -> tuple[str, int]:
    """Host and port of its URL."""

def assemble(parts: dict[str, Any], body: bytes, source: Any = None) -> Request:
    """The request of such parts. ``source`` makes the iterators over a body that is streamed."""

def processes_changed(running: int, busy: int, waiting: int, memory: int) -> None:
    """Adds to the gauges: processes, those that are busy, calls that wait for one, bytes of memory."""

def process_ended(cause: Literal["stopped", "crashed", "time", "cpu", "memory"]) -> None:
    """Counts the end of a worker process."""

def check_edit(edit: Edits) -> None:
    """Raises ``ValueError`` or ``TypeError`` for an edit that cannot be made."""
