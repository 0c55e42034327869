"""Files that applications have sent in the place of content (``http.response.pathsend`` of ASGI).

A file is read on a thread in pieces, each when there is room for it. Its size is that of the time when it is opened:
one that grows is sent up to there, one that shrinks breaks the content off.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

from edgerouter import regular

__all__ = ["SentFile"]

#: Bytes that are read at a time.
PIECE = 256 << 10


class SentFile:
    """A file that is open. It is closed by ``close``, or when its pieces are given."""

    def __init__(self, path: str) -> None:
        self.descriptor = regular.descriptor(path)
        try:
            self.path, self.size = path, os.fstat(self.descriptor).st_size
            self.first = self.read(0)
        except BaseException:
            os.close(self.descriptor)
            raise

    @classmethod
    async def opened(cls, path: object) -> SentFile:
        """Opens a file and reads its first piece; ``OSError`` if it is no file."""
        if not isinstance(path, str):
            raise TypeError(f"the path of a file is str, not {type(path).__name__}")
        opening = asyncio.ensure_future(asyncio.to_thread(cls, path))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    def read(self, at: int) -> bytes:
        """The piece at a place. By position: a descriptor that was closed meanwhile and is another's loses nothing."""
        return os.pread(self.descriptor, min(PIECE, self.size - at), at)

    async def pieces(self) -> AsyncGenerator[tuple[bytes, bool], None]:
        """Each piece, and if another follows; ``OSError`` if the file has become shorter."""
        try:
            at = 0
            # Not kept while the rest is sent.
            piece, self.first = self.first, b""
            while True:
                at += len(piece)
                if not piece and at < self.size:
                    raise OSError(f"{self.path} has become shorter while it was sent")
                yield piece, at < self.size
                if at >= self.size:
                    return
                piece = await asyncio.to_thread(self.read, at)
        finally:
            self.close()

    def close(self) -> None:
        """Closes it, if it is open."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _close(opening: asyncio.Future[SentFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
