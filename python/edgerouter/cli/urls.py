"""URLs to warm the cache with: from sitemaps, lists and access logs.

A file is somebody else's text: it is read within bounds, XML without any document type (so no entity can expand), and
anything that is no URL is reported with its line.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit
from xml.parsers import expat

from edgerouter.errors import EdgeError

__all__ = ["MOST_URLS", "SourceError", "from_list", "from_log", "sitemap"]

#: Bytes of a sitemap, unpacked, and URLs in it: the protocol's own bounds (https://www.sitemaps.org/protocol.html).
MOST_BYTES = 50 << 20
MOST_LOCATIONS = 50_000
#: Sitemaps that an index may lead to, and URLs of a run.
MOST_SITEMAPS = 1_000
MOST_URLS = 1_000_000
#: Bytes in a line of a list or log, and in a URL.
MOST_LINE = 64 << 10
MOST_URL = 8 << 10

Fetch = Callable[[str], bytes]


class SourceError(EdgeError):
    """A source of URLs cannot be read."""


# -- sitemaps ----------------------------------------------------------------------------------------------------------


def sitemap(source: str, fetch: Fetch) -> Iterator[str]:
    """The URLs of a sitemap, or of all that an index names; ``source`` is a URL or a file, packed or not."""
    waiting, seen = [source], {source}
    while waiting:
        place = waiting.pop(0)
        kind, locations = _parsed(place, _unpacked(place, _read(place, fetch)))
        if kind == "urlset":
            yield from locations
            continue
        for location in locations:
            _same_site(place, location)
            if location not in seen:
                seen.add(location)
                waiting.append(location)
        if len(seen) > MOST_SITEMAPS:
            raise SourceError(f"{source}: leads to more than {MOST_SITEMAPS} sitemaps")


def _same_site(parent: str, child: str) -> None:
    """A URL may name sitemaps of its own site only; a file is the user's own, and may name any site."""
    if _is_url(parent) and urlsplit(parent).netloc != urlsplit(child).netloc:
        raise SourceError(f"{parent}: names a sitemap of another site: {child}")
    if not _is_url(child):
        raise SourceError(f"{parent}: {child!r} is no http or https URL")


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _read(place: str, fetch: Fetch) -> bytes:
    if _is_url(place):
        return fetch(place)
    try:
        with Path(place).open("rb") as file:
            return _bounded(file, place)
    except OSError as error:
        raise SourceError(f"{place}: {error.strerror or error}") from None


def _bounded(file: BinaryIO | gzip.GzipFile, place: str) -> bytes:
    content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise SourceError(f"{place}: larger than {MOST_BYTES >> 20} MiB, which is the most for a sitemap")
    return content


def _unpacked(place: str, content: bytes) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return _bounded(file, place)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{place}: not readable as gzip: {error}") from None


def _parsed(place: str, content: bytes) -> tuple[str, list[str]]:
    """The root element's name and the text of all ``loc`` elements of its entries."""
    reader = _Reader(place)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise SourceError(f"{place}: line {error.lineno}: not XML: {expat.errors.messages[error.code]}") from None
    return reader.root, reader.locations


class _Reader:
    def __init__(self, place: str) -> None:
        self.place = place
        self.root = ""
        self.path: list[str] = []
        self.loc = ""
        self.locations: list[str] = []

    def doctype(self, *_declaration: object) -> None:
        raise SourceError(f"{self.place}: has a document type declaration; sitemaps have none, and it is not read")

    def start(self, name: str, _attributes: object) -> None:
        name = name.rpartition(" ")[2]
        if not self.path:
            if name not in ("urlset", "sitemapindex"):
                raise SourceError(f"{self.place}: is no sitemap: its root is <{name}>, not <urlset> or <sitemapindex>")
            self.root = name
        self.path.append(name)
        if len(self.path) > 32:
            raise SourceError(f"{self.place}: elements are nested more than 32 deep")
        self.loc = ""

    def text(self, text: str) -> None:
        # Only <url><loc> and <sitemap><loc>: images and videos have a loc of their own.
        if self._in_loc() and len(self.loc) <= MOST_URL:
            self.loc += text

    def end(self, _name: str) -> None:
        if self._in_loc():
            self.locations.append(self.loc.strip())
            if len(self.locations) > MOST_LOCATIONS:
                raise SourceError(
                    f"{self.place}: has more than {MOST_LOCATIONS} entries, which is the most for a sitemap"
                )
        self.path.pop()

    def _in_loc(self) -> bool:
        return self.path[1:] in (["url", "loc"], ["sitemap", "loc"])


