"""The user's own lines in messages and logs have no texts in them, as any of those may be a secret."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from edgerouter.source_line import formatted, shown

from ..origins import Origin, Reply, wait_until
from ..processes import Process, command, free_port, reachable
from .apps import write_app

Run = Callable[..., Process]

HEAD = """
from edgerouter import *
edge = Edge("test")
site = edge.origin("site", "http://127.0.0.1:1")
"""
#: Statements that are refused, with "hunter2" for a secret, and what is shown of the line.
REFUSED = {
    "a secret without its name": (
        'edge.route("/*", to=site, auth=Jwt.hs256(Secret("hunter2")))',
        'edge.route("/*", to=site, auth=Jwt.hs256(Secret("…")))',
    ),
    "an argument beside a secret": (
        'edge.route("/*", to=site, auth=Jwt.hs256("hunter2" * 8), cahce=1)',
        'edge.route("/*", to=site, auth=Jwt.hs256("…" * 8), cahce=1)',
    ),
    "a password in a URL": (
        'edge.origin("b", "http://ann:hunter2@127.0.0.1:9")',
        'edge.origin("b", "…")',
    ),
    "a field of a request": (
        "edge.origin('b', 'http://a', headers={'authorization': 'Bearer hunter2\\n'})  # hunter2",
        "edge.origin('b', '…', headers={'authorization': '…'})",
    ),
    "a name that the message has, too": (
        'dict(password="hunter2")["absent"]',
        'dict(password="…")["absent"]',
    ),
    "an f-string": (
        "print(f\"{site['hunter2']} hunter2\", rb'hunter2', 1 / 0)",
        "print(f\"…\", rb'…', 1 / 0)",
    ),
    "a text of several lines": (
        'print(1 / 0, """\nhunter2""", x="hunter2")',
        'print(1 / 0, """…"""',
    ),
    "a syntax error": (
        'edge.route("/*", auth=Jwt.hs256("hunter2" to=site)',
        'edge.route("…" to=site)',
    ),
    "a text without an end": (
        'edge.origin("b, "http://a", headers={"authorization": "hunter2"})',
        'edge.origin("…"})',
    ),
}


@pytest.mark.parametrize(("statement", "want"), REFUSED.values(), ids=REFUSED)
def test_a_refused_line_is_shown_without_its_texts(tmp_path: Path, statement: str, want: str) -> None:
    app = tmp_path / "app.py"
    app.write_text(f"{HEAD}{statement}\n")
    found = command("check", str(app))
    assert found.returncode == 1
    assert "app.py:5: " in found.stderr
    assert f"    {want}\n" in found.stderr
    assert "hunter2" not in found.stderr + found.stdout


def test_the_way_to_an_error_is_shown_without_texts(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text('import parts\nparts.connect("hunter2")\n')
    (tmp_path / "parts.py").write_text('def connect(password):\n    raise OSError("no server")  # "hunter2"\n')
    found = command("check", str(tmp_path / "app.py"))
    assert 'parts.py:2: OSError: no server\n    parts.connect("…")' in found.stderr
    assert "app.py:2)" in found.stderr
    assert "hunter2" not in found.stderr


@pytest.mark.parametrize("statement", [one for one, _ in REFUSED.values()], ids=REFUSED)
def test_a_refused_reload_writes_no_secret_into_the_log(
    origin: Origin, tmp_path: Path, run: Run, statement: str
) -> None:
    origin.default = Reply(200, {}, "x")
    app, port, admin = tmp_path / "app.py", free_port(), free_port()
    write_app(app, origin.url, 1)
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}")
    wait_until(lambda: reachable(port), 60, "the listener")
    app.write_text(f"{HEAD}{statement}\n")
    process.process.send_signal(signal.SIGHUP)
    process.wait_for("reload refused")
    process.wait_for(r"app\.py:5: ")
    assert httpx.get(f"http://127.0.0.1:{port}/").headers["x-version"] == "1"
    assert "hunter2" not in httpx.get(f"http://127.0.0.1:{admin}/v1/events").text
    assert process.end() == 0
    assert "hunter2" not in process.output


def test_the_traceback_of_a_function_has_no_texts_in_the_log(tmp_path: Path, run: Run) -> None:
    app, port = tmp_path / "app.py", free_port()
    app.write_text(
        "from edgerouter import *\n"
        'edge = Edge("test")\n'
        '@edge.function("/fails")\n'
        "def fails(request: Request, ctx: Context) -> str:\n"
        "    try:\n"
        '        connect("hunter2")\n'
        "    except NameError as error:\n"
        "        raise ValueError('no server') from error\n"
    )
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--debug-errors")
    wait_until(lambda: reachable(port), 60, "the listener")
    page = httpx.get(f"http://127.0.0.1:{port}/fails")
    assert page.status_code == 502
    assert "raise ValueError" in page.text
    assert "hunter2" not in page.text
    process.wait_for("ValueError: no server")
    assert process.end() == 0
    assert 'connect("…")' in process.output.replace('\\"', '"')
    assert "hunter2" not in process.output


def test_each_line_of_a_file_is_shown_without_its_texts_and_comments(tmp_path: Path) -> None:
    lines = {
        'edge = Edge("site")  # hunter2': 'edge = Edge("site")',
        "x = 'it\\'s hunter2', u'hunter2', Rb'''hunter2'''": "x = '…', u'…', Rb'''…'''",
        'a = """hunter2': 'a = """…"""',
        "hunter2": "…",
        'hunter2 # \\""" hunter2': "…",
        'hunter2""" + "hunter2"': '… + "…"',
        'x = f"{d["hunter2"]} hunter2", "hunter2"': 'x = f"…"',
        'y = "hunter2, z=1': 'y = "…"',
        "z = 'hunter2\\": "z = '…'",
        "hunter2' + w": "… + w",
        'os.environ["NAME"] + "" + os.environ["OTHER"]': 'os.environ["NAME"] + "" + os.environ["…"]',
        "v = '''hunter2": "v = '''…'''",
        "no end of hunter2": "…",
    }
    file = tmp_path / "parts.py"
    file.write_text("\n".join(lines))
    found = [shown(str(file), number, "KeyError: 'NAME'") for number in range(1, len(lines) + 1)]
    assert found == list(lines.values())
    assert shown(str(file), len(lines) + 1, "") == shown(str(file), None, "") == ""
    file.write_text("changed = 'hunter2', 'the reason'\n")
    assert shown(str(file), 1, "ValueError: the reason") == "changed = '…', 'the reason'"


def test_a_traceback_has_the_lines_of_all_errors_that_led_to_it_without_texts(tmp_path: Path) -> None:
    file = tmp_path / "parts.py"
    text = (
        "try:\n    int('hunter2' and None)\nexcept TypeError as error:\n    raise ExceptionGroup('several', [error,"
        " KeyError('k')]) from error\n"
    )
    file.write_text(text)
    with pytest.raises(ExceptionGroup) as raised:
        exec(compile(text, str(file), "exec"), {})
    found = formatted(raised.value)
    assert "int('…' and None)" in found
    assert "ExceptionGroup: several (2 sub-exceptions)" in found
    assert "hunter2" not in found
    text = "x = ('hunter2' 'b' 5)\n"
    file.write_text(text)
    with pytest.raises(SyntaxError) as wrong:
        compile(text, str(file), "exec")
    assert "x = ('…' 5)" in formatted(wrong.value)
