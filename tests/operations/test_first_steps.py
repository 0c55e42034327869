"""Mistakes of newcomers, and the messages about them."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge, cache
from edgerouter.errors import ConfigError
from edgerouter.route_options import RouteOptions
from edgerouter.testing import Running

from ..origins import Origin, Reply, wait_until
from ..processes import Process, free_port, reachable
from .apps import write_app

Run = Callable[..., Process]


def edgerouter(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgerouter", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("/a/:id", "{id}"),
        ("/a/:id?", "{id}"),
        ("/a/<id>", "{id}"),
        ("/a/<int:id>", "{id}"),
        ("/a/[id]", "{id}"),
        ("/a/[...rest]", "{rest:path}"),
        ("/a/${id}", "{id}"),
        ("/a/<path:rest>", "{rest:path}"),
        ("/a/(.*)", "regular expression"),
        ("/a/[0-9]+", "regular expression"),
        ("/a/\\d+", "regular expression"),
        ("/^a$", "regular expression"),
        ("^/a/", "regular expression"),
        ("~ ^/a/", "regular expression"),
    ],
)
def test_patterns_of_other_routers_are_refused_with_the_right_spelling(pattern: str, remedy: str) -> None:
    edge = Edge("test")
    edge.route(pattern, respond="x")
    with pytest.raises(ConfigError) as refused:
        edge.compile()
    [problem] = refused.value.problems
    assert problem.path == "routes[0].pattern"
    assert remedy in problem.message
    assert problem.place
    assert "test_first_steps.py:" in problem.place


@pytest.mark.parametrize("pattern", ["/a:b", "/wiki/Foo_(bar)", "/file.*", "/a.b/*", "/@x", "/a/:1"])
def test_literals_of_the_same_look_stay_patterns(pattern: str) -> None:
    edge = Edge("test")
    edge.route(pattern, respond="x")
    [route] = edge.compile().routes
    assert route["label"] == pattern


def advice(tmp_path: Path, text: str) -> list[dict[str, str]]:
    app = tmp_path / "app.py"
    app.write_text(text)
    found = edgerouter("check", str(app), "--json")
    assert found.returncode == 0, found.stdout + found.stderr
    said: list[dict[str, str]] = json.loads(found.stdout)["advice"]
    return said


def test_what_does_nothing_is_warned_of_with_its_line(tmp_path: Path) -> None:
    text = """from edgerouter import Edge
edge = Edge("test")
first = edge.origin("first", "http://127.0.0.1:9")
edge.route("/a/**", to=first, compress=True)
edge.route("static/a/*", to=first)
edge.prefetch(["https://x.example/a/b"])
@edge.on("viewer_request", "/nowhere/*")
def never(request, ctx):
    pass
"""
    found = {item["rule"]: item for item in advice(tmp_path, text)}
    for rule, path, line in [
        ("double-star", "routes[0]", 4),
        ("path-as-host", "routes[1]", 5),
        ("prefetch-scheme", "prefetch[0]", 6),
        ("unreached-hook", "hooks[0]", 7),
    ]:
        assert (found[rule]["path"], found[rule]["level"]) == (path, "warning"), rule
        assert found[rule]["place"].endswith(f"app.py:{line}"), found[rule]
        assert found[rule]["remedy"], rule


def test_a_folder_gets_advice_once_although_its_declaration_makes_two_routes(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    text = """from edgerouter import Cors, Edge
edge = Edge("test")
for prefix in ("/a", "/b"):
    edge.files(prefix, "dist", cors=Cors(origins="*", methods=["GET", "PUT"]))
"""
    found = [(item["rule"], item["route"]) for item in advice(tmp_path, text)]
    assert found == [("preflight-methods", "/a/*"), ("preflight-methods", "/b/*")]


def test_a_route_that_does_not_follow_a_policy_that_compresses_is_named_with_the_reason(tmp_path: Path) -> None:
    text = """from edgerouter import Edge, Jwt, SignedUrls, cache