# -- lists and logs ----------------------------------------------------------------------------------------------------


def from_list(place: str) -> Iterator[str]:
    """One URL or path a line; blank lines and those that begin with ``#`` say nothing."""
    for number, line in enumerate(_lines(place), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            if not _is_requestable(text):
                raise SourceError(f"{place}: line {number}: {_no_url(text)}")
            yield text


#: Common and combined log format: host, identity, user, [time], "request", status; a virtual host may come first.
_ENTRY = re.compile(r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/[0-9.]+" (?P<status>[0-9]{3})(?: |$)')
#: The host of the request, as edgerouter writes it behind these.
_HOST = re.compile(r' host="([^"\\ ]+)"')


def _entry(line: str) -> tuple[str, str, str] | None:
    """Method, URL or path, and status of a line; ``None`` for what is no line of a log.

    The path of a line that has the host is a URL of that host, without a scheme where the line has none.
    """
    if line.startswith("{"):
        try:
            found = json.loads(line)
            method, target, status = str(found["method"]), str(found["url"]), str(found["status"])
        except (ValueError, KeyError, TypeError):
            return None
        return method, _of_host(target, found.get("host"), found.get("scheme")), status
    entry = _ENTRY.search(line)
    if entry is None:
        return None
    # As nginx and edgerouter write what would end the quoted text.
    target = re.sub(r"\\x([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), entry["target"])
    host = _HOST.search(line, entry.end())
    return entry["method"], _of_host(target, host and host[1], None), entry["status"]


def _of_host(target: str, host: object, scheme: object) -> str:
    if not isinstance(host, str) or not host or not target.startswith("/"):
        return target
    return f"{scheme}://{host}{target}" if scheme in ("http", "https") else f"//{host}{target}"


def from_log(place: str, base: str) -> Iterator[str]:
    """URLs requested with GET and answered well, most often first; masked URLs and those cut off are left out.

    ``base`` has the scheme of those whose line has none.
    """
    counts: Counter[str] = Counter()
    entries = 0
    for line in _lines(place):
        entry = _entry(line)
        if entry is None:
            continue
        entries += 1
        method, target, status = entry
        if target.startswith("//"):
            target = f"{urlsplit(base).scheme}:{target}"
        if "=***" in target or not _is_requestable(target):
            continue
        if method == "GET" and status[:1] in ("2", "3") and (target in counts or len(counts) < MOST_URLS):
            counts[target] += 1
    if not entries:
        raise SourceError(f"{place}: has no line in common, combined or JSON log format")
    for target, _count in counts.most_common():
        yield target


def _lines(place: str) -> Iterator[str]:
    try:
        file: BinaryIO | gzip.GzipFile = Path(place).open("rb")  # noqa: SIM115 (closed below)
        if place.endswith(".gz"):
            file = gzip.GzipFile(fileobj=file)
        with file:
            while line := file.readline(MOST_LINE + 1):
                if len(line) <= MOST_LINE:
                    yield line.decode("utf-8", "replace")
                    continue
                while line and not line.endswith(b"\n"):
                    line = file.readline(MOST_LINE)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SourceError(f"{place}: {reason}") from None


def absolute(given: Iterable[str], base: str) -> Iterator[str]:
    """Whole URLs, each once, in their order; a path belongs to ``base``. Raises for what is neither."""
    seen: set[str] = set()
    for text in given:
        url = urljoin(base, text) if text.startswith("/") and not text.startswith("//") else text
        url = url.partition("#")[0]
        if not _is_requestable(url):
            raise SourceError(_no_url(text))
        if url not in seen:
            if len(seen) >= MOST_URLS:
                return
            seen.add(url)
            yield url


def _is_requestable(text: str) -> bool:
    """True if it is a URL or a path that can stand in a request."""
    if len(text) > MOST_URL or any(c <= " " or c > "~" for c in text):
        return False
    if text.startswith("/") and not text.startswith("//"):
        return True
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None


def _no_url(text: str) -> str:
    shown = text if len(text) <= 100 else f"{text[:100]}..."
    return f"{shown!r} is no URL to ask for: http://host/path, https://host/path or /path, percent-encoded"
