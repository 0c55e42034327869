"""A small shop to put behind the edge: pages, pictures, a JSON API, a login, events. Standard library only.

    python origin.py --port 9001 --name primary
    python origin.py --port 9001 --name primary --certificate localhost.pem --key localhost.key

Every answer says which replica gave it (``X-Origin``). The tokens that ``POST /login`` issues are signed with
``JWT_SECRET``; the edge verifies them with the same secret, and ``/api/me`` shows what it forwards.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import functools
import hashlib
import hmac
import json
import math
import os
import signal
import ssl
import struct
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

SECRET = os.environ.get("JWT_SECRET", "storefront-demo-secret-of-32-bytes!")
PRODUCTS = 1_000
EPOCH = 1_767_225_600
"""The time of the last change: fixed, so that replicas agree on their validators."""

LARGEST_HEAD = 65_536
LARGEST_BODY = 1 << 20


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    stream: AsyncIterator[bytes] | None = None


# -- what the shop answers ---------------------------------------------------------------------------------------------


def page(title: str, marks: str, body: str, *, caching: str, status: int = 200) -> Reply:
    html = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<link rel="stylesheet" href="/static/app.css"><script src="/static/app.js" defer></script></head>\n'
        f'<body{marks}><header><a href="/">storefront</a></header>\n<main><h1>{title}</h1>\n{body}\n</main>'
        "</body></html>\n"
    )
    return validated(html.encode(), "text/html; charset=utf-8", caching)._replace(status=status)


def validated(body: bytes, kind: str, caching: str) -> Reply:
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = [
        ("Content-Type", kind),
        ("Cache-Control", caching),
        ("ETag", etag),
        ("Last-Modified", formatdate(EPOCH, usegmt=True)),
    ]
    return Reply(200, headers, body)


def as_json(value: object, status: int = 200, caching: str = "no-store") -> Reply:
    body = json.dumps(value).encode() + b"\n"
    return Reply(status, [("Content-Type", "application/json"), ("Cache-Control", caching)], body)


VARIANTS = {"control": "Everything you need.", "treatment": "Everything you need, at the edge of town."}


def variant_of(request: Request) -> str:
    variant = request.headers.get("x-variant", "control")
    return variant if variant in VARIANTS else "control"


@functools.cache
def home(variant: str) -> Reply:
    links = "\n".join(
        f'<li><a href="/product/{n}"><img src="/img/{n}.svg" alt="" width="80" height="60"> Product {n}</a></li>'
        for n in range(1, 13)
    )
    body = f"<p>{VARIANTS[variant]}</p><ul>{links}</ul>"
    return page("Storefront", f' data-variant="{variant}"', body, caching="max-age=30")


@functools.cache
def offer(variant: str) -> Reply:
    text = {"control": "Two for the price of two.", "treatment": "Three for the price of two."}[variant]
    return page("Offer", f' data-variant="{variant}"', f"<p>{text}</p>", caching="max-age=30")


@functools.lru_cache(maxsize=2 * PRODUCTS)
def product(number: int, variant: str) -> Reply:
    text = " ".join(f"Product {number} comes in size {size}." for size in range(1, 40))
    pictures = f'<img src="/img/{number}.jpg" alt=""><img src="/img/{number}.png" alt="">'
    button = "Buy" if variant == "control" else "Take it home"
    body = f"{pictures}<p>{text}</p><p>{price(number):.2f} <button>{button}</button></p>"
    marks = f' data-product="{number}" data-variant="{variant}"'
    caching = "max-age=60, stale-while-revalidate=30, stale-if-error=600"
    return page(f"Product {number}", marks, body, caching=caching)


def price(number: int) -> float:
    return 5 + (number * 37 % 200) / 4


def item(number: int) -> dict[str, object]:
    return {"id": number, "name": f"Product {number}", "price": price(number), "image": f"/img/{number}.jpg"}


def login(request: Request) -> Reply:
    if request.method != "POST":
        return with_header(as_json({"error": "POST an email"}, 405), "Allow", "POST")
    try:
        given = json.loads(request.body) if request.body.lstrip()[:1] == b"{" else form(request.body)
        email = str(given["email"])
        password = str(given.get("password", "demo"))
    except (ValueError, KeyError, AttributeError):
        return as_json({"error": "an email is needed"}, 400)
    if not 0 < len(email) <= 200 or not email.isascii() or not email.isprintable():
        return as_json({"error": "this is no email"}, 400)
    if password != "demo":
        return as_json({"error": "the password is: demo"}, 403)
    now = int(time.time())
    role = "admin" if email.startswith("admin@") else "customer"
    claims: dict[str, object] = {"sub": email, "userId": email, "role": role, "iat": now, "exp": now + 3600}
    return as_json({"token": token(claims), "expires_in": 3600})


def form(body: bytes) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(body.decode()).items()}


def token(claims: dict[str, object]) -> str:
    """A JSON Web Token signed with HMAC SHA-256 (RFC 7515 §3.3)."""
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    signed = b".".join(segment(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    signature = hmac.digest(SECRET.encode(), signed, "sha256")
    return (signed + b"." + segment(signature)).decode()


def segment(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def api(request: Request) -> Reply:
    rest = request.path.removeprefix("/api/")
    if rest == "me":
        return as_json({"id": request.headers.get("x-user-id"), "role": request.headers.get("x-user-role")})
    if rest == "products":
        first = number_of(request.query.get("from", ["1"])[-1]) or 1
        return as_json({"products": [item(n) for n in range(first, min(first + 20, PRODUCTS + 1))]})
    if rest.startswith("products/"):
        number = number_of(rest.removeprefix("products/"))
        return as_json(item(number)) if number else as_json({"error": "no such product"}, 404)
    if rest == "cart" and request.method == "POST":
        return as_json({"accepted": len(request.body), "user": request.headers.get("x-user-id")}, 201)
    return as_json({"error": "not found"}, 404)


def image(request: Request) -> Reply:
    name, _, kind = request.path.removeprefix("/img/").partition(".")
    number = number_of(name)
    if not number or kind not in PICTURES:
        return as_json({"error": "no such image"}, 404)
    content_type, draw = PICTURES[kind]
    return validated(draw(number % 24), content_type, "public, max-age=3600")


async def events(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield f"id: {number}\ndata: {json.dumps({'number': number, 'time': time.time()})}\n\n".encode()
        await asyncio.sleep(1)


async def answer(request: Request) -> Reply:
    path = request.path
    if path in ("/", "/index.html"):
        return home(variant_of(request))
    if path == "/offer":
        return offer(variant_of(request))
    if path.startswith("/product/"):
        number = number_of(path.removeprefix("/product/"))
        return product(number, variant_of(request)) if number else missing()
    if path.startswith("/img/"):
        return image(request)
    if path in STATIC:
        kind, body = STATIC[path]
        return validated(body, kind, "public, max-age=86400")
    if path.startswith("/api/"):
        return api(request)
    if path == "/login":
        return login(request)
    if path == "/events":
        count = number_of(request.query.get("count", ["10"])[-1]) or 10
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
        return Reply(200, headers, b"", events(count))
    if path == "/slow":
        await asyncio.sleep(min(float(number_of(request.query.get("seconds", ["1"])[-1]) or 1), 60))
        return page("Slow", "", "<p>That took a while.</p>", caching="max-age=10")
    if path.startswith("/status/"):
        status = number_of(path.removeprefix("/status/")) or 404
        return as_json({"status": status}, status) if 200 <= status <= 599 else missing()
    if path == "/healthz":
        return Reply(200, [("Content-Type", "text/plain"), ("Cache-Control", "no-store")], b"ok\n")
    return missing()


def missing() -> Reply:
    return page("Not found", "", "<p>There is nothing here.</p>", caching="max-age=5", status=404)


def number_of(text: str) -> int:
    """A number from 1 to the last product; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 and int(text) <= PRODUCTS else 0


