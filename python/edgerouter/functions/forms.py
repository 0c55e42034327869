"""``request.form()``: the fields and files of a form, url-encoded or multipart (RFC 7578), read by python-multipart.

The body streams through the parser. Text stays in memory; a file moves to a temporary file when it is large. Everything
that a client can make grow has a bound. The name of a file is a text for people: nothing here makes a path of it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
import unicodedata
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, cast
from urllib.parse import unquote_to_bytes

from edgerouter.errors import Abort, BodyError, MissingError

if TYPE_CHECKING:
    import os

    from edgerouter._core import Request

__all__ = ["Form", "Upload", "read"]

V = TypeVar("V")

#: The parser would log every malformed form of a client; the client gets the reason.
_SILENT = logging.Logger("forms", logging.CRITICAL + 1)
#: Bytes of a file that stay in memory; more are kept in a temporary file.
_IN_MEMORY = 1 << 16
#: Bytes that the names and values of one form may have together.
_TEXT = 1 << 20
#: Bytes of a field's name, of a file's name, of a line of a part's head; lines of such a head.
_NAME, _FILE_NAME, _LINE, _LINES = 256, 255, 4_096, 8
#: Bytes of all uploads of this process that are kept at a time.
_KEPT = 1 << 30


class _Kept:
    """Counts the bytes of uploads that are kept, so that many forms together cannot fill the disk."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0
        # The end of an upload may come in the middle of ``take``, when garbage is collected.
        self._lock = threading.RLock()

    def take(self, size: int) -> None:
        with self._lock:
            if self.bytes + size > self.most:
                raise Abort(503, "There is no room for uploads at the moment.", headers={"Retry-After": "5"})
            self.bytes += size

    def release(self, size: int) -> None:
        with self._lock:
            self.bytes -= size


_kept = _Kept(_KEPT)


