"""``edgerouter import``: files, report, exit codes, and files of people who wish it ill."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerouter.importing import FORMATS, read, writing
from edgerouter.importing.report import SourceError

from ..processes import command
from .samples import ALL, FIXTURES, Sample

ARTICLE = str(FIXTURES / "article-cloudfront.yaml")

SMALL = """
Resources:
  Site:
    Type: AWS::CloudFront::Distribution
    Properties:
      DistributionConfig:
        Enabled: true
        Origins: [{Id: web, DomainName: web.example.com, CustomOriginConfig: {OriginProtocolPolicy: https-only}}]
        DefaultCacheBehavior:
          TargetOriginId: web
          ViewerProtocolPolicy: allow-all
          CachePolicyId: 658327ea-f89d-4fab-a63d-7e88639e58f6
"""


def test_it_writes_the_program_and_ends_with_3_if_something_was_left_out(tmp_path: Path) -> None:
    done = command("import", ARTICLE, "--output", str(tmp_path / "app.py"), "--report", str(tmp_path / "report.txt"))
    assert (done.returncode, done.stdout) == (3, f"wrote {tmp_path / 'app.py'}\n")
    assert "OriginShieldRegion" in done.stderr
    assert (tmp_path / "report.txt").read_text() == done.stderr
    assert 'edge.origin("MyOrigin"' in (tmp_path / "app.py").read_text()
    assert all(line.startswith(("left out: article-cloudfront.yaml:", "choice: ")) for line in done.stderr.splitlines())


def test_it_ends_with_0_if_everything_has_a_counterpart(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SMALL)
    done = command("import", str(tmp_path / "site.yaml"), "-o", "-")
    assert (done.returncode, done.stderr) == (0, "")
    compile(done.stdout, "app.py", "exec")


def test_settings_of_the_process_of_nginx_mean_nothing(tmp_path: Path) -> None:
    site = "http { server { listen 80; location / { proxy_pass http://127.0.0.1:9000; } } }\n"
    (tmp_path / "nginx.conf").write_text(
        "daemon off;\nmaster_process off;\nworker_shutdown_timeout 5s;\nevents {}\n" + site
    )
    done = command("import", str(tmp_path / "nginx.conf"), "-o", "-")
    assert "daemon" not in done.stderr and "master_process" not in done.stderr and "worker" not in done.stderr


def test_a_source_without_a_route_says_what_could_not_be_one(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("stream {}\nhttp { server { listen 80; location / {} } }\n")
    done = command("import", str(tmp_path / "nginx.conf"), "-o", "-")
    assert done.returncode == 2
    assert re.search("no route that edgerouter could serve: server / location /", done.stderr), done.stderr


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine\n")
    done = command("import", ARTICLE, "-o", str(tmp_path / "app.py"))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "already there" in done.stderr
    assert (tmp_path / "app.py").read_text() == "mine\n"


def test_json_has_the_notes_with_their_lines(tmp_path: Path) -> None:
    done = command("import", ARTICLE, "-o", "-", "--json", "--report", str(tmp_path / "report.json"))
    data = json.loads(done.stdout)
    assert (done.returncode, data["format"], data["left_out"]) == (3, "cloudformation", True)
    shield = next(note for note in data["notes"] if note["path"].endswith("OriginShieldRegion"))
    assert (shield["kind"], shield["line"], shield["value"]) == ("left-out", 10, '"us-east-1"')
    assert "edge.route(" in data["program"]
    assert json.loads((tmp_path / "report.json").read_text())["notes"] == data["notes"]


def test_an_origin_can_get_another_url_and_an_unknown_one_is_refused() -> None:
    moved = command("import", ARTICLE, "-o", "-", "--origin", "MyOrigin=http://127.0.0.1:9000")
    assert 'edge.origin("MyOrigin", "http://127.0.0.1:9000")' in moved.stdout
    done = command("import", ARTICLE, "-o", "-", "--origin", "YourOrigin=http://127.0.0.1:9000")
    assert (done.returncode, done.stdout) == (2, "")
    assert "MyOrigin" in done.stderr
    assert command("import", ARTICLE, "-o", "-", "--origin", "MyOrigin").returncode == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("app.py", '"""The edge."""\n\nfrom x import y\n\n@y.z("a")\ndef f(): ...\n'),
        ("default.vcl", 'vcl 4.1;\nbackend default { .host = "127.0.0.1"; }\n'),
        ("worker.js", "export default {\n  fetch(request) { return new Response(`%{x}`) }\n}\n"),
    ],
)
def test_a_file_of_another_language_is_of_no_known_format(name: str, text: str, tmp_path: Path) -> None:
    """Such a file was said not to be YAML, which nobody had called it."""
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=r"is of no known format; name it with --from: cloudformation, "):
        read(tmp_path / name)


def test_a_format_that_there_is_not_is_refused() -> None:
    done = command("import", ARTICLE, "-o", "-", "--from", "varnish")
    assert done.returncode == 2
    assert all(name in done.stderr for name in FORMATS)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + at)}: &{chr(98 + at)} [{', '.join(['*' + chr(97 + at)] * 9)}]\n" for at in range(9)
)

HOSTILE: dict[str, tuple[str, bytes]] = {
    "a bomb of aliases": ("bomb.yaml", BOMB.encode()),
    "an alias of itself": ("self.yaml", b"Resources: &a {Site: *a}\n"),
    "deep YAML": ("deep.yaml", b"[" * 50_000),
    "deep YAML by lines": ("deep.yml", b"".join(b" " * at + b"a:\n" for at in range(500))),
    "deep JSON": ("deep.json", b'{"Resources":' * 50_000),
    "deep HCL": ("deep.tf", b"a = " + b"[" * 50_000),
    "huge": ("huge.yaml", b"a: b\n" * 1_000_000),
    "many values": ("many.json", b'{"Resources": [' + b"1," * 300_000 + b"1]}"),
    "binary": ("image.yaml", bytes(range(256)) * 20),
    "NUL": ("nul.json", b'{"Resources": {}}\0'),
    "empty": ("empty.yaml", b""),
    "UTF-16": ("utf16.json", '{"Resources": {}}'.encode("utf-16")),
    "an object of Python": ("object.yaml", b"!!python/object/apply:os.system ['touch /tmp/never']\n"),
    "a list": ("list.yaml", b"- a\n- b\n"),
    "a number": ("number.json", b"17"),
    "a key twice": ("twice.yaml", b"Resources: {}\nResources: {}\n"),
    "a key that is a list": ("key.yaml", b"? [a]\n: b\n"),
    "two documents": ("two.yaml", b"a: b\n---\nc: d\n"),
    "NaN": ("nan.json", b'{"Resources": NaN}'),
    "a number of 5000 digits": ("digits.json", b'{"Resources": ' + b"1" * 5000 + b"}"),
    "half a file": ("half.json", b'{"Resources": {"a"'),
    "no distribution": ("none.yaml", b"Resources: {Site: {Type: AWS::S3::Bucket}}\n"),
    "resources of the wrong type": ("wrong.yaml", b"Resources: {Site: 17, Other: [a], Third: {Type: [b]}}\n"),
    "HCL that is none": ("none.tf", b"resource resource resource\n"),
    "HCL without a distribution": ("empty.tf", b"locals { a = 1 }\n"),
    "deep nginx": ("deep.conf", b"server {" * 5_000),
    "an nginx configuration that does not end": ("open.conf", b"server { listen 80;"),
    "an nginx configuration that ends twice": ("twice.conf", b"server { listen 80; } }"),
    "words that are no nginx configuration": ("words.conf", b"hello world\n"),
    "nginx without a server": ("none.conf", b"worker_processes 1;\n"),
    "nginx that includes itself": ("self.conf", b"include self.conf;\n"),
    "very many locations": ("many.conf", b"server {" + b"location /a { return 200; }\n" * 1_100 + b"}"),
    "large Terraform": ("large.tf", b"# comment\n" * 8_000),
    "deep Caddyfile": ("Caddyfile.deep", b"a {\n" * 3_000),
    "a Caddyfile that imports another folder": ("Caddyfile.passwd", b"import /etc/passwd\n"),
    "a Caddyfile of snippets that double": (
        "Caddyfile.bomb",
        b"(a0) {\n\theader X-A b\n}\n"
        + b"".join(b"(a%d) {\n\timport a%d\n\timport a%d\n}\n" % (at, at - 1, at - 1) for at in range(1, 40))
        + b"example.com {\n\timport a39\n}\n",
    ),
    "a Caddyfile that is none": ("Caddyfile", b"example.com {\n\tno_such_directive\n}\n"),
    "JSON of Caddy without a server": ("caddy.json", b'{"apps": {"http": {"servers": {}}}}'),
    "a key of very many parts": ("parts.toml", b".".join([b"a"] * 100_000) + b" = 1\n"),
    "deep TOML": ("deep.toml", b"a = " + b"[" * 50_000),
    "open comments": ("comments.jsonc", b'{"main": 1 ' + b",/*" * 100_000),
    "another language": ("page.html", b"<!doctype html><title>x</title>\n"),
    "a distribution of nothing": (
        "nothing.yaml",
        b"Resources: {Site: {Type: AWS::CloudFront::Distribution, Properties: {DistributionConfig: 5}}}\n",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_one_line(name: str, tmp_path: Path) -> None:
    file, content = HOSTILE[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        read(tmp_path / file)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()
    assert not str(caught.value).endswith((" ", ":"))


@pytest.mark.parametrize("name", ["a bomb of aliases", "deep HCL", "binary", "an object of Python"])
def test_the_command_says_so_and_ends_with_2(name: str, tmp_path: Path) -> None:
    file, content = HOSTILE[name]
    (tmp_path / file).write_bytes(content)
    done = command("import", str(tmp_path / file), "-o", str(tmp_path / "app.py"))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert not (tmp_path / "app.py").exists()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None], ids=["a folder", "nothing"])
def test_a_path_that_is_no_file_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "site.yaml")
    with pytest.raises(SourceError, match=r"no such file|is not a file"):
        read(tmp_path / "site.yaml")


CODE = '"""\nimport os; os.system("touch /tmp/never")\n"""'

INJECTIONS = {
    "Comment": f"        Comment: {json.dumps(CODE)}\n",
    "DefaultRootObject": f"        DefaultRootObject: {json.dumps(CODE)}\n",
    "Aliases": f"        Aliases: [{json.dumps(CODE)}]\n",
    "a new setting": f"        {json.dumps(CODE)}: {json.dumps(CODE)}\n",
    "a line break in a comment": '        HttpVersion: "http2\\nimport os"\n',
    "a bidirectional sign": '        Comment: "\\u202Eabc"\n',
}


@pytest.mark.parametrize("place", INJECTIONS)
def test_no_text_of_a_source_becomes_code(place: str, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SMALL + INJECTIONS[place])
    imported = read(tmp_path / "site.yaml")
    compiled = compile(imported.program, "app.py", "exec")
    assert set(compiled.co_names) == {
        "__doc__",
        "edgerouter",
        "Edge",
        "cache",
        "edge",
        "origin",
        "web",
        "route",
        "OPTIMIZED",
    }
    assert all(note.text("x").isprintable() for note in imported.report.notes)
    assert "\u202e" not in imported.program


def test_names_and_identifiers_that_are_no_names_of_python_get_ones(tmp_path: Path) -> None:
    source = SMALL.replace("Id: web", "Id: 'class'").replace("TargetOriginId: web", "TargetOriginId: 'class'")
    (tmp_path / "site.yaml").write_text(source.replace("  Site:", '  "1 2; 3":'))
    program = read(tmp_path / "site.yaml").program
    assert 'class_ = edge.origin("class", "https://web.example.com")' in program
    assert 'edge = Edge("1-2-3")' in program


DISTRIBUTION = json.loads((FIXTURES / "distribution.json").read_text())


def places(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all values in a document."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from places(item, (*at, name))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(sample=st.sampled_from(ALL), data=st.data())
def test_a_source_with_parts_missing_doubled_or_exchanged_is_read_or_refused(
    sample: Sample, data: st.DataObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "formatted", lambda text: text)
    parts = re.split(r"(\W)", sample.source)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(parts) - 1))
        other = data.draw(
            st.sampled_from(parts) | st.sampled_from(["", "{", "}", "[", "-1", "é", '"', "$x", "*", "/", "~"])
        )
        parts[at : at + data.draw(st.integers(0, 2))] = [other]
    (tmp_path / sample.file).write_text("".join(parts))
    imported = None
    with contextlib.suppress(SourceError):
        imported = read(tmp_path / sample.file)
    assert imported is None or compile(imported.program, "app.py", "exec") is not None
    assert imported is None or all(note.text("x").isprintable() for note in imported.report.notes)


@settings(max_examples=150)
@given(place=st.sampled_from(list(places(DISTRIBUTION))), value=JSON)
def test_any_value_in_any_place_is_reported_or_refused(
    place: tuple[str | int, ...], value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "formatted", lambda text: text)
    document = copy.deepcopy(DISTRIBUTION)
    within: Any = {"": document}
    for name in ("", *place)[:-1]:
        within = within[name]
    within[("", *place)[-1]] = value
    (tmp_path / "site.json").write_text(json.dumps(document if place else value))
    imported = None
    with contextlib.suppress(SourceError):
        imported = read(tmp_path / "site.json")
    assert imported is None or compile(imported.program, "app.py", "exec") is not None
    assert imported is None or all(note.text("x").isprintable() for note in imported.report.notes)
