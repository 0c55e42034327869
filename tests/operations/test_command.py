"""The command line: what it says, where, and with which exit code."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import edgerouter
from edgerouter.cli import commands
from edgerouter.cli.everyday import WORDS
from edgerouter.cli.examples import EXAMPLES

from ..processes import command, on_terminal

APP = """
from edgerouter import CachePolicy, Context, Edge, Experiment, ForwardPolicy, Jwt, Request, Response, cache

SECRET = "0123456789abcdef0123456789abcdef"
edge = Edge("shop")
site = edge.origin("site", "http://127.0.0.1:9000")
bare = edge.origin("bare", "https://127.0.0.1:9443", tls_verify=False)
edge.route("/static/*", to=site, cache=cache.OPTIMIZED)
edge.route("/poisoned/*", to=site, cache=CachePolicy(query="none"), forward=ForwardPolicy(query="all"))
edge.route("/cookies/*", to=site, cache=CachePolicy(set_cookie="strip"))
edge.route("/forced/*", to=site, cache=CachePolicy(ttl=60))
edge.route("/go/{host}", redirect="https://{host}/")
edge.route("/secure/*", to=site, viewer="https-only")
edge.route("/api/*", to=site, cache=cache.DISABLED, auth=Jwt.hs256("short"))
edge.route("/shared/*", to=site, auth=Jwt.hs256(SECRET, shared=True))
edge.route("/bare/*", to=bare)
edge.route("/*", to=site, experiment=Experiment("home", cookie="ab", variants={"a": 1, "b": 1}))
edge.route("/never", to=site, priority=-1)


@edge.function("/hello/{name}")
def hello(request: Request, ctx: Context) -> Response:
    return Response("hello")


@edge.on("origin_request", "/static/*")
def tag(request: Request, ctx: Context) -> None:
    pass
"""


#: Prints the modules of commands that were imported, at the end.
IMPORTED = """
import atexit, sys
atexit.register(lambda: print(*(name for name in sys.modules if name.startswith("edgerouter.cli.")), file=sys.stderr))
from edgerouter.cli import main
main()
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    file = tmp_path / "app.py"
    file.write_text(APP)
    return str(file)


def test_check_prints_the_order_of_the_routes_and_who_touches_python(app: str) -> None:
    done = command("check", app)
    assert done.returncode == 0, done.stderr
    # A route begins with its number and its pattern; what is said of it follows, indented.
    parts = re.split(r"^ *\d+  (\S+)\n", done.stdout, flags=re.MULTILINE)
    at = {pattern: number for number, pattern in enumerate(parts[1::2])}
    said = [" ".join(part.split()) for part in parts[2::2]]
    assert at["/static/*"] < at["/*"] and at["/hello/{name}"] < at["/*"] < at["/never"]
    assert "origin_request: app.tag" in said[at["/static/*"]]
    assert "function app.hello" in said[at["/hello/{name}"]]
    assert "jwt" in said[at["/api/*"]] and "home (a 1, b 1)" in said[at["/*"]]


def test_check_advises_on_what_is_dangerous(app: str) -> None:
    done = command("check", "--json", app)
    found = {(item["route"], item["rule"], item["level"]) for item in json.loads(done.stdout)["advice"]}
    assert found == {
        ("/poisoned/*", "cache-poisoning", "warning"),
        ("/cookies/*", "set-cookie", "warning"),
        ("/forced/*", "set-cookie", "warning"),
        ("/forced/*", "cache-deception", "info"),
        ("/go/{host}", "open-redirect", "warning"),
        ("/secure/*", "https", "warning"),
        ("/api/*", "weak-secret", "warning"),
        ("/api/*", "auth-without-https", "info"),
        ("/api/*", "preflight", "info"),
        ("/shared/*", "shared-identity", "warning"),
        ("/shared/*", "auth-without-https", "info"),
        ("/shared/*", "preflight", "info"),
        ("/bare/*", "tls", "warning"),
        ("/never", "unreachable", "warning"),
    }
    assert command("check", "--strict", app).returncode == 1
    text = command("check", app).stdout
    assert "warning: routes[4] /go/{host}: the request chooses the host" in text and "[open-redirect]" in text