def with_header(reply: Reply, name: str, value: str) -> Reply:
    return reply._replace(headers=[*reply.headers, (name, value)])


STATIC = {
    "/static/app.css": (
        "text/css; charset=utf-8",
        b"body{font:17px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem}\n"
        b"ul{display:grid;grid-template-columns:repeat(auto-fill,12rem);list-style:none;padding:0}\n"
        + b"".join(b".product-%d{color:hsl(%d 60%% 40%%)}\n" % (n, n * 15) for n in range(200)),
    ),
    "/static/app.js": (
        "text/javascript; charset=utf-8",
        b"document.querySelectorAll('img').forEach(i => i.loading = 'lazy');\n" + b"// a line of padding\n" * 300,
    ),
}


# -- pictures ----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def svg(number: int) -> bytes:
    hue = number * 15
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 80 60"><rect width="80" height="60" '
        f'fill="hsl({hue} 70% 85%)"/><circle cx="40" cy="30" r="{8 + number % 16}" fill="hsl({hue} 60% 45%)"/></svg>\n'
    ).encode()


@functools.lru_cache(maxsize=64)
def png(number: int, width: int = 240, height: int = 180) -> bytes:
    """A gradient with a texture that does not compress to nothing."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            rows += bytes(((x + number * 10) & 255, (y * 2) & 255, (x * y * (number + 3) >> 5) & 255))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(rows), 6)) + chunk(b"IEND", b"")


_DC_LENGTHS = (0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0)
"""The number of codes of each length in the usual table for DC coefficients (ITU T.81, table K.3)."""


@functools.lru_cache(maxsize=64)
def jpeg(number: int, blocks_wide: int = 40, blocks_high: int = 30) -> bytes:
    """Baseline JPEG (ITU T.81) in which every 8×8 block has one colour: only DC coefficients, each followed by EOB."""
    codes, code, symbol = {}, 0, 0
    for length, count in enumerate(_DC_LENGTHS, start=1):
        for _ in range(count):
            codes[symbol] = (code, length)
            code, symbol = code + 1, symbol + 1
        code <<= 1
    bits, size = 0, 0
    before = [0, 0, 0]
    for y in range(blocks_high):
        for x in range(blocks_wide):
            levels = (
                int(90 * math.sin((x + number) / 7) * math.cos(y / 6)),
                (x * 3 + number * 5) % 100 - 50,
                (y * 4 + number * 9) % 100 - 50,
            )
            for component, level in enumerate(levels):
                difference = level - before[component]
                before[component] = level
                category = abs(difference).bit_length()
                code, length = codes[category]
                value = difference if difference >= 0 else difference + (1 << category) - 1
                # The AC table below has one code: a single 0 bit for EOB.
                bits = (bits << (length + category + 1)) | (((code << category) | value) << 1)
                size += length + category + 1
    padding = -size % 8
    data = ((bits << padding) | ((1 << padding) - 1)).to_bytes((size + padding) // 8, "big")

    def part(marker: int, payload: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload

    dc_table = b"\x00" + bytes(_DC_LENGTHS) + bytes(range(12))
    ac_table = b"\x10" + bytes([1] + [0] * 15) + b"\x00"
    frame = struct.pack(">BHHB", 8, blocks_high * 8, blocks_wide * 8, 3)
    frame += b"".join(bytes((n, 0x11, 0)) for n in (1, 2, 3))
    scan = b"\x03" + b"".join(bytes((n, 0x00)) for n in (1, 2, 3)) + b"\x00\x3f\x00"
    return b"".join(
        (
            b"\xff\xd8",
            part(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
            part(0xDB, b"\x00" + bytes([8] * 64)),
            part(0xC0, frame),
            part(0xC4, dc_table),
            part(0xC4, ac_table),
            part(0xDA, scan),
            data.replace(b"\xff", b"\xff\x00"),
            b"\xff\xd9",
        )
    )


PICTURES: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "svg": ("image/svg+xml", svg),
    "png": ("image/png", png),
    "jpg": ("image/jpeg", jpeg),
}


# -- HTTP/1.1 ----------------------------------------------------------------------------------------------------------


class BadRequestError(Exception):
    """Answered with 400 and the end of the connection."""


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; ``None`` at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise BadRequestError from None
        return None
    except asyncio.LimitOverrunError:
        raise BadRequestError from None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    try:
        method, target, _version = first.split(" ")
    except ValueError:
        raise BadRequestError from None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequestError
        name = name.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    path, _, query = target.partition("?")
    body = await read_body(reader, headers)
    return Request(method, unquote(path), parse_qs(query), headers, body)


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                while await reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                return body
            if len(body) + size > LARGEST_BODY:
                raise BadRequestError
            body += await reader.readexactly(size)
            await reader.readexactly(2)
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > LARGEST_BODY:
        raise BadRequestError
    return await reader.readexactly(int(length))


def not_modified(request: Request, reply: Reply) -> bool:
    """RFC 9110 §13.2.2, as far as these validators need it."""
    fields = dict(reply.headers)
    if reply.status != 200 or request.method not in ("GET", "HEAD"):
        return False
    if "if-none-match" in request.headers:
        tags = {tag.strip().removeprefix("W/") for tag in request.headers["if-none-match"].split(",")}
        return "*" in tags or fields.get("ETag") in tags
    since = request.headers.get("if-modified-since")
    if since and "Last-Modified" in fields:
        try:
            return parsedate_to_datetime(since).timestamp() >= EPOCH
        except ValueError:
            return False
    return False


@functools.lru_cache(maxsize=4)
def date(_second: int) -> str:
    return formatdate(_second, usegmt=True)


class Origin:
    """The server; counts requests and leaves idle connections open until it stops."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: set[asyncio.Task[None]] = set()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            while (request := await read_request(reader)) is not None:
                reply = await self.reply(request)
                close = request.headers.get("connection", "").lower() == "close"
                if reply.stream is not None:
                    await self.stream(writer, request, reply)
                else:
                    writer.write(self.head(request, reply, close) + (b"" if request.method == "HEAD" else reply.body))
                    await writer.drain()
                if close:
                    break
        except (BadRequestError, ValueError):
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()

    async def reply(self, request: Request) -> Reply:
        if request.method not in ("GET", "HEAD", "POST"):
            return as_json({"error": "method not allowed"}, 405)
        reply = await answer(request)
        if not_modified(request, reply):
            return reply._replace(status=304, body=b"")
        return reply

    def head(self, request: Request, reply: Reply, close: bool) -> bytes:
        lines = [f"HTTP/1.1 {reply.status} {phrase(reply.status)}", f"Date: {date(int(time.time()))}"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        lines.append(f"X-Origin: {self.name}")
        if reply.stream is not None:
            lines.append("Transfer-Encoding: chunked")
        elif reply.status not in (204, 304):
            lines.append(f"Content-Length: {len(reply.body)}")
        if close:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def stream(self, writer: asyncio.StreamWriter, request: Request, reply: Reply) -> None:
        assert reply.stream is not None
        writer.write(self.head(request, reply, close=False))
        if request.method == "HEAD":
            return
        async for piece in reply.stream:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def serve(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        server = await asyncio.start_server(self.connection, host, port, limit=LARGEST_HEAD, backlog=1024, ssl=tls)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        print(f"origin {self.name} on {'https' if tls else 'http'}://{host}:{port}", flush=True)
        async with server:
            await stop.wait()
            server.close()
            for task in list(self._tasks):
                task.cancel()


@functools.cache
def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description="The storefront's origin.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--name", default="primary", help="what X-Origin says")
    parser.add_argument("--certificate", help="serve https by this certificate, in PEM")
    parser.add_argument("--key", help="the key of the certificate, in PEM")
    arguments = parser.parse_args()
    tls = None
    if arguments.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            tls.load_cert_chain(arguments.certificate, arguments.key)
        except OSError as error:
            sys.exit(f"error: --certificate {arguments.certificate}: {error.strerror or error}")
    for number in range(24):
        for _kind, draw in PICTURES.values():
            draw(number)
    try:
        asyncio.run(Origin(arguments.name).serve(arguments.host, arguments.port, tls))
    except OSError as error:
        sys.exit(f"error: {arguments.host}:{arguments.port}: {error.strerror}; choose another with --port")


if __name__ == "__main__":
    main()