edge = Edge("test")
first = edge.origin("first", "http://127.0.0.1:9")
secret = "0123456789abcdef0123456789abcdef"
edge.route("/a/*", to=first, cache=cache.OPTIMIZED)
edge.route("/b/*", to=first, cache=cache.OPTIMIZED, auth=Jwt.hs256(secret))
edge.route("/c/*", to=first, cache=cache.OPTIMIZED, signed=SignedUrls(secrets={"own": secret}))
edge.route("/d/*", to=first, cache=cache.OPTIMIZED, auth=Jwt.hs256(secret), compress=False)
"""
    found = [item for item in advice(tmp_path, text) if item["rule"] == "uncompressed"]
    assert [(item["path"], item["level"]) for item in found] == [("routes[1]", "info"), ("routes[2]", "info")]
    for item, why in zip(found, ("depend on a token", "behind a signature"), strict=True):
        assert why in item["message"]
        assert "compress=False" in item["remedy"]


def test_check_json_has_path_and_place_of_every_mistake(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        'from edgerouter import Edge\nedge = Edge("test")\nedge.route("/a", respond="x", cache=False)\n'
        'edge.route("/b", respond="x", cach=None)\nedge.route("/c/:id", respond="x")\n'
    )
    found = edgerouter("check", str(app), "--json")
    assert found.returncode == 1
    problems = json.loads(found.stdout)["problems"]
    assert [(one["path"], one["place"].rpartition(":")[2]) for one in problems] == [
        ("routes[0].cache", "3"),
        ("Edge.route.cach", "4"),
        ("routes[2].pattern", "5"),
    ]
    assert "cache.DISABLED" in problems[0]["message"]
    assert "did you mean cache?" in problems[1]["message"]


@pytest.mark.parametrize("declare", ["function", "on"])
def test_a_decorator_says_which_argument_was_probably_meant(declare: str) -> None:
    edge = Edge("test")
    with pytest.raises(ConfigError) as refused:
        getattr(edge, declare)("viewer_request" if declare == "on" else "/a", time_out=5, hue="red")
    timeout, hue = refused.value.problems
    assert (timeout.path, hue.path) == (f"Edge.{declare}.time_out", f"Edge.{declare}.hue")
    assert "did you mean timeout?" in timeout.message
    assert "there are " in hue.message
    with pytest.raises(TypeError, match=r"pattern|phase"):
        getattr(edge, declare)()


@pytest.mark.parametrize("declare", ["route", "function", "mount", "files", "images"])
def test_help_shows_the_options_of_every_declaration_of_a_route(declare: str) -> None:
    shown = inspect.signature(getattr(Edge, declare)).parameters
    assert {"host", "when", "auth", "cors", "rate_limit", "security"} <= set(RouteOptions.__annotations__) <= set(shown)


def test_an_argument_of_another_method_is_no_slip_of_the_pen() -> None:
    with pytest.raises(
        ConfigError, match=r"Edge\.function\.compress: no such argument; Edge\.route has it; here there are"
    ):
        Edge("test").function("/a", compress=True)  # type: ignore[call-arg]


def test_a_wrong_phase_is_named_before_the_arguments_that_depend_on_it() -> None:
    edge = Edge("test")
    with pytest.raises(ConfigError, match=r'Edge\.on\.phase: "viewer_respons": must be one of .*viewer_response.*stop'):
        edge.on("viewer_respons", "/*")  # type: ignore[call-overload]


def test_arguments_in_the_wrong_order_are_refused() -> None:
    edge = Edge("test")
    with pytest.raises(ConfigError, match=r"must take \(request, ctx\): ctx and request are in another order"):

        @edge.function("/a")
        def swapped(ctx, request):  # type: ignore[no-untyped-def]
            return "x"


HEAD = 'from edgerouter import *\nedge = Edge("t")\nsite = edge.origin("site", "http://a.example")\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + 'edge.route("/*", to=stie)\n', "app.py:4: NameError: name 'stie' is not defined; did you mean site?"),
        (
            HEAD + 'edge.rout("/*", to=site)\n',
            "app.py:4: AttributeError: 'Edge' object has no attribute 'rout'; did you",
        ),
        (HEAD + 'edge.route("/*", to=site, cache=cache.STANDART)\n', "'STANDART'; did you mean STANDARD?"),
        (
            HEAD + 'edge.route("/*", site)\n',
            "app.py:4: Edge.route: only pattern may stand without a name; give the others",
        ),
        ("from edgerouter import Egde\n", "did you mean Edge?"),
        ("from edgerouter import Router\n", "__init__.py); did you mean Edge?"),
        ("from edgerouter import JWT\n", "did you mean Jwt?"),
        ("from edgerouter import Client\n", "write from edgerouter.testing import Client"),
        ("from edgerouter import OPTIMIZED\n", "write from edgerouter.cache import OPTIMIZED"),
        ("from edgerouter.caching import CachePolicy\n", "; the public names are in edgerouter itself, as in from"),
        ("import edge_router\n", "No module named 'edge_router'; did you mean edgerouter?"),
        ("from edgerouter import Edge\nedge = Edge()\n", "argument: 'name'; as in Edge(\"site\")"),
        (HEAD + 'edge.route("/*", to=site, cache=CachePolicy.OPTIMIZED)\n', "did you mean cache.OPTIMIZED?"),
        (HEAD + "@app.get('/a')\ndef a(request, ctx): ...\n", "name 'app' is not defined; did you mean edge?"),
        (HEAD + "@edge.before_request\ndef a(): ...\n", 'write @edge.on("viewer_request", "/*")'),
        (HEAD + "@edge.errorhandler(404)\ndef a(): ...\n", 'write edge.route(..., errors={404: "/404.html"})'),
        (HEAD + 'edge.static("/s", "s")\n', 'write edge.files("/static", "folder")'),
        (HEAD + 'edge.redirect("/a", "/b")\n', 'write edge.route("/old", redirect="/new")'),
        (HEAD + 'import os\nos.environ["NO_SUCH_VARIABLE"]\n', "the variable is not set; env(NAME) in place of"),
        (HEAD + 'edge.route("/*", to=site, ttl=60)\n', "as in cache=CachePolicy(ttl=…)"),
        (HEAD + 'edge.route("/*", origin=site)\n', "Edge.route.origin: no such argument; did you mean to?"),
        (HEAD + "CachePolicy(max_age=60)\n", "CachePolicy.max_age: no such field; did you mean ttl?"),
        (
            HEAD + 'Jwt.hs256(env("KEY"), claims={"sub": "x-user"})\n',
            "Jwt.claims: no such field; did you mean forward?",
        ),
        (HEAD + 'edge.origin("b", "http://b", timeout=5)\n', "between_bytes_timeout, total_timeout or idle_timeout?"),
        (HEAD + "edge.hello_handler\n", "'hello_handler'\n"),
        ("import no_such_module\n", f"No module named 'no_such_module'; is it installed for {sys.executable}?"),
        (
            "from edgerouter import Edge\nedge = Edge\n",
            'is the class itself; call it, as in edge = Edge("site")',
        ),
        ("def edge(folder): ...\n", "app.py:edge: must be an Edge or a function without arguments that returns one"),
        ("edge = None\n", '(edge is None); write edge = Edge("site")'),
        ("x = 1\n", '(there is no such name); write edge = Edge("site")'),
        ("async def on_fetch(request, env): ...\n", 'is declared by @edge.function("/*") and takes (request, ctx)\n'),
        (
            "def lambda_handler(event, context): ...\n",
            'lambda_edge.attach(edge, lambda_handler, "viewer-request", "/*")',
        ),
        ("import flask\nsite = flask.Flask('a')\n", 'write edge = Edge("site"), or name another with app.py:site\n'),
        ("def create_edge(): ...\n", 'write edge = Edge("site"), or name another with app.py:create_edge\n'),
        ("from edgerouter import no_such_thing\n", "__init__.py)\n"),
        ("# -*- coding: none-such -*-\n", "app.py:1: SyntaxError: unknown encoding"),
        ("import sys\nsys.exit(3)\n", "app.py:2: ended itself with SystemExit(3)\n    sys.exit(3)\n"),
        ('raise ValueError("one\\ntwo")\n', "app.py:1: ValueError: one\n    two\n"),
        ("raise ExceptionGroup('g', [ValueError('a'), KeyError('b')])\n", "\n    ValueError: a\n    KeyError: 'b'\n"),
        ("class Odd:\n    def __getattr__(self, name): raise OSError\nOdd().name\n", "app.py:2: OSError"),
    ],
    ids=lambda value: value.strip().splitlines()[-1][:30],
)
def test_an_error_of_python_itself_has_the_line_and_the_remedy(tmp_path: Path, text: str, said: str) -> None:
    app = tmp_path / "app.py"
    app.write_text(text)
    found = edgerouter("check", str(app))
    assert found.returncode == 1
    assert said in found.stderr.replace(f"{tmp_path}/", "")
    # Each error is marked as one, and what follows it is indented.
    assert all(line.startswith(("error: ", "    ")) for line in found.stderr.splitlines())


def test_a_cycle_of_imports_is_named(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text('from edgerouter import Edge\nfrom shop import declare\nedge = Edge("t")\n')
    (tmp_path / "shop.py").write_text("from app import edge\ndef declare(): ...\n")
    found = edgerouter("check", str(tmp_path / "app.py"))
    assert found.returncode == 1
    assert "app is still being read, and imports this file: move what both need to a third one" in found.stderr
    assert "did you mean" not in found.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "def broken(:\n",
            "helper.py:1: SyntaxError: invalid syntax\n    import helper  (app.py:1)\n    def broken(:\n",
        ),
        (
            "import sys\nsys.exit('bye')\n",
            "helper.py:2: ended itself with SystemExit('bye')\n    import helper  (app.py:1)\n",
        ),
        (
            "def f():\n    1 / 0\nf()\n",
            "helper.py:2: ZeroDivisionError: division by zero\n    import helper  (app.py:1)\n",
        ),
    ],
    ids=["syntax", "exit", "exception"],
)
def test_a_module_that_fails_is_named_with_the_import_that_led_to_it(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "app.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text(text)
    assert said in edgerouter("check", str(tmp_path / "app.py")).stderr.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        (
            'edge.route("/*", to="http://127.0.0.1:9000")',
            'routes[0].to: "http://127.0.0.1:9000": is a URL; declare its',
        ),
        ('edge.route("/*", to="http://me:word@a.example")', "routes[0].to: is a URL; declare its server as an origin"),
        (
            'edge.route("/*", to=site, cache="optimized")',
            'routes[0].cache: "optimized": must be a CachePolicy; use cache.',
        ),
        (
            'edge.route("/*", to=site, rate_limit=RateLimit("5/minute"))',
            'RateLimit.requests: is missing, as in RateLimit("login", requests=5, per=60)',
        ),
        ('edge.origin("http://a.example")', 'Origin.url: is missing, as in Origin("site", "http://127.0.0.1:9000")'),
        (
            'edge.images("/i", sources="site")',
            'images.sources: "site": is the name of an origin or group, and a text is',
        ),
        ('edge.route("/*", to=site, auth=Jwt.hs256(None))', 'Secret: is None; write env("NAME") for a variable'),
        (
            'edge.route("/*", to=site, auth="word")',
            'routes[0].auth: must be a Jwt or None; write Jwt.hs256(env("JWT_SECRET")), or Jwt.pem or Jwt.jwks',
        ),
        (
            'edge.route("/*", to=site, auth=Jwt(keys="word"))',
            "Jwt.keys: must be a KeySource; as Jwt.hs256, Jwt.pem",
        ),
        (
            'edge.route("/*", to=site, basic="ann:word")',
            'routes[0].basic: must be a BasicAuth or None; write BasicAuth("staff.htpasswd")',
        ),
        (
            'edge.route("/*", to=site, basic=BasicAuth("ann:$2y$04$word"))',
            "BasicAuth.users: must be the name of a file; give lines themselves as Secret.literal(text)",
        ),
        (
            'edge.route("/*", to=site, signed="word")',
            "routes[0].signed: must be a SignedUrls or None; write",
        ),
        (
            'edge.origin("b", "http://b", headers=[("authorization", "word")])',
            "Origin.headers: must be a mapping of header names to values",
        ),
        ('edge.route("/*", to=site, cors=True)', "must be a Cors or None, such as Cors(origins=["),
        ('edge.route("/*", to=site, rewrite="/b")', "must be a Rewrite or None, such as Rewrite("),
        ('edge.origin("b", "http://b", health="/up")', 'must be a Health or None, such as Health("/healthz")'),
        ('edge.route("/*", to=siet)', "NameError: name 'siet' is not defined; did you mean site?"),
        ("edge.run()", "has no attribute 'run'; leave it out, and start it by edgerouter run app.py"),
        ('edge.route("/*", to=site, basic=BasicAuth("no.users"))', "a relative path starts at the current folder, "),
        ('edge.get("/a")', """has no attribute 'get'; write @edge.function("/path", methods=["GET"])"""),
        ('edge.route("/a")', "a route needs one target; @edge.function declares a function"),
        ('edge = Edge("t", access_log="x.log")', 'Edge.access_log: "x.log": must be an AccessLog or None'),
        ('edge = Edge("t", rate_limit="9/s")', 'Edge.rate_limit: "9/s": must be a RateLimit such as'),
        ('edge = Edge("t", trusted_proxies=["x"]); edge.route("/", respond="")', 'trusted_proxies[0]: "x": must be an'),
        ('edge.function("/a")(lambda request: 1)', "<lambda>: must take (request, ctx), and takes (request)"),
        ('edge.function("/a")(None)', "None: must be callable; it is what the decorator below gave"),
        ('edge.function("/a")(classmethod(print))', "must be callable; declare the method of an object"),
        ('edge.function("/a")(lambda self, request, ctx: 1)', "self is of a class: declare the method of an object"),
        ('edge.function("/a")(lambda: 1)', "<lambda>: must take (request, ctx), and takes no arguments"),
        ('edge.schedule("* * * * *")(lambda ctx: 1)', "<lambda>: must take no arguments, and takes (ctx)"),
        (
            'edge.on("viewer_response")(lambda a, *, b, **c: 1)',
            "must take (request, response, ctx), and takes (a, b, **c)",
        ),
        ('edge.function("/a")(type("F", (), {}))', "F: is a class; decorate a function"),
        (
            'async def dns(name, text, present): pass\nAcme(["a.example"], storage="x", dns=dns)',
            "Acme.dns: must be a plain def",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_and_what_to_write_in_its_place(
    tmp_path: Path, declaration: str, said: str
) -> None:
    app = tmp_path / "app.py"
    app.write_text(HEAD + declaration + "\n")
    found = edgerouter("check", str(app))
    assert found.returncode == 1
    shown, *_ = found.stderr.replace(f"{tmp_path}/", "").splitlines()
    assert shown.startswith(f"error: app.py:{4 + declaration.count(chr(10))}: ")
    assert said in shown
    assert "word" not in shown


def test_a_plan_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    for name, text in (
        ("site.toml", TOML_OF_ONE),
        ("site.json", json.dumps({"version": 1, "name": "t", "routes": ONE})),
    ):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert edgerouter("check", str(tmp_path / name)).returncode == 0, name


ONE = [{"pattern": "/*", "respond": {"body": "x"}}]
TOML_OF_ONE = 'version = 1\nname = "t"\n[[routes]]\npattern = "/*"\nrespond = {body = "x"}\n'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("site.yaml", "name: x\n", "site.yaml: a plan file is TOML or JSON, by its name: site.toml or site.json"),
        ("site.json", "[]", "site.json: must be a table (in JSON: an object) at its top"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_by_its_name(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    found = edgerouter("check", str(tmp_path / name))
    assert found.returncode == 1
    assert said in found.stderr


def test_without_an_application_the_commands_of_the_first_day_take_app_py(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "app.py: no such file; edgerouter init makes a starter project" in edgerouter("check").stderr
    (tmp_path / "app.py").write_text('from edgerouter import Edge\nedge = Edge("here")\nedge.route("/", respond="x")\n')
    assert "here: 1 route" in edgerouter("check").stdout
    for command, port in ((["run"], free_port()), (["dev", "--no-tls"], free_port())):
        process = run(*command, "--listen", f"127.0.0.1:{port}")
        wait_until(partial(reachable, port), 60, "the listener")
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "x"
        assert process.end() == 0


def test_a_mistake_in_an_option_has_no_line_of_a_file(tmp_path: Path) -> None:
    app, listen = tmp_path / "app.py", f"127.0.0.1:{free_port()}"
    app.write_text(HEAD + 'edge.route("/*", to=site)\n' + f'edge.listen("{listen}")\n')
    for option, said in (
        (["--tls-self-signed"], f'error: listeners[1].address: "{listen}": is listened on already'),
        (
            ["--access-log", "/none/log"],
            "error: access_log: /none/log: No such file or directory; give a file in",
        ),
    ):
        found = edgerouter("run", str(app), "--listen", listen, *option)
        assert found.returncode == 1
        assert said in found.stderr


def test_a_url_is_an_application_that_sends_all_requests_there(origin: Origin, run: Run) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "the site")
    port = free_port()
    process = run("run", origin.url, "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the listener")
    answers = [httpx.get(f"http://127.0.0.1:{port}/a?b=1") for _ in range(2)]
    assert [answer.text for answer in answers] == ["the site"] * 2
    assert "; hit" in answers[1].headers["cache-status"]
    assert process.end() == 0


def test_a_url_that_is_none_of_a_server_is_refused(tmp_path: Path) -> None:
    for url, said in (("http://", "must have a host name"), ("https://a.example/x?y", "must have no query")):
        found = edgerouter("check", url)
        assert found.returncode == 1
        assert said in found.stderr


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf", "1e400", "ten", "-inf"])
def test_the_demo_refuses_a_time_that_is_none(seconds: str) -> None:
    demo = Path(__file__).parents[2] / "examples" / "storefront" / "demo.py"
    found = subprocess.run(
        [sys.executable, str(demo)],
        env={"DEMO_SECONDS": seconds},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr == f"error: DEMO_SECONDS={seconds}: must be a number of seconds above 0\n"


def test_a_recursion_without_an_end_is_a_few_lines(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("def again():\n    again()\n\nagain()\n")
    found = edgerouter("check", str(app))
    assert "app.py:2: RecursionError" in found.stderr
    assert len(found.stderr.splitlines()) < 10


@pytest.mark.parametrize(
    "call", ['function("/a")', 'on("viewer_request", "/a")', 'on("start")', 'schedule("* * * * *")']
)
def test_a_decorator_that_decorates_nothing_is_refused_with_its_line(tmp_path: Path, call: str) -> None:
    app = tmp_path / "app.py"
    app.write_text(HEAD + f'edge.route("/*", to=site)\nedge.{call}\n')
    found = edgerouter("check", str(app))
    assert found.returncode == 1
    name = call.partition("(")[0]
    assert f"app.py:5: Edge.{name}: " in found.stderr.replace(f"{tmp_path}/", "")
    assert "decorates nothing: put a def below it" in found.stderr


def test_check_warns_of_a_method_that_is_nearly_one(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(HEAD + 'edge.route("/*", to=site, methods=["GTE", "PURGE"])\n')
    found = edgerouter("check", str(app))
    assert found.returncode == 0
    assert found.stdout.count("[method]") == 1
    assert "GTE is not a method that clients send, and GET is" in found.stdout
    assert "t: 1 route\n" in found.stdout


def test_the_help_begins_with_the_commands_of_the_first_day() -> None:
    found = edgerouter("--help").stdout
    order = ["init", "dev", "check", "explain", "run", "docs", "cache", "warm"]
    places = [found.index(f"│ {name} ") for name in order]
    assert places == sorted(places)


def test_check_warns_of_cookies_that_are_stored_for_everybody(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "from edgerouter import CachePolicy, Edge\nedge = Edge('test')\norigin = edge.origin('o', 'http://127.0.0.1:9')\n"
        "edge.route('/*', to=origin, cache=CachePolicy(set_cookie='store', cookies='none'))\n"
    )
    [advice] = json.loads(edgerouter("check", str(app), "--json").stdout)["advice"]
    assert (advice["rule"], advice["level"], advice["path"]) == ("set-cookie", "warning", "routes[0]")
    assert advice["place"].endswith("app.py:4")
    assert "everybody gets the cookie" in advice["message"]
    assert edgerouter("check", str(app), "--strict").returncode == 1


def test_check_fits_eighty_columns(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        'from edgerouter import Edge, Experiment\nedge = Edge("test")\n'
        'both = edge.group("both", [edge.origin("first", "http://a.example"), edge.origin("second", "http://b.example")])\n'
        'edge.route("/static/*", to=both, methods=["GET", "HEAD"], experiment=Experiment("home", variants={"a": 1}))\n'
        '@edge.on("origin_request")\ndef first_of_all(request, ctx):\n    pass\n'
        '@edge.on("viewer_response")\ndef last_of_all(request, response, ctx):\n    pass\n'
    )
    found = edgerouter("check", str(app))
    assert found.returncode == 0, found.stderr
    table = [line for line in found.stdout.splitlines() if not line.startswith(("warning", "note", "no problems"))]
    assert any("/static/*" in line for line in table)
    assert any("first_of_all" in line for line in table)
    assert all(len(line) <= 80 for line in table), found.stdout


@pytest.mark.parametrize("method", ["serve", "start"])
def test_serving_from_the_file_itself_is_refused_while_it_is_loaded(tmp_path: Path, method: str) -> None:
    app = tmp_path / "app.py"
    app.write_text(f'from edgerouter import Edge\nedge = Edge("t")\nedge.route("/*", respond="x")\nedge.{method}()\n')
    for command in ("check", "run"):
        found = edgerouter(command, str(app))
        assert found.returncode == 1
        assert f"app.py:4: Edge.{method}: is called while edgerouter loads this file" in found.stderr
        assert '__name__ == "__main__"' in found.stderr


def test_serve_prints_where_it_serves(tmp_path: Path) -> None:
    app, port = tmp_path / "app.py", free_port()
    app.write_text(
        'from edgerouter import Edge\nedge = Edge("t")\nedge.route("/*", respond="x")\n'
        f'if __name__ == "__main__":\n    edge.serve(listen="127.0.0.1:{port}")\n'
    )
    process = subprocess.Popen([sys.executable, str(app)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        said = [process.stdout.readline(), process.stdout.readline()]
        assert f"http://127.0.0.1:{port}" in said[1]
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "x"
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_two_edges_are_both_named(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text('from edgerouter import Edge\nshop = Edge("shop")\nblog = Edge("blog")\n')
    found = edgerouter("check", str(app))
    assert found.returncode == 1
    assert "there are 2 edges: shop, blog" in found.stderr
    assert "app.py:shop" in found.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("app.py", 'from edgerouter import Edge\nedge = Edge("t")\nedge.origin("first", "http://a.example")\n'),
        ("site.toml", 'version = 1\nname = "t"\n'),
    ],
)
def test_a_plan_that_serves_nothing_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = edgerouter("check", str(tmp_path / name))
    assert found.returncode == 1
    assert "nothing would be served" in found.stderr


def test_run_with_reload_waits_for_a_broken_file_to_be_mended(origin: Origin, tmp_path: Path, run: Run) -> None:
    origin.default = Reply(200, {}, "x")
    app, port = tmp_path / "app.py", free_port()
    app.write_text("this is (not python")
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--reload")
    process.wait_for("SyntaxError")
    process.wait_for("waiting for a corrected file")
    app.write_text("from edgerouter import Edge\nedge = Edge('t')\nedge.route('/*', to='nowhere')\n")
    process.wait_for("nowhere")
    write_app(app, origin.url, 1)
    wait_until(lambda: reachable(port), 60, "the listener")
    assert httpx.get(f"http://127.0.0.1:{port}/").headers["x-version"] == "1"
    assert process.end() == 0


def test_a_broken_file_that_nobody_mends_can_be_left(tmp_path: Path, run: Run) -> None:
    app = tmp_path / "app.py"
    app.write_text("this is (not python")
    process = run("run", str(app), "--listen", "127.0.0.1:0", "--reload")
    process.wait_for("waiting for a corrected file")
    assert process.end() == 0


TOML = """version = 1
name = "shop"