def test_check_names_the_key_of_a_file_whose_secret_is_too_short(tmp_path: Path) -> None:
    secrets = {"long": b"x" * 32, "short": b"hunter2"}
    keys = [
        {"kty": "oct", "kid": kid, "alg": "HS256", "k": base64.urlsafe_b64encode(secret).decode().rstrip("=")}
        for kid, secret in secrets.items()
    ]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": keys}))
    (tmp_path / "app.py").write_text(
        "from edgerouter import Edge, Jwt\nedge = Edge('t')\nsite = edge.origin('o', 'http://a')\n"
        f"edge.route('/*', to=site, viewer='https-only', auth=Jwt.jwks({str(tmp_path / 'keys.json')!r}, "
        "algorithms=['HS256']))\n"
    )
    found = json.loads(command("check", "--json", str(tmp_path / "app.py")).stdout)["advice"]
    (weak,) = [item for item in found if item["rule"] == "weak-secret"]
    assert 'secret of key "short" has 7 bytes, but HS256 needs 32' in weak["message"]
    assert "hunter2" not in json.dumps(found)


def test_check_fits_on_a_narrow_terminal(app: str) -> None:
    code, text = on_terminal("check", app, columns=40)
    assert code == 0 and "unkeyed" in text and "experiments" in text
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text.splitlines()]
    assert [line for line in lines if len(line) > 40] == []


