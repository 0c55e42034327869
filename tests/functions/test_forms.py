"""Forms in functions: fields, files, and the bounds on both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgerouter import AsyncContext, Context, Edge, Request
from edgerouter.functions import form_parts, forms
from edgerouter.functions.forms import Form, Upload
from edgerouter.testing import running

from ..origins import wait_until

LARGE = bytes(range(256)) * 8_192
MULTIPART = "multipart/form-data; boundary=b"


def seen(form: Form) -> dict[str, Any]:
    """Everything of a form, as data."""
    files = [
        [upload.field, upload.filename, upload.content_type, upload.size, upload.read(8).hex()]
        for name in form.files
        for upload in form.files.get_all(name)
    ]
    return {"fields": [[name, form.get_all(name)] for name in form], "files": files}


def application() -> Edge:
    edge = Edge("forms")

    @edge.function("/async")
    async def awaited(request: Request, ctx: AsyncContext) -> dict[str, Any]:
        with await request.form() as form:
            return seen(form)

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> dict[str, Any]:
        with request.form() as form:
            return seen(form)

    @edge.function("/inline", inline=True)
    def inline(request: Request, ctx: Context) -> dict[str, Any]:
        return seen(request.form())

    @edge.function("/bounds")
    async def bounds(request: Request, ctx: AsyncContext) -> dict[str, Any]:
        form = await request.form(max_fields=2, max_files=1, max_field_bytes=8, max_file_bytes=8, max_bytes=512)
        return seen(form)

    @edge.function("/missing")
    async def missing(request: Request, ctx: AsyncContext) -> str:
        form = await request.form()
        return form["title"] + form.files["picture"].filename

    @edge.function("/forgotten")
    async def forgotten(request: Request, ctx: AsyncContext) -> str:
        try:
            return request.form()["title"]
        except RuntimeError as error:
            return str(error)

    @edge.function("/twice")
    async def twice(request: Request, ctx: AsyncContext) -> str:
        await request.form()
        try:
            await request.form()
        except RuntimeError as error:
            return str(error)
        return "read again"

    return edge


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with running(application()) as served, httpx.Client(base_url=served.url, timeout=20) as made:
        yield made


@pytest.mark.parametrize("path", ["/async", "/plain", "/inline"])
def test_fields_and_files_arrive_in_every_kind_of_callable(client: httpx.Client, path: str) -> None:
    encoded = client.post(path, data={"a": ["1", "ä & b", ""], "b c": "+%"})
    assert encoded.json() == {"fields": [["a", ["1", "ä & b", ""]], ["b c", ["+%"]]], "files": []}
    parts = [("pic", ("one.png", b"\x89PNG", "image/png")), ("pic", ("zwei ä.txt", b"", "text/plain"))]
    whole = client.post(path, data={"a": ["1", "2"]}, files=parts)
    assert whole.json() == {
        "fields": [["a", ["1", "2"]]],
        "files": [
            ["pic", "one.png", "image/png", 4, "89504e47"],
            ["pic", "zwei ä.txt", "text/plain", 0, ""],
        ],
    }
    assert client.post(path).json() == {"fields": [], "files": []}


@pytest.mark.parametrize("path", ["/async", "/plain"])
def test_a_file_larger_than_a_whole_body_may_be_streams_through_and_is_released(
    client: httpx.Client, path: str
) -> None:
    found = client.post(path, files={"f": ("a.bin", LARGE)}).json()
    assert found["files"] == [["f", "a.bin", "application/octet-stream", len(LARGE), LARGE[:8].hex()]]
    assert form_parts.kept.bytes == 0


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("..", ""),
        ("a/", ""),
        ("evil\u202etxt.exe", "eviltxt.exe"),
        ("a\x1b[2Jb", "a[2Jb"),
        ("x" * 300, "x" * 255),
        ("ä" * 200, "ä" * 127),
    ],
    ids=["up", "windows", "dots", "folder", "direction", "escape", "long", "characters"],
)
def test_the_name_of_a_file_is_a_text_without_a_path(client: httpx.Client, sent: str, shown: str) -> None:
    body = f'--b\r\nContent-Disposition: form-data; name="f"; filename="{sent}"\r\n\r\nx\r\n--b--\r\n'
    found = client.post("/async", content=body.encode(), headers={"content-type": MULTIPART})
    assert [name for _, name, *_ in found.json()["files"]] == [shown]


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ("filename*=UTF-8''%e2%82%ac%20rates.txt", "€ rates.txt"),
        ("filename*=utf-8'en'a.txt", "a.txt"),
        ("filename*=ISO-8859-1''caf%e9.txt", "café.txt"),
        ("FILENAME* = UTF-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("filename=\"plain.txt\"; filename*=UTF-8''other.txt", "plain.txt"),
        ("filename=\"a; filename*=UTF-8''b.txt\"", "a; filename*=UTF-8''b.txt"),
        ("filename*=UTF-8''a.txt; x=\"" + '\\"' * 1_500 + "; filename*=UTF-8''b.txt", "a.txt"),
    ],
    ids=["utf-8", "language", "latin-1", "path", "both", "in a text", "no end"],
)
def test_a_file_may_have_its_name_in_the_extended_form(client: httpx.Client, parameters: str, shown: str) -> None:
    body = f'--b\r\nContent-Disposition: form-data; name="f"; {parameters}\r\n\r\nx\r\n--b--\r\n'
    found = client.post("/async", content=body.encode(), headers={"content-type": MULTIPART}).json()
    assert (found["fields"], [upload[:2] for upload in found["files"]]) == ([], [["f", shown]])


def part(head: str, body: str = "x") -> str:
    return f"--b\r\n{head}\r\n\r\n{body}\r\n"


FIELD = 'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("body", "media_type", "status", "reason"),
    [
        ("x", "application/json", 415, "not the media type of a form"),
        ("x", "", 415, "no Content-Type"),
        ("x", "multipart/form-data", 400, "no boundary"),
        ("x", f"multipart/form-data; boundary={'b' * 300}", 400, "not valid"),
        ("nonsense", MULTIPART, 400, "not a form"),
        (part("Content-Disposition: form-data") + "--b--\r\n", MULTIPART, 400, "with a name"),
        (part("Content-Type: text/plain") + "--b--\r\n", MULTIPART, 400, "with a name"),
        (part(FIELD + "; filename*=UTF-8''%ff") + "--b--\r\n", MULTIPART, 400, "not a form in UTF-8"),
        (part(FIELD + "; filename*=koi8-r''a") + "--b--\r\n", MULTIPART, 400, "neither in UTF-8"),
        (part(FIELD), MULTIPART, 400, "middle of a part"),
        ("", MULTIPART, 400, "middle of a part"),
        ("a=%ff", "application/x-www-form-urlencoded", 400, "UTF-8"),
        (part(FIELD + "\r\nX: 1" * 8) + "--b--", MULTIPART, 400, "header count"),
        (part(FIELD + "\r\nX: " + "1" * 4_200) + "--b--", MULTIPART, 400, "header size"),
        (part(f'Content-Disposition: form-data; name="{"a" * 257}"') + "--b--", MULTIPART, 413, "256 bytes"),
        ("a" * 800 + "=", "application/x-www-form-urlencoded", 413, "256 bytes"),
        ("&".join("a" for _ in range(1_001)), "application/x-www-form-urlencoded", 413, "1000 fields"),
        ("a=" + "x" * 70_000, "application/x-www-form-urlencoded", 413, "65536"),
        ("&".join("a=" + "x" * 60_000 for _ in range(20)), "application/x-www-form-urlencoded", 413, "1048576"),
    ],
)
def test_no_form_and_too_much_of_one_is_refused(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, body: str, media_type: str, status: int, reason: str
) -> None:
    headers = {"content-type": media_type} if media_type else {}
    answer = client.post("/async", content=body.encode("latin-1"), headers=headers)
    assert answer.status_code == status and reason in answer.text
    # A client cannot fill the log with malformed forms.
    assert not [record for record in caplog.records if "multipart" in record.name]
    assert form_parts.kept.bytes == 0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"data": {"a": ["1", "2", "3"]}}, "2 fields"),
        ({"files": [("f", b"1"), ("f", b"2")]}, "1 files"),
        ({"data": {"a": "123456789"}}, "8 bytes"),
        ({"files": {"f": b"123456789"}}, 'file "f" is larger'),
        ({"content": b"a" * 513, "headers": {"content-type": MULTIPART}}, "512 bytes"),
    ],
    ids=["fields", "files", "field", "file", "form"],
)
def test_a_call_sets_its_own_bounds(client: httpx.Client, given: dict[str, Any], reason: str) -> None:
    answer = client.post("/bounds", **given)
    assert answer.status_code == 413 and reason in answer.text


def test_a_field_or_file_that_is_not_there_is_400_with_its_name(client: httpx.Client) -> None:
    first = client.post("/missing", data={"b": "1"})
    assert first.status_code == 400 and 'missing form field "title"' in first.text
    second = client.post("/missing", data={"title": "a", "picture": "text is no file"})
    assert second.status_code == 400 and 'missing file of the form "picture"' in second.text
    assert client.post("/missing", data={"title": "a"}, files={"picture": ("b.png", b"x")}).text == "ab.png"


def test_mistakes_of_the_function_have_an_error_with_the_remedy(client: httpx.Client) -> None:
    assert "await request.form()" in client.post("/forgotten", data={"title": "a"}).text
    for sent in ({"files": {"f": LARGE}}, {"data": {"title": "a"}}):
        assert "has been read" in client.post("/twice", **sent).text


def test_an_input_without_a_file_is_no_file(client: httpx.Client) -> None:
    body = part('Content-Disposition: form-data; name="f"; filename=""', "") + "--b--\r\n"
    found = client.post("/async", content=body.encode(), headers={"content-type": MULTIPART})
    assert found.json() == {"fields": [], "files": []}


@pytest.fixture
def no_upload() -> None:
    """A thread that has written a file has it for a moment after the response."""
    wait_until(lambda: form_parts.kept.bytes == 0)


@pytest.mark.usefixtures("no_upload")
def test_an_upload_is_saved_where_the_caller_says_and_never_over_a_file(tmp_path: Path) -> None:
    upload = Upload("f", "name.txt", "text/plain")
    upload.add(LARGE)
    assert form_parts.kept.bytes == len(LARGE)
    assert upload.save(tmp_path / "kept") == len(LARGE) and (tmp_path / "kept").read_bytes() == LARGE
    with pytest.raises(FileExistsError):
        upload.save(tmp_path / "kept")
    assert upload.save(tmp_path / "kept", overwrite=True) == len(LARGE)
    upload.close()
    upload.close()
    assert form_parts.kept.bytes == 0
    Upload("f", "", "").add(b"unused")
    assert form_parts.kept.bytes == 0


@pytest.mark.usefixtures("no_upload")
def test_uploads_of_all_requests_together_are_bounded(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form_parts.kept, "most", 1_000)
    answer = client.post("/plain", files={"f": bytes(1_001)})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
    assert client.post("/plain", files={"f": bytes(1_000)}).status_code == 200


class Fed:
    """A request whose body comes in given pieces."""

    def __init__(self, media_type: str, pieces: list[bytes]) -> None:
        self.headers = {"content-type": media_type}
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.text(max_size=9), st.text(max_size=20)), max_size=5),
    st.lists(st.binary(max_size=60), max_size=3),
    st.integers(1, 40),
)
def test_the_pieces_of_a_body_do_not_matter(fields: list[tuple[str, str]], files: list[bytes], step: int) -> None:
    request = httpx.Request("POST", "http://edge/", files=[("f", ("n", content)) for content in files] or None)
    encoded = urlencode(fields).encode()
    for media_type, body in (
        ("application/x-www-form-urlencoded", encoded),
        *([(request.headers["content-type"], request.read())] if files else []),
    ):
        pieces = [body[at : at + step] for at in range(0, len(body), step)]
        form = forms.read(Fed(media_type, pieces))  # type: ignore[arg-type]  # as much of a request as is needed
        with form:
            if media_type.startswith("multipart"):
                assert [upload.read() for upload in form.files.get_all("f")] == files
            else:
                kept = [(name, value) for name, value in fields]
                assert [(name, v) for name in form for v in form.get_all(name)] == sorted(
                    kept, key=lambda it: list(dict(kept)).index(it[0])
                )


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"&&a=1&&b&=c&d=&", [("a", "1"), ("b", ""), ("", "c"), ("d", "")]),
        (b"a=b=c&a%3D=%26+x", [("a", "b=c"), ("a=", "& x")]),
        (b"a=%zz%2&%c3%a4=\xc3\xa4", [("a", "%zz%2"), ("ä", "ä")]),
        (b"&", []),
    ],
    ids=["separators", "signs", "escapes", "nothing"],
)
def test_a_url_encoded_form_is_taken_apart_at_its_separators_wherever_its_pieces_end(
    body: bytes, fields: list[tuple[str, str]]
) -> None:
    for step in range(1, len(body) + 1):
        pieces = [body[at : at + step] for at in range(0, len(body), step)]
        form = forms.read(Fed("Application/X-WWW-Form-URLencoded ; charset=utf-8", pieces))  # type: ignore[arg-type]
        assert [(name, value) for name in form for value in form.get_all(name)] == fields