class Upload:
    """A file of a form."""

    def __init__(self, field: str, filename: str, content_type: str) -> None:
        self.field = field
        """The name of its field."""
        self.filename = filename
        """The last part of the name that the client gave, for people to read; it may be empty."""
        self.content_type = content_type
        """The media type that the client gave; nothing has checked it."""
        self.size = 0
        """Its bytes."""
        self._file = cast("BinaryIO", SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115  # closed by close()
        self._held = [0]
        self._ends = weakref.finalize(self, _forget, self._file, self._held)

    def __repr__(self) -> str:
        return f"<Upload {self.field!r}: {self.size} bytes>"

    @property
    def file(self) -> BinaryIO:
        """Its content as a file, at its beginning when the form is there; a temporary file that ``close`` removes."""
        return self._file

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the content; all that remain by default."""
        return self._file.read(size)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> int:
        """Writes the whole content to ``path`` and returns its bytes. ``FileExistsError`` unless ``overwrite``.

        The path is the caller's own choice: ``filename`` must not be part of it.
        """
        self._file.seek(0)
        with Path(path).open("wb" if overwrite else "xb") as to:
            shutil.copyfileobj(self._file, to)
        return self.size

    def close(self) -> None:
        """Removes the content. The end of the last reference does so, too."""
        self._ends()

    def add(self, piece: bytes) -> None:
        """Adds to the content while the form is read."""
        _kept.take(len(piece))
        self._held[0] += len(piece)
        self.size += len(piece)
        self._file.write(piece)


def _forget(file: BinaryIO, held: list[int]) -> None:
    file.close()
    _kept.release(held[0])


class Named(Mapping[str, V]):
    """Values by name; of repeated names the first."""

    def __init__(self, kind: str, items: Iterable[tuple[str, V]] = ()) -> None:
        self._kind = kind
        self._items = dict[str, list[V]]()
        for name, value in items:
            self._items.setdefault(name, []).append(value)

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

    def __init__(self, reader: _Reader) -> None:
        super().__init__("form field")
        self._reader: _Reader | None = reader
        self._files: Named[Upload] = Named("file of the form")

    @property
    def files(self) -> Named[Upload]:
        """The files by the names of their fields."""
        self._there()
        return self._files

    def __await__(self) -> Generator[Any, None, Form]:
        if self._reader is not None:
            yield from self._awaited(self._reader).__await__()
        return self

    async def _awaited(self, reader: _Reader) -> None:
        self._take(await reader.awaited())

    def read_now(self) -> Form:
        """Reads it here and now, for plain callables."""
        if self._reader is not None:
            self._take(self._reader.waited_for())
        return self

    def _take(self, found: _Found) -> None:
        self._reader = None
        self._items = Named("", found.fields)._items
        self._files = Named("file of the form", ((upload.field, upload) for upload in found.files))

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
        for name in self._files:
            for upload in self._files.get_all(name):
                upload.close()

    def __enter__(self) -> Form:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bounds(NamedTuple):
    """The bounds of ``request.form()``."""

    max_fields: int = 1_000
    max_files: int = 20
    max_field_bytes: int = 1 << 16
    max_file_bytes: int = 10 << 20
    max_bytes: int = 32 << 20


def read(request: Request, **bounds: int) -> Form:
    """The form of a request: read already in a plain callable, to be awaited in an async one."""
    for name, value in bounds.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"request.form: {name} {value!r} must be a whole number ≥ 0")
    from edgerouter import _core
    from edgerouter.functions import logs

    call = logs.CURRENT.get(None) or _core.current_call()
    if call is not None and call.phase != "function":
        raise RuntimeError("request.form is for functions: hooks have no body")
    form = Form(_Reader(request, Bounds(**bounds)))
    return form if asyncio._get_running_loop() is not None else form.read_now()


class _Found(NamedTuple):
    fields: list[tuple[str, str]]
    files: list[Upload]


class _Reader:
    """Reads the body of one request."""

    def __init__(self, request: Request, bounds: Bounds) -> None:
        from python_multipart.multipart import parse_options_header

        self.request = request
        self.bounds = bounds
        content_type = request.headers.get("content-type", "")
        media_type, options = parse_options_header(content_type)
        self.parts: _Parts | None
        if media_type == b"application/x-www-form-urlencoded":
            self.parts = _Encoded(bounds)
        elif media_type == b"multipart/form-data":
            self.parts = _Multipart(bounds, options.get(b"boundary", b""))
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

    async def awaited(self) -> _Found:
        try:
            async for piece in aiter(self.request):
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

    def waited_for(self) -> _Found:
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

    def found(self) -> _Found:
        if self.parts is None:
            return _Found([], [])
        try:
            return self.parts.found()
        except BaseException:
            self.fail()
            raise

    def fail(self) -> None:
        if self.parts is not None:
            for upload in self.parts.files:
                upload.close()
            self.parts.parser = None


async def _on_thread(store: Callable[[], None]) -> None:
    """Writes on a thread; one that is cancelled meanwhile waits for the end, because the files are closed then."""
    writing = asyncio.ensure_future(asyncio.to_thread(store))
    try:
        await asyncio.shield(writing)
    finally:
        if not writing.done():
            await asyncio.wait({writing})


class _Parts:
    """The parts of a form as they arrive, counted."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.fields: list[tuple[str, str]] = []
        self.files: list[Upload] = []
        #: Pieces of files that are to be written.
        self.pending: list[tuple[Upload, bytes]] = []
        self.size = 0
        self.text = 0
        self.parser: Any = None

    def take(self, piece: bytes) -> None:
        """Parses a piece."""
        from python_multipart.exceptions import FormParserError

        self.size += len(piece)
        if self.size > self.bounds.max_bytes:
            raise Abort(413, f"The form is larger than {self.bounds.max_bytes} bytes.")
        try:
            self.parser.write(piece)
        except FormParserError as error:
            raise BodyError(f"The body is not a form: {error}.") from None

    def reaches_disk(self) -> bool:
        """True if what is to be written is for a temporary file."""
        return any(upload.size + len(piece) > _IN_MEMORY for upload, piece in self.pending)

    def store(self) -> None:
        """Writes the pieces of files."""
        pending, self.pending = self.pending, []
        for upload, piece in pending:
            upload.add(piece)

    def found(self) -> _Found:
        """Everything, once the body is complete."""
        from python_multipart.exceptions import FormParserError

        try:
            self.parser.finalize()
        except FormParserError as error:
            raise BodyError(f"The body is not a form: {error}.") from None
        for upload in self.files:
            upload.file.seek(0)
        # It refers to this in a circle, which would keep the files until the next collection.
        self.parser = None
        return _Found(self.fields, self.files)

    def count_field(self) -> None:
        if len(self.fields) >= self.bounds.max_fields:
            raise Abort(413, f"The form has more than {self.bounds.max_fields} fields.")

    def count_text(self, size: int, field: int) -> None:
        """Counts ``size`` more bytes of text, ``field`` of which belong to one field so far."""
        self.text += size
        if field > self.bounds.max_field_bytes or self.text > _TEXT:
            most = min(self.bounds.max_field_bytes, _TEXT)
            raise Abort(413, f"A field of the form is larger than {most} bytes, or all fields than {_TEXT}.")

    def add(self, name: bytes, value: bytes) -> None:
        self.fields.append((_text(name, "the name of a field"), _text(value, "the value of a field")))


class _Encoded(_Parts):
    """``application/x-www-form-urlencoded``."""

    def __init__(self, bounds: Bounds) -> None:
        from python_multipart.multipart import QuerystringParser

        super().__init__(bounds)
        self.name = bytearray()
        self.value = bytearray()
        self.parser = QuerystringParser(
            {
                "on_field_start": self.on_start,
                "on_field_name": self.on_name,
                "on_field_data": self.on_data,
                "on_field_end": self.on_end,
            }
        )
        self.parser.logger = _SILENT

    def on_start(self) -> None:
        self.count_field()
        self.name.clear()
        self.value.clear()

    def on_name(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]
        # Each character may be written as three.
        if len(self.name) > 3 * _NAME:
            raise Abort(413, f"A field of the form has a name of more than {_NAME} bytes.")
        self.count_text(end - start, len(self.name))

    def on_data(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]
        self.count_text(end - start, len(self.value))

    def on_end(self) -> None:
        self.add(_decoded(self.name), _decoded(self.value))


class _Multipart(_Parts):
    """``multipart/form-data``."""

    def __init__(self, bounds: Bounds, boundary: bytes) -> None:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser

        super().__init__(bounds)
        if not boundary:
            raise BodyError("The Content-Type of the form has no boundary.")
        self.head: list[tuple[bytearray, bytearray]] = []
        self.name = b""
        self.value = bytearray()
        self.upload: Upload | None = None
        #: Bytes of the file so far; ``Upload.size`` follows when they are written.
        self.file_size = 0
        self.complete = False
        try:
            self.parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self.on_begin,
                    "on_header_begin": lambda: self.head.append((bytearray(), bytearray())),
                    "on_header_field": lambda data, start, end: self.head[-1][0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self.head[-1][1].extend(data[start:end]),
                    "on_headers_finished": self.on_head,
                    "on_part_data": self.on_data,
                    "on_part_end": self.on_end,
                    "on_end": self.on_complete,
                },
                max_header_count=_LINES,
                max_header_size=_LINE,
            )
        except FormParserError as error:
            raise BodyError(f"The Content-Type of the form is not valid: {error}.") from None
        self.parser.logger = _SILENT

    def on_begin(self) -> None:
        self.head = []
        self.value.clear()
        self.upload = None
        self.file_size = 0

    def on_head(self) -> None:
        from python_multipart.multipart import parse_options_header

        lines = {bytes(name).lower(): bytes(value) for name, value in reversed(self.head)}
        disposition, options = parse_options_header(lines.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise BodyError("A part of the form has no Content-Disposition: form-data with a name.")
        self.name = options[b"name"]
        if len(self.name) > _NAME:
            raise Abort(413, f"A field of the form has a name of more than {_NAME} bytes.")
        if b"filename" not in options:
            self.count_field()
            self.count_text(len(self.name), 0)
            return
        if len(self.files) >= self.bounds.max_files:
            raise Abort(413, f"The form has more than {self.bounds.max_files} files.")
        field = _text(self.name, "the name of a field")
        filename = _shown(_text(options[b"filename"], "the name of a file"))
        self.upload = Upload(field, filename, lines.get(b"content-type", b"").decode("latin-1"))
        self.files.append(self.upload)

    def on_data(self, data: bytes, start: int, end: int) -> None:
        if self.upload is None:
            self.value += data[start:end]
            self.count_text(end - start, len(self.value))
            return
        self.file_size += end - start
        if self.file_size > self.bounds.max_file_bytes:
            raise Abort(413, f'The file "{self.upload.field}" is larger than {self.bounds.max_file_bytes} bytes.')
        self.pending.append((self.upload, data[start:end]))

    def on_end(self) -> None:
        if self.upload is None:
            self.add(self.name, bytes(self.value))
        elif not self.upload.filename and not self.file_size:
            # Browsers send this for an input without a file.
            self.files.remove(self.upload)

    def on_complete(self) -> None:
        self.complete = True

    def found(self) -> _Found:
        found = super().found()
        if not self.complete:
            raise BodyError("The form ends in the middle of a part.")
        return found


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BodyError(f"The body is not a form in UTF-8: {what} is not.") from None


def _decoded(value: bytearray) -> bytes:
    return unquote_to_bytes(bytes(value).replace(b"+", b" "))


def _shown(name: str) -> str:
    """The last part of a file's name, without characters that steer a terminal or turn the direction of text."""
    last = name.replace("\\", "/").rpartition("/")[2]
    clean = "".join(character for character in last if unicodedata.category(character)[0] != "C").strip()
    return "" if clean.strip(".") == "" else clean.encode()[:_FILE_NAME].decode(errors="ignore")
