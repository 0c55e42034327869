"""The application whose functions run in processes of their own, for the tests of what goes wrong in one."""

MODULE = """
import asyncio, ctypes, dataclasses, datetime, enum, logging, os, signal, subprocess, sys, threading, time
from edgerouter import Abort, CachePolicy, Edge, Experiment, Isolation, Response

edge = Edge("isolated")
TWO = Isolation(processes=2, memory_bytes=160 << 20, cpu_seconds=1)
ONE = Isolation(processes=1)


@dataclasses.dataclass
class Row:
    pid: int
    name: str


def at(pattern, isolation=TWO, **options):
    return edge.function(pattern, isolation=isolation, **options)


@at("/echo/{name}")
def echo(request, ctx, name, n: int = 1):
    seen = {
        "pid": os.getpid(), "name": name, "n": n, "method": request.method, "url": request.url,
        "x": request.headers.get_all("x-a"), "cookies": dict(request.cookies), "client": request.client,
        "body": len(request.body), "phase": ctx.phase, "id": ctx.request_id == request.id, "left": ctx.remaining() > 1,
    }
    ctx.log.warning("seen %s", name)
    return seen


@at("/variant", experiment=Experiment("home", cookie="ab", variants={"a": 1, "b": 1}))
def variant(request, ctx):
    return {"variant": request.variant, "version": request.http_version}


@at("/kinds/{kind}")
async def kinds(request, ctx, kind):
    await asyncio.sleep(0)
    return {
        "text": "text", "bytes": b"bytes", "data": Row(1, "a"), "pair": ({"a": 1}, 201),
        "response": Response("made", 203, {"x-a": "b"}), "nothing": (None, 204), "none": None,
        "no-status": ("made", 1),
    }[kind]


class Kind(enum.Enum):
    ONE = "one"


async def pieces():
    yield "a"
    yield b"b"


def result(request, ctx, kind):
    return {
        "number": 5, "float": 1.5, "true": True, "array": bytearray(b"ab"), "set": {1}, "enum": Kind.ONE,
        "date": datetime.date(2030, 1, 1), "request": request, "tuple": (1, 2), "range": range(2),
        "data": Row(1, "a"), "list": [Row(2, "b"), None], "dict": {"day": datetime.date(2030, 1, 1)},
        "stream": pieces, "response": lambda: Response(pieces(), 202), "coroutine": lambda: asyncio.sleep(0, "slept"),
    }[kind]


def called(request, ctx, kind):
    made = result(request, ctx, kind)
    return made() if callable(made) else made


@edge.function("/result/here/{kind}")
def result_here(request, ctx, kind):
    return called(request, ctx, kind)


@at("/result/there/{kind}")
def result_there(request, ctx, kind):
    return called(request, ctx, kind)


def given(kind):
    yield {"none": None, "number": 5, "data": {}, "array": bytearray(b"x"), "empty": ""}[kind]
    yield "y"


@edge.function("/pieces/here/{kind}")
def pieces_here(request, ctx, kind):
    return given(kind)


@at("/pieces/there/{kind}")
def pieces_there(request, ctx, kind):
    return given(kind)


@at("/body")
def body(request, ctx):
    return Response(request.body[::-1], headers={"content-type": "x/y"})


@edge.function("/many/{kind}", isolation=ONE)
def many(request, ctx, kind):
    content = b"edge" * (1 << 20)
    response = Response(content, headers={"content-type": "x/y"})
    return {"bytes": content, "text": content.decode(), "response": response}[kind]


@at("/aborts")
def aborts(request, ctx):
    raise Abort(409, "no such thing", headers={"x-a": "b"})


@at("/json")
def reads(request, ctx):
    return request.json()["a"]


@at("/raises")
def raises(request, ctx):
    def inner():
        raise ValueError("the reason")
    inner()


@at("/exits")
def exits(request, ctx):
    os._exit(3)


@at("/segfaults")
def segfaults(request, ctx):
    ctypes.string_at(1)


@at("/forks/{where}", isolation=ONE)
def forks(request, ctx, where):
    child = os.fork()
    if child:
        return f"parent of {child}"
    if where == "log":
        logging.getLogger("child").error("nothing of a child is logged")
    if where == "stays":
        time.sleep(600)
    return "x" * 100_000


@at("/spins", timeout=30)
def spins(request, ctx):
    # In C, with the interpreter's lock: no exception reaches it.
    sum(range(10**12))


@at("/hangs", timeout=0.3)
def hangs(request, ctx):
    ctypes.PyDLL(None).sleep(600)


@at("/leaks")
def leaks(request, ctx):
    # No more than that: filling memory takes processor time, a tenth of its bound on a machine that is not busy.
    kept = bytearray(176 << 20)
    time.sleep(600)
    return "kept"


@at("/starts")
def starts(request, ctx):
    code = "kept = b'x' * (176 << 20); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    time.sleep(20)


KEPT = []


@at("/grows", timeout=60)
def grows(request, ctx):
    KEPT.append(b"x" * (170 << 20))
    return str(os.getpid())


@at("/one", isolation=ONE)
def one(request, ctx):
    return str(os.getpid())


@at("/one/interrupts", isolation=ONE)
async def one_interrupts(request, ctx):
    await asyncio.sleep(0)
    raise KeyboardInterrupt


@at("/one/interrupts/stream", isolation=ONE)
async def one_interrupts_stream(request, ctx):
    yield "begun"
    await asyncio.sleep(0)
    raise KeyboardInterrupt


@at("/one/interrupts/later", isolation=ONE)
def one_interrupts_later(request, ctx):
    return one_interrupts_stream(request, ctx)


@at("/one/kind", isolation=ONE)
def one_kind(request, ctx):
    class Kind(bytes):
        pass

    return Kind(b"of bytes")


@at("/one/lies/{status}", isolation=ONE)
def lies(request, ctx, status: int):
    from edgerouter.functions import process_messages as messages
    os.write(int(sys.argv[1]), messages.encode(messages.Result("bytes", status, [], b"")))
    time.sleep(60)


@at("/one/exits", isolation=ONE)
def one_exits(request, ctx):
    os._exit(3)


@at("/cached", isolation=ONE, cache=CachePolicy(default_ttl=60), varies=[])
def cached(request, ctx):
    ctx.tag("page")
    KEPT.append(1)
    return str(len(KEPT))


@edge.function("/here")
def here(request, ctx):
    return str(os.getpid())
"""