def test_check_has_nothing_to_say_about_a_plain_site(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("from edgerouter import Edge\nedge = Edge('t')\nedge.route('/*', to=edge.origin('o', 'http://a'))\n")
    done = command("check", "--strict", str(app))
    assert done.returncode == 0 and "no problems, no warnings" in done.stdout


def test_problems_are_json_when_json_is_asked_for(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("from edgerouter import Edge\nedge = Edge('t')\nedge.route('x', to='o')\nedge.route('/', to='o')\n")
    done = command("check", "--json", str(app))
    assert done.returncode == 1 and done.stderr == ""
    problems = json.loads(done.stdout)["problems"]
    found = [(problem["path"], problem["place"].rpartition("/")[2]) for problem in problems]
    assert found == [("routes[0].pattern", "app.py:3"), ("routes[1].to", "app.py:4")]


def test_explain_tells_each_phase_and_sends_nothing(app: str) -> None:
    done = command("explain", app, "GET", "/static/a.css?v=1", "-H", "X-User-ID: me", "--json")
    steps = {step["phase"]: step for step in json.loads(done.stdout)}
    assert list(steps) == ["admit", "route", "viewer", "key", "look up", "origin_request", "fetch", "store"]
    assert "x-user-id" in steps["admit"]["reason"]
    assert steps["route"]["decision"] == "/static/*" and "literal prefix is longer" in steps["route"]["reason"]
    assert "v=1" not in steps["key"]["decision"]
    done = command("explain", app, "GET", "/api/me", "--json")
    assert [(step["phase"], step["decision"]) for step in json.loads(done.stdout)][-1] == ("identify", "401")
    done = command("explain", app, "GET", "//api/me", "--json")
    assert [(step["phase"], step["decision"]) for step in json.loads(done.stdout)][-1] == ("route", "400")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["explain", "app.py"],
        ["run", "app.py", "--workers", "none"],
        ["run", "app.py", "--listen", "nowhere"],
        ["explain", "app.py", "GET", "/", "-H", "no colon"],
        ["explain", "app.py", "GET", "/", "--client", "nobody"],
    ],
)
def test_a_command_line_that_is_not_understood_is_2(arguments: list[str]) -> None:
    done = command(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_the_command_for_grafana_names_the_place_of_the_page() -> None:
    done = command("dashboard", COLUMNS="200")
    assert done.returncode == 2
    assert "a page at http://127.0.0.1:9090/dashboard" in done.stderr


@pytest.mark.parametrize("name", ["run", "check", "explain", "init", "version"])
def test_every_command_has_help(name: str) -> None:
    done = command(name, "--help", COLUMNS="100")
    assert done.returncode == 0 and "Usage:" in done.stdout


def _commands(app: typer.Typer, path: str = "") -> Iterator[str]:
    for one in app.registered_commands:
        assert one.callback is not None
        yield path + (one.name or one.callback.__name__)
    for group in app.registered_groups:
        assert group.typer_instance is not None and group.name is not None
        callback = group.typer_instance.registered_callback
        if callback is not None and callback.invoke_without_command:
            yield path + group.name
        yield from _commands(group.typer_instance, f"{path}{group.name} ")


def test_every_command_has_examples() -> None:
    assert set(_commands(commands.app)) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_help_of_a_command_ends_with_examples_of_its_options(name: str) -> None:
    shown = CliRunner().invoke(commands.app, [*name.split(), "--help"], env={"COLUMNS": "120"}).output
    reference, _, examples = shown.partition("Examples:")
    for example in EXAMPLES[name]:
        assert example.startswith(f"{name} ") or example == name
        assert f"edgerouter {example}" in " ".join(examples.split())
        options = [word for word in shlex.split(example) if word.startswith("-") and word != "-"]
        assert all(f" {option} " in reference for option in options)


def test_a_help_text_is_wrapped_by_the_terminal_alone() -> None:
    shown = CliRunner().invoke(commands.app, ["run", "--help"], env={"COLUMNS": "240", "TERMINAL_WIDTH": "240"}).output
    assert "swap it in without losing a request; one that is refused is reported and the old one keeps serving" in shown


@pytest.mark.parametrize(
    ("words", "found"),
    [("edgerouter pur", {"purge"}), ("edgerouter run --listen", {"--listen"}), ("edgerouter cache l", {"ls"})],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(words: str, found: set[str], shell: str) -> None:
    given = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_TYPER_COMPLETE_ARGS": words}
    given |= {"_EDGEROUTER_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    process = subprocess.run(
        [sys.executable, "-c", "from edgerouter.cli import main; main()"],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found <= set(re.findall(r"[-\w]+", process.stdout))
    assert process.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_locale_without_a_character_has_it_escaped(tmp_path: Path, encoding: str) -> None:
    app = tmp_path / "app.py"
    app.write_text('from edgerouter import Edge\nedge = Edge("t")\nedge.route("/→é/*", respond="x")\n')
    for arguments in (
        ["check", str(app)],
        ["explain", str(app), "GET", "/x"],
        ["explain", str(app), "GET", "/%E2%86%92é/a"],
    ):
        done = command(*arguments, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    # JSON stays JSON.
    done = command("check", str(app), "--json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout)["routes"][0]["label"] == "/→é/*"


def test_no_colour_goes_into_a_pipe(app: str) -> None:
    for done in (command("check", app), command("explain", app, "GET", "/"), command("check", "missing.py")):
        assert "\x1b[" not in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("version",), ("rules",)])
def test_a_full_disk_behind_the_output_is_one_line(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgerouter", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


def test_a_started_project_is_sound_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    done = command("init", str(folder))
    assert done.returncode == 0 and "http://127.0.0.1:9090/dashboard" in done.stdout
    done = command("check", "--strict", str(folder / "app.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "app.py").write_text("mine")
    done = command("init", str(folder))
    assert done.returncode == 1 and "already there" in done.stderr
    assert (folder / "app.py").read_text() == "mine"


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert command("version").stdout == f"edgerouter {version('edgerouter')}\n"
    assert command("--version").stdout == f"edgerouter {version('edgerouter')}\n"
    assert edgerouter.__version__ == version("edgerouter")


def test_explain_wants_a_path_or_a_url(app: str) -> None:
    done = command("explain", app, "GET", "a")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'a' is neither a path nor a URL" in done.stderr


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CachePolicy(tll=5)", r"CachePolicy\.tll: no such field; did you mean ttl\?"),
        ("When(zip='red')", r"When\.zip: no such field; there are header, "),
        ("DiskCache('/tmp')", r"DiskCache\.size: is missing, as in DiskCache\("),
        ("Respond(200, body='x')", r"Respond: each value needs its name; there are status, headers, body$"),
        ("Health('/h', 5)", r"Health: only path may stand without a name; there are path, interval, "),
        ("edge.route('/a', to=[edge.origin('a', 'http://a')])", r"routes\[1\]\.to: .*: must be an origin, a group or "),
        ("edge.prefetch(['/a'], host='a b')", r"prefetch\[0\].*"),
    ],
)
def test_a_mistake_in_the_values_of_a_call_is_told_with_its_line(tmp_path: Path, statement: str, reason: str) -> None:
    file = tmp_path / "app.py"
    file.write_text(f"from edgerouter import *\nedge = Edge('shop')\nedge.route('/*', respond='x')\n{statement}\n")
    done = command("check", str(file))
    assert done.returncode == 1
    assert re.search(rf"^error: \S*app\.py:4: {reason}", done.stderr, re.MULTILINE), done.stderr


def test_check_names_the_line_of_a_route_far_down_in_a_large_plan_file(tmp_path: Path) -> None:
    routes: list[dict[str, object]] = [
        {"pattern": f"/r{number}", "respond": {"body": 'a\\"]},\t:'}} for number in range(10_000)
    ]
    routes[9_000]["viewer"] = "nobody"
    lines = ",\n".join(json.dumps(route) for route in routes)
    file = tmp_path / "site.json"
    file.write_text(f'{{"version": 1, "name": "a",\n"routes": [\n{lines}]}}')
    refused = command("check", str(file))
    assert refused.returncode == 1
    assert "site.json:9003: routes[9000].viewer" in refused.stderr, refused.stderr[:2000]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("run app.py --port 8081", "--listen"),
        ("run app.py --host 0.0.0.0", "--listen"),
        ("dev app.py --bind 127.0.0.1:8081", "--listen"),
        ("serve app.py", "Did you mean 'run'?"),
        ("start app.py", "Did you mean 'run'?"),
        ("validate app.py", "Did you mean 'check'?"),
        ("reload", "kill -HUP PID"),
        ("stop", "An edge ends on SIGTERM"),
        ("run -p 80", "Possible options: --listen"),
        ("help", "Did you mean '--help'?"),
        ("new shop", "Did you mean 'init'?"),
        ("chek app.py", "Did you mean 'check'"),
    ],
)
def test_a_word_of_another_tool_is_answered_with_the_one_that_is_meant(given: str, meant: str) -> None:
    done = command(*given.split())
    assert done.returncode == 2 and meant in done.stderr, done.stderr


def test_an_option_is_named_only_to_commands_that_have_it() -> None:
    done = command("check", "app.py", "--port", "8081")
    assert (done.returncode, "--listen" in done.stderr) == (2, False)


def test_the_next_steps_of_a_project_can_be_copied_whatever_its_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    assert f"  cd '{folder}'\n" in command("init", str(folder)).stdout


def test_the_commands_of_every_day_are_understood_without_the_others() -> None:
    for word in sorted(WORDS):
        given = [word] if word.startswith("-") else [word, "--help"]
        alone = subprocess.run(
            [sys.executable, "-c", IMPORTED, *given], capture_output=True, text=True, timeout=60, check=True
        )
        imported = alone.stderr.split()
        assert "edgerouter.cli.everyday" in imported and "edgerouter.cli.commands" not in imported, word
        assert alone.stdout == CliRunner().invoke(commands.app, given, prog_name="edgerouter").stdout, word


NOWHERE = ["--admin", "127.0.0.1:1", "--json"]


@pytest.mark.parametrize(
    "given",
    [
        ["check", "absent.py", "--json"],
        ["explain", "absent.py", "GET", "/", "--json"],
        ["cert", "list", "absent.py", "--json"],
        ["db", "status", "absent.py", "--json"],
        ["db", "migrate", "absent.py", "--json"],
        ["cache", "stats", *NOWHERE],
        ["cache", "ls", *NOWHERE],
        ["cache", "get", "http://a/", *NOWHERE],
        ["deploys", "list", *NOWHERE],
        ["experiments", "report", "--experiment", "a", *NOWHERE],
        ["origins", *NOWHERE],
        ["purge", "--all", *NOWHERE],
        ["top", "--once", *NOWHERE],
    ],
    ids=lambda given: " ".join(given[:2]),
)
def test_a_command_with_json_gives_its_problems_as_json(given: list[str]) -> None:
    done = command(*given)
    problems = json.loads(done.stdout)["problems"]
    assert (done.returncode, done.stderr) == (1, "")
    assert [sorted(one) for one in problems] == [["message", "path", "place", "value"]]
