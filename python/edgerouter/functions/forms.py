"""``request.form()``: the fields and files of a form, url-encoded or multipart (RFC 7578).

The body streams through the parser of ``form_parts``. Text stays in memory; a file moves to a temporary file when it is
large. Everything that a client can make grow has a bound. The name of a file is a text for people: nothing here makes a
path of it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from edgerouter.errors import Abort, MissingError
from edgerouter.functions import logs
from edgerouter.functions.form_parts import Bounds, Encoded, Found, Multipart, Parts, Upload

if TYPE_CHECKING:
    from edgerouter._core import Request

__all__ = ["Form", "Upload", "read"]

V = TypeVar("V")

_BOUNDS = Bounds()


def _by_name(items: Iterable[tuple[str, V]]) -> dict[str, list[V]]:
    found: dict[str, list[V]] = {}
    for name, value in items:
        found.setdefault(name, []).append(value)
    return found


class Named(Mapping[str, V]):
    """Values by name; of repeated names the first."""

    def __init__(self, kind: str, items: Iterable[tuple[str, V]] = ()) -> None:
        self._kind = kind
        self._items = _by_name(items)

    def __getitem__(self, name: str) -> V:
        """``MissingError``, which is answered with 400 and the name, where there is none."""
        try:
            return self._items[name][0]
        except KeyError:
            raise MissingError(name, self._kind) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def get_all(self, name: str) -> list[V]:
        """All values of that name, in their order."""
        return list(self._items.get(name, ()))


class Form(Named[str]):
    """The text fields of a form by name, and its ``files``. An async callable awaits it first."""

    _kind = "form field"

    def __init__(self, reader: _Reader) -> None:
        self._reader: _Reader | None = reader
        self._uploads: list[Upload]

    @functools.cached_property
    def files(self) -> Named[Upload]:
        """The files by the names of their fields."""
        self._there()
        return Named("file of the form", ((upload.field, upload) for upload in self._uploads))

    def __await__(self) -> Generator[Any, None, Form]:
        if self._reader is not None:
            found = self._reader.at_once()
            if found is None:
                found = yield from self._reader.awaited().__await__()
            self._take(found)
        return self

    def read_now(self) -> Form:
        """Reads it here and now, for plain callables."""
        if self._reader is not None:
            self._take(self._reader.waited_for())
        return self

    def _take(self, found: Found) -> None:
        self._reader = None
        self._items = _by_name(found.fields)
        self._uploads = found.files

    def _there(self) -> None:
        if self._reader is not None:
            raise RuntimeError("the form has not been read: write form = await request.form()")

    def __getitem__(self, name: str) -> str:
        self._there()
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        self._there()
        return super().__iter__()

    def __len__(self) -> int:
        self._there()
        return super().__len__()

    def get_all(self, name: str) -> list[str]:
        """All values of a field, in their order."""
        self._there()
        return super().get_all(name)

    def close(self) -> None:
        """Removes the content of all files."""
        if self._reader is not None:
            return
        for upload in self._uploads:
            upload.close()

    def __enter__(self) -> Form:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(request: Request, **bounds: int) -> Form:
    """The form of a request: read already in a plain callable, to be awaited in an async one."""
    for name, value in bounds.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"request.form: {name} {value!r} must be a whole number ≥ 0")
    call = logs.CURRENT.get(None)
    if call is None:
        from edgerouter import _core

        call = _core.current_call()
    if call is not None and call.phase != "function":
        raise RuntimeError("request.form is for functions: hooks have no body")
    form = Form(_Reader(request, Bounds(**bounds) if bounds else _BOUNDS))
    return form if asyncio._get_running_loop() is not None else form.read_now()


class _Reader:
    """Reads the body of one request."""

    def __init__(self, request: Request, bounds: Bounds) -> None:
        self.request = request
        content_type = request.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip(" \t").lower()
        self.parts: Parts | None
        if media_type == "application/x-www-form-urlencoded":
            self.parts = Encoded(bounds)
        elif media_type == "multipart/form-data":
            from python_multipart.multipart import parse_options_header

            _, options = parse_options_header(content_type)
            self.parts = Multipart(bounds, options.get(b"boundary", b""))
        elif not content_type:
            # A request without content has an empty form; for another one ``awaited`` says what is missing.
            self.parts = None
        else:
            raise Abort(415, f"The body is {content_type[:100]}, which is not the media type of a form.")

    def write(self, piece: bytes) -> None:
        """Takes a piece of the body; the files that it led to are not written yet."""
        if self.parts is None:
            if piece:
                raise Abort(415, "The request has no Content-Type, so its body is not a form.")
            return
        self.parts.take(piece)

    def at_once(self) -> Found | None:
        """The parts of a url-encoded form that is there; ``None``: they have to be awaited."""
        if type(self.parts) is not Encoded or (body := self.request._whole()) is None:
            return None
        self.parts.take(body)
        return self.parts.found()

    async def awaited(self) -> Found:
        try:
            async for piece in self.request:
                self.write(piece)
                if self.parts is not None and self.parts.pending:
                    if self.parts.reaches_disk():
                        await _on_thread(self.parts.store)
                    else:
                        self.parts.store()
        except BaseException:
            self.fail()
            raise
        return self.found()

    def waited_for(self) -> Found:
        from edgerouter import _core

        try:
            # An inline callable must not wait: it has what has arrived, as ``request.body``.
            for piece in (self.request.body,) if _core.serves() else self.request:
                self.write(piece)
                if self.parts is not None:
                    self.parts.store()
        except BaseException:
            self.fail()
            raise
        return self.found()

    def found(self) -> Found:
        if self.parts is None:
            return Found([], [])
        try:
            return self.parts.found()
        except BaseException:
            self.fail()
            raise

    def fail(self) -> None:
        if self.parts is not None:
            for upload in self.parts.files:
                upload.close()
            self.parts.close()


async def _on_thread(store: Callable[[], None]) -> None:
    """Writes on a thread; one that is cancelled meanwhile waits for the end, because the files are closed then."""
    writing = asyncio.ensure_future(asyncio.to_thread(store))
    try:
        await asyncio.shield(writing)
    finally:
        if not writing.done():
            await asyncio.wait({writing})
