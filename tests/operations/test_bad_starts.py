"""Starts that fail: a busy port, unreadable files, mistakes of a plan: each gets a message with place and remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from ..origins import Origin
from ..processes import Process
from .apps import write_app


def test_a_busy_port_says_so_in_one_line(origin: Origin, tmp_path: Path, run: Callable[..., Process]) -> None:
    app = tmp_path / "app.py"
    write_app(app, origin.url, 1)
    process = run("run", str(app), "--listen", f"127.0.0.1:{origin.port}", "--admin", "127.0.0.1:0")
    assert process.process.wait(60) != 0
    process.reader.join(60)
    (line,) = [line for line in process.lines if line.strip()]
    assert f"127.0.0.1:{origin.port} is already in use" in line and "--listen" in line
    process = run("run", str(app), "--listen", "127.0.0.1:0", "--admin", f"127.0.0.1:{origin.port}")
    assert process.process.wait(60) != 0
    process.reader.join(60)
    (line,) = [line for line in process.lines if line.strip()]
    assert f"127.0.0.1:{origin.port} is already in use" in line and "--admin" in line


def test_an_unreadable_key_file_and_a_missing_secret_say_so(tmp_path: Path, run: Callable[..., Process]) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "from edgerouter import Edge, Jwt, env, secret_file\n"
        "edge = Edge('test')\no = edge.origin('o', 'http://127.0.0.1:1')\n"
        "edge.route('/a/*', to=o, auth=Jwt.hs256(env('NO_SUCH_SECRET')))\n"
        f"edge.route('/b/*', to=o, auth=Jwt.pem(secret_file('{tmp_path}/none.pem'), algorithm='RS256'))\n"
    )
    process = run("check", str(app))
    assert process.process.wait(60) == 1
    process.reader.join(60)
    assert "NO_SUCH_SECRET" in process.output and "none.pem" in process.output
    assert "Traceback" not in process.output


TEN = {
    "version": 1,
    "name": "test",
    "origins": [{"name": "o", "url": "ftp://x"}, {"name": "o", "url": "http://a"}],
    "groups": [{"name": "g", "members": ["o", "missing"]}],
    "routes": [
        {"pattern": "no-slash", "to": "o"},
        {"pattern": "/a", "to": "nowhere"},
        {"pattern": "/b", "to": "o", "cache": {"ttl": -5}},
        {"pattern": "/c", "to": "o", "viewer": "http-only"},
        {"pattern": "/d", "to": "o", "experiments": [{"name": "e", "cookie": "c d", "variants": [["a", 0]]}]},
        {"pattern": "/e", "to": "o", "redirect": {"location": "/x"}},
        {"pattern": "/f", "to": "o", "hue": "red"},
        {"pattern": "/g", "to": "o", "cache": {"min_ttl": 9, "max_ttl": 3}},
    ],
}


def test_ten_mistakes_get_ten_messages(tmp_path: Path, run: Callable[..., Process]) -> None:
    plan = tmp_path / "site.json"
    plan.write_text(json.dumps(TEN))
    process = run("check", str(plan))
    assert process.process.wait(60) == 1
    process.reader.join(60)
    for expected in (
        r"origins\[0\]\.url: .*ftp",
        r"origins\[1\]\.name",
        r"groups\[0\]\.members\[1\]",
        r"routes\[0\]\.pattern",
        r"routes\[1\]\.to: .*nowhere",
        r"routes\[2\]\.cache\.ttl: -5: must be ≥ 0",
        r"routes\[3\]\.viewer",
        r"routes\[4\]\.experiments\[0\]\.cookie",
        r"routes\[5\]",
        r"routes\[6\]\.hue",
        r"routes\[7\]\.cache",
    ):
        assert re.search(expected, process.output), (expected, process.output)


TEN_IN_PYTHON = """from __future__ import annotations

from edgerouter import CachePolicy, Edge, Experiment, Jwt, env, secret_file

edge = Edge("test")
site = edge.origin("site", "http://127.0.0.1:9000")
spare = edge.origin("spare", "http://127.0.0.1:9001", connect_timeout=-1)
edge.group("all", ["site", "spare"])
edge.route("no-slash", to=site)
edge.route("/b", to="stie")
edge.route("/c", to=site, cache=CachePolicy(ttl=-5))
edge.route("/d", to=site, viewer="http-only")
edge.route("/e", to=site, auth=Jwt.hs256(env("NO_SUCH_SECRET")))
edge.route("/f", to=site, auth=Jwt.pem(secret_file("none.pem"), "RS256"))
edge.route("/g/{a}{b}", to=site)
edge.route("/h", to=spare)
edge.route("/i/{n}", redirect="/{m}")
edge.route("/j", to=site, experiment=Experiment("e", cookie="c d", variants={"a": 1}))
edge.route("/l", to=site, hue="red")


@edge.function("k")
def function(request, ctx):
    return "never"
"""


def test_ten_mistakes_of_a_python_file_get_ten_messages_with_their_lines(
    tmp_path: Path, run: Callable[..., Process]
) -> None:
    app = tmp_path / "app.py"
    app.write_text(TEN_IN_PYTHON)
    for command in (["check"], ["run", "--listen", "127.0.0.1:0"]):
        process = run(command[0], str(app), *command[1:])
        assert process.process.wait(60) == 1
        process.reader.join(60)
        messages = [line for line in process.lines if line.startswith("error: ")]
        for line, expected in (
            (7, r"Origin\.connect_timeout: -1: must be > 0 seconds"),
            (9, r'routes\[0\]\.pattern: "no-slash": must be'),
            (10, r'routes\[1\]\.to: "stie": .*did you mean site'),
            (11, r"CachePolicy\.ttl: -5: must be ≥ 0 seconds"),
            (12, r'routes\[3\]\.viewer: "http-only": must be one of'),
            (13, r"routes\[4\]\.auth\.keys\.secret: .*NO_SUCH_SECRET"),
            (14, r"routes\[5\]\.auth\.keys\.pem: .*none\.pem"),
            (15, r"routes\[6\]\.pattern: .*two parameters touch"),
            (17, r"routes\[8\]\.redirect\.location: .*m"),
            (18, r'Experiment\.cookie: "c d": must be'),
            (19, r"Edge\.route\.hue: .*no such argument; there are pattern"),
            (22, r'routes\[11\]\.pattern: "k": must be'),
        ):
            found = [message for message in messages if re.search(rf"app\.py:{line}: {expected}", message)]
            assert len(found) == 1, (expected, process.output)
        assert len(messages) == 12, process.output
        assert "Traceback" not in process.output


def test_a_name_that_is_missing_for_another_reason_is_no_mistake_of_the_plan(
    tmp_path: Path, run: Callable[..., Process]
) -> None:
    app = tmp_path / "app.py"
    app.write_text("from edgerouter import Edge\nedge = Edge('test')\nedge.route('/*', to=nowhere)\n")
    process = run("check", str(app))
    assert process.process.wait(60) == 1
    process.reader.join(60)
    assert re.search(r"app\.py:3: NameError: name 'nowhere' is not defined", process.output)
