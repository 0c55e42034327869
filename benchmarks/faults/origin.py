"""The origin behind the edge: ``python -m benchmarks.faults.origin PORT``, on 127.0.0.1 until it is killed.

    /hit/…            1 KiB that may be stored for an hour
    /hot              1 KiB that is stale after a second, and may be used then where the origin fails
    /large/slices/…   5,000,000 bytes with a lifetime and a strong validator; ranges are answered
    /large/whole/…    the same without a validator
    /large/passed/…   the same, which nobody may store
    /slow/…           no answer for a minute
    /late/SECONDS/…   100,000 bytes after so long, which nobody may store
    /fail/…           closes the connection without an answer
    /once/…           1 KiB that nobody may store; the connection is closed behind it
    /counts           how many requests there were for each first part of the path, as JSON
    /…                1 KiB that nobody may store

``/pass`` before any of them changes nothing here; the edge stores nothing below it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from contextlib import suppress

LARGE = 5_000_000
LATE = 100_000
KEPT = "cache-control: max-age=3600\r\n"
NOT_KEPT = "cache-control: no-store\r\n"
PIECE = bytes(65_536)
HEADERS = {"slices": KEPT + 'etag: "1"\r\naccept-ranges: bytes\r\n', "whole": KEPT, "passed": NOT_KEPT}
LENGTH = re.compile(r"\r\ncontent-length: (\d+)", re.IGNORECASE)
RANGE = re.compile(r"\r\nrange: bytes=(\d+)-(\d*)", re.IGNORECASE)

counts: Counter[str] = Counter()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1].removeprefix("/pass")
            first, _, rest = path[1:].partition("/")
            counts[first] += 1
            sent = LENGTH.search(head)
            left = int(sent[1]) if sent else 0
            while left and (piece := await reader.read(min(left, len(PIECE)))):
                left -= len(piece)
            if first == "fail":
                break
            if first == "slow":
                await asyncio.wait_for(reader.read(1), 60)
                break
            if first == "late":
                await asyncio.sleep(float(rest.split("/")[0]))
                await send(writer, NOT_KEPT, LATE)
            elif first == "large":
                await large(writer, HEADERS[rest.split("/")[0]], RANGE.search(head))
            elif first == "counts":
                text = json.dumps(counts).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text) + text)
            elif first == "once":
                await send(writer, NOT_KEPT + "connection: close\r\n", 1024)
                break
            elif first == "hot":
                await send(writer, "cache-control: max-age=1, stale-if-error=600\r\n", 1024)
            else:
                await send(writer, KEPT if first == "hit" else NOT_KEPT, 1024)
    writer.close()


async def large(writer: asyncio.StreamWriter, headers: str, asked: re.Match[str] | None) -> None:
    if asked is None or "accept-ranges" not in headers:
        await send(writer, headers, LARGE)
        return
    start = int(asked[1])
    end = min(int(asked[2] or LARGE), LARGE - 1)
    await send(
        writer, f"{headers}content-range: bytes {start}-{end}/{LARGE}\r\n", end + 1 - start, "206 Partial Content"
    )


async def send(writer: asyncio.StreamWriter, headers: str, size: int, status: str = "200 OK") -> None:
    writer.write(f"HTTP/1.1 {status}\r\n{headers}content-length: {size}\r\n\r\n".encode())
    for start in range(0, size, len(PIECE)):
        writer.write(PIECE[: size - start])
        await writer.drain()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
