"""The parts of a form as they arrive: fields in memory, files in ``Upload``, each with its bound.

python-multipart parses parts. ``forms`` feeds it, and has the form that a callable sees.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import unicodedata
import weakref
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote_to_bytes

from edgerouter.errors import Abort, BodyError

if TYPE_CHECKING:
    import os

__all__ = ["Bounds", "Encoded", "Found", "Multipart", "Parts", "Upload"]

#: The parser would log every malformed form of a client; the client gets the reason.
_SILENT = logging.Logger("forms", logging.CRITICAL + 1)
#: Bytes of a file that stay in memory; more are kept in a temporary file.
_IN_MEMORY = 1 << 16
#: Bytes that the names and values of one form may have together.
_TEXT = 1 << 20
#: Bytes of a url-encoded form that are taken apart at once.
_STEP = 1 << 16
#: Bytes of a field's name, of a file's name, of a line of a part's head; lines of such a head.
_NAME, _FILE_NAME, _LINE, _LINES = 256, 255, 4_096, 8
#: A quoted parameter of ``Content-Disposition``, and one that says in which charset its value is.
#: One without an end goes to the end of the line: to begin anew at each quote would take the square of its length.
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.?)*(?:"|$)', re.DOTALL)
_FILENAME = re.compile(rb";\s*filename\*\s*=\s*([A-Za-z0-9-]*)'[^';]*'([^\s;]*)", re.IGNORECASE)
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


kept = _Kept(_KEPT)


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
        kept.take(len(piece))
        self._held[0] += len(piece)
        self.size += len(piece)
        self._file.write(piece)


def _forget(file: BinaryIO, held: list[int]) -> None:
    file.close()
    kept.release(held[0])


class Bounds(NamedTuple):
    """The bounds of ``request.form()``."""

    max_fields: int = 1_000
    max_files: int = 20
    max_field_bytes: int = 1 << 16
    max_file_bytes: int = 10 << 20
    max_bytes: int = 32 << 20


class Found(NamedTuple):
    fields: list[tuple[str, str]]
    files: list[Upload]


class Parts:
    """The parts of a form as they arrive, counted."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.fields: list[tuple[str, str]] = []
        self.files: list[Upload] = []
        #: Pieces of files that are to be written.
        self.pending: list[tuple[Upload, bytes]] = []
        self.size = 0
        self.text = 0

    def take(self, piece: bytes) -> None:
        """Parses a piece."""
        self.size += len(piece)
        if self.size > self.bounds.max_bytes:
            raise Abort(413, f"The form is larger than {self.bounds.max_bytes} bytes.")
        self.parse(piece)

    def parse(self, piece: bytes) -> None:
        raise NotImplementedError

    def reaches_disk(self) -> bool:
        """True if what is to be written is for a temporary file."""
        return any(upload.size + len(piece) > _IN_MEMORY for upload, piece in self.pending)

    def store(self) -> None:
        """Writes the pieces of files."""
        pending, self.pending = self.pending, []
        for upload, piece in pending:
            upload.add(piece)

    def found(self) -> Found:
        """Everything, once the body is complete."""
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of what keeps the files."""

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
        try:
            self.fields.append((name.decode(), value.decode()))
        except UnicodeDecodeError:
            _text(name, "the name of a field")
            _text(value, "the value of a field")
            raise


class Encoded(Parts):
    """``application/x-www-form-urlencoded`` (URL standard §5.1).

    ``bytes.split`` takes it apart: a parser in Python that goes from state to state costs several times as much.
    """

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        #: The field that has begun.
        self.begun = bytearray()
        #: A field that is longer has too long a name or value, wherever the one ends.
        self.most = 3 * _NAME + 1 + bounds.max_field_bytes
        #: A name and a value of this length together are within their bounds.
        self.within = min(3 * _NAME, bounds.max_field_bytes)

    def parse(self, piece: bytes) -> None:
        # A step at a time bounds the list that a body of separators would make.
        for at in range(0, len(piece), _STEP):
            *fields, last = piece[at : at + _STEP].split(b"&")
            if fields and self.begun:
                fields[0] = bytes(self.begun) + fields[0]
                self.begun.clear()
            for field in fields:
                # Nothing between two separators is no field.
                if field:
                    self.end(field)
            self.begun += last
            if len(self.begun) > self.most:
                self.end(bytes(self.begun))

    def end(self, field: bytes) -> None:
        """Takes a field that is complete, or too long already."""
        name, _, value = field.partition(b"=")
        size = len(name) + len(value)
        # A field that is within all bounds costs no call for each of them.
        if len(self.fields) >= self.bounds.max_fields or size > self.within or self.text + size > _TEXT:
            self.count_field()
            # Each character may be written as three.
            if len(name) > 3 * _NAME:
                raise Abort(413, f"A field of the form has a name of more than {_NAME} bytes.")
            self.count_text(size, max(len(name), len(value)))
        else:
            self.text += size
        if b"%" in field or b"+" in field:
            name, value = _decoded(name), _decoded(value)
        self.add(name, value)

    def found(self) -> Found:
        if self.begun:
            self.end(bytes(self.begun))
        return Found(self.fields, self.files)


class Multipart(Parts):
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
        self.parser: Any
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
        given = lines.get(b"content-disposition", b"")
        disposition, options = parse_options_header(given)
        if disposition != b"form-data" or b"name" not in options:
            raise BodyError("A part of the form has no Content-Disposition: form-data with a name.")
        self.name = options[b"name"]
        if len(self.name) > _NAME:
            raise Abort(413, f"A field of the form has a name of more than {_NAME} bytes.")
        sent = options.get(b"filename")
        filename = _extended(given) if sent is None else _text(sent, "the name of a file")
        if filename is None:
            self.count_field()
            self.count_text(len(self.name), 0)
            return
        if len(self.files) >= self.bounds.max_files:
            raise Abort(413, f"The form has more than {self.bounds.max_files} files.")
        field = _text(self.name, "the name of a field")
        self.upload = Upload(field, _shown(filename), lines.get(b"content-type", b"").decode("latin-1"))
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

    def parse(self, piece: bytes) -> None:
        from python_multipart.exceptions import FormParserError

        try:
            self.parser.write(piece)
        except FormParserError as error:
            raise BodyError(f"The body is not a form: {error}.") from None

    def found(self) -> Found:
        from python_multipart.exceptions import FormParserError

        try:
            self.parser.finalize()
        except FormParserError as error:
            raise BodyError(f"The body is not a form: {error}.") from None
        for upload in self.files:
            upload.file.seek(0)
        self.close()
        if not self.complete:
            raise BodyError("The form ends in the middle of a part.")
        return Found(self.fields, self.files)

    def close(self) -> None:
        # It refers to this in a circle, which would keep the files until the next collection.
        self.parser = None


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BodyError(f"The body is not a form in UTF-8: {what} is not.") from None


def _extended(disposition: bytes) -> str | None:
    """The name of a file that is only in ``filename*`` (RFC 8187), as some clients send one that is not ASCII.

    RFC 7578 §4.2 has them not do so, but the part is a file all the same.
    """
    found = _FILENAME.search(_QUOTED.sub(b'""', disposition))
    if found is None:
        return None
    charset, value = found[1].decode("ascii").lower(), unquote_to_bytes(found[2])
    if charset == "iso-8859-1":
        return value.decode("latin-1")
    if charset != "utf-8":
        raise BodyError("The name of a file of the form is neither in UTF-8 nor in ISO-8859-1.")
    return _text(value, "the name of a file")


def _decoded(value: bytes) -> bytes:
    if b"+" in value:
        value = value.replace(b"+", b" ")
    return unquote_to_bytes(value) if b"%" in value else value


def _shown(name: str) -> str:
    """The last part of a file's name, without characters that steer a terminal or turn the direction of text."""
    last = name.replace("\\", "/").rpartition("/")[2]
    clean = "".join(character for character in last if unicodedata.category(character)[0] != "C").strip()
    return "" if clean.strip(".") == "" else clean.encode()[:_FILE_NAME].decode(errors="ignore")