[[origins]]
name = "first"
url = "http://first.example"

[[routes]]
pattern = "/a"
to = "first"

[[routes]]
pattern = "/b"
to = "nowhere"

[routes.cache]
ttl = -1
"""

JSON = """{
  "version": 1, "name": "shop",
  "origins": [{"name": "first", "url": "http://first.example"}],
  "routes": [
    {"pattern": "/a", "to": "first"},
    {
      "pattern": "/b",
      "to": "nowhere",
      "cache": {
        "ttl": -1}
    }
  ]
}
"""


@pytest.mark.parametrize(("name", "text", "lines"), [("s.toml", TOML, (14, 17)), ("s.json", JSON, (8, 10))])
def test_a_plan_file_is_told_of_its_mistakes_by_line(
    tmp_path: Path, name: str, text: str, lines: tuple[int, int]
) -> None:
    (tmp_path / name).write_text(text)
    found = json.loads(edgerouter("check", str(tmp_path / name), "--json").stdout)["problems"]
    places = {one["path"]: one["place"].rpartition(":")[2] for one in found}
    assert places["routes[1].to"] == str(lines[0])
    assert places["routes[1].cache.ttl"] == str(lines[1])


@pytest.mark.parametrize("status", [502, 503])
def test_an_error_page_of_another_origin_or_of_fixed_words_stands_in_while_the_origin_is_down(
    origin: Origin, second: Origin, serve: Callable[[Edge], Running], status: int
) -> None:
    second.on("/pages/sorry.html", Reply(200, {"Content-Type": "text/html"}, "another origin is sorry"))
    origin.default = Reply(503, {}, "own words")
    if status == 502:
        origin.kill()
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), errors={status: "/pages/sorry.html"})
    edge.route("/words/*", to="first", errors={status: "/said"}, cache=cache.DISABLED)
    edge.route("/pages/*", to=edge.origin("second", second.url))
    edge.route("/said", respond="fixed words")
    running = serve(edge)
    found = httpx.get(f"{running.url}/x")
    assert (found.status_code, found.text) == (status, "another origin is sorry")
    found = httpx.get(f"{running.url}/words/x", headers={"if-none-match": '"x"'})
    assert (found.status_code, found.text) == (status, "fixed words")
