"""A new version beside the running one: its share, its end, and what is shown of it."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge, Respond
from edgerouter.deploying import loading
from edgerouter.errors import EdgeError

from ..metrics import metric
from ..origins import Origin, Reply, wait_until
from ..processes import Process, command
from .conftest import VERSION, Begin, Deployed, versions


def test_a_share_of_the_clients_gets_the_new_version_and_keeps_it(site: Deployed) -> None:
    number = site.deploy(percent=40, cookie="sid")
    sides = site.sides()
    assert set(sides) == {"old", "new"}
    for _ in range(3):
        assert [site.text(sid=sid) for sid in sides.values()] == list(sides)
    (shown,) = site.list()
    code = hashlib.sha256((site.folder / "new.py").read_bytes()).hexdigest()
    want = hashlib.sha256(f"new.py {code}\n".encode()).hexdigest()
    assert (shown["id"], shown["state"], shown["percent"], shown["hash"]) == (number, "serving", 40, want)
    assert (shown["author"], shown["file"]) == (f"uid {os.getuid()}", "new.py")
    both = shown["candidate"]["responses"], shown["running"]["responses"]
    assert sum(both) == 64 + 6 and min(both) > 6
    assert shown["candidate"]["p95_ms"] > 0
    assert metric(site.running, "edgerouter_deploy_percent") == 40
    for side, count in zip(("candidate", "running"), both, strict=True):
        labels = f'{{version="{side}",result="ok"}}'
        assert metric(site.running, "edgerouter_deploy_responses_total", labels) == count
    # The tables of both versions name their callables alike.
    text = site.server.metrics()
    assert 'callable="new.page"' in text and "_edgerouter_deploy" not in text


def test_another_share_keeps_the_clients_and_a_roll_back_takes_all_of_them(site: Deployed) -> None:
    site.deploy(percent=20, cookie="sid")
    before = {str(n) for n in range(64) if site.text(sid=str(n)) == "new"}
    assert site.change("percent", percent=60).status_code == 200
    after = {str(n) for n in range(64) if site.text(sid=str(n)) == "new"}
    assert before < after and len(after) < 64
    assert site.change("percent", percent=100).json()["deploys"][0]["percent"] == 100
    assert set(site.sides()) == {"new"}
    assert site.change("rollback").json()["deploys"][0]["state"] == "rolled-back"
    assert set(site.sides()) == {"old"}
    assert metric(site.running, "edgerouter_deploys_total", '{result="rolled-back"}') == 1


@pytest.mark.parametrize("percent", [0, -1, 0.001, 100.5, 101, "abc", None, True])
def test_a_share_is_more_than_nothing_and_no_more_than_all(site: Deployed, percent: object) -> None:
    answer = site.admin.post("/v1/deploys", json={"file": "new.py", "percent": percent})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "percent")
    assert site.list() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", "edge = 1"),
        ("file", None),
        ("cookie", "a b"),
        ("cookie", ""),
        ("min_responses", 0),
        ("max_errors", 101),
        ("max_latency", 0),
    ],
)
def test_an_order_is_checked_before_a_file_is_read(site: Deployed, field: str, value: object) -> None:
    answer = site.order(**{"percent": 5, field: value})  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("body", "field"), [("[]", "body"), ('"1"', "body"), ('{"di": 1}', "di"), ('{"id": "1"}', "id")]
)
@pytest.mark.parametrize("what", ["promote", "rollback", "percent"])
def test_a_change_that_is_misspelt_changes_nothing(site: Deployed, what: str, body: str, field: str) -> None:
    headers = {"content-type": "application/json"}
    answer = site.admin.post(f"/v1/deploys/{what}", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


def test_one_deploy_at_a_time_and_none_meets_another_plan(site: Deployed) -> None:
    first = site.deploy(percent=50)
    answer = site.order()
    assert answer.status_code == 409 and f"deploy {first} is under way" in answer.text
    edge = Edge("site")
    edge.route("/*", respond=Respond(body="reloaded"))
    started: list[str] = []

    @edge.on("start")
    def starts() -> None:
        started.append("start")

    with pytest.raises(EdgeError, match="is under way"):
        site.server.reload(edge)
    # A version that is refused opens nothing.
    assert not started
    share: dict[str, dict[str, int]] = {"promote": {}, "rollback": {}, "percent": {"percent": 3}}
    for what in share:
        assert site.change(what, id=first + 7, **share[what]).status_code == 409
    assert site.change("rollback", id=first).status_code == 200
    for what in share:
        assert site.change(what, **share[what]).status_code == 409
    site.server.reload(edge)
    assert (site.text(), started) == ("reloaded", ["start"])


def test_a_promoted_version_serves_all_and_the_old_one_ends_after_its_last_call(begin: Begin, tmp_path: Path) -> None:
    edge, entered, leave = Edge("site"), threading.Event(), threading.Event()
    ended = threading.Event()

    @edge.function("/slow")
    def slow(request: object, ctx: object) -> str:
        entered.set()
        assert leave.wait(60)
        return "old"

    @edge.on("stop")
    def stop() -> None:
        ended.set()

    site = begin(edge)
    notes = tmp_path / "notes"
    site.write(
        VERSION.format(name="new")
        + f"""
@edge.function("/slow")
def slow(request, ctx):
    return "new"

@edge.on("start")
def start():
    open({str(notes)!r}, "a").write("start ")

@edge.on("stop")
def stop():
    open({str(notes)!r}, "a").write("stop ")
"""
    )
    answers: list[str] = []
    with httpx.Client(base_url=site.server.urls[0], timeout=30) as client:
        waiting = threading.Thread(target=lambda: answers.append(client.get("/slow").text))
        waiting.start()
        assert entered.wait(60)
        site.deploy(percent=1)
        assert notes.read_text() == "start "
        promoted = site.change("promote").json()
        assert promoted["version"] == 2
        assert (site.text("/slow"), site.text()) == ("new", "new")
        site.client.get("/slow")
        assert not ended.is_set()
        leave.set()
        waiting.join(60)
    assert answers == ["old"]
    site.wait_for(ended.is_set, "the stop of the old version")
    assert [shown["state"] for shown in site.list()] == ["promoted"]
    # The next one is compared with the promoted version, whose stop runs when it is replaced.
    site.write(VERSION.format(name="newer"), "newer.py")
    site.deploy("newer.py")
    site.change("promote")
    assert site.text() == "newer"
    site.wait_for(lambda: notes.read_text() == "start stop ", "the stop of the promoted version")


def test_requests_under_way_finish_on_the_version_that_is_rolled_back(site: Deployed, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    site.write(
        f"""
import os, time
from edgerouter import Edge

edge = Edge("site")

@edge.function("/")
def page(request, ctx):
    yield "begun "
    until = time.monotonic() + 20
    while not os.path.exists({str(gate)!r}) and time.monotonic() < until:
        time.sleep(0.01)
    from later import WORD
    yield WORD
"""
    )
    site.write('WORD = "ended"\n', "later.py")
    site.deploy()
    with site.client.stream("GET", "/") as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"begun "
        site.change("rollback")
        with httpx.Client(base_url=site.server.urls[0]) as other:
            assert other.get("/").text == "old"
        gate.touch()
        assert b"".join(pieces) == b"ended"
    site.wait_for(lambda: not versions(), "the end of its modules")


def test_versions_have_their_own_modules_beside_one_another(site: Deployed) -> None:
    for name, word in (("one", "1"), ("two", "2")):
        site.write(f'WORD = "{word}"\n', f"{name}/words.py")
        site.write("from . import inner\n", f"{name}/kit/__init__.py")
        site.write('from words import WORD\nNAME = "kit" + WORD\n', f"{name}/kit/inner.py")
        site.write(
            """
import kit.inner, words
from edgerouter import Edge
from kit import inner
edge = Edge("site")

@edge.function("/")
def page(request, ctx):
    import late
    return " ".join([words.WORD, kit.inner.NAME, inner.NAME, late.WORD])
""",
            f"{name}/app.py",
        )
        site.write("import words\nWORD = 'late' + words.WORD\n", f"{name}/late.py")
        before = set(versions())
        site.deploy(f"{name}/app.py", percent=50, cookie="sid")
        assert set(site.sides()) >= {f"{word} kit{word} kit{word} late{word}"}
        assert len(set(versions()) - before) == 6
        assert not {"words", "kit", "late"} & set(sys.modules)
        site.change("promote" if name == "one" else "rollback")
    assert set(site.sides()) == {"1 kit1 kit1 late1"}
    site.wait_for(lambda: len(versions()) == 6, "the end of the second version's modules")


def test_a_request_of_a_function_stays_in_its_version(begin: Begin) -> None:
    def text(name: str) -> str:
        return (
            VERSION.format(name=name)
            + """
@edge.function("/outer")
async def outer(request, ctx):
    return (await ctx.fetch("/")).body.decode()
"""
        )

    space: dict[str, Edge] = {}
    exec(text("old"), space)
    site = begin(space["edge"])
    site.write(text("new"))
    site.deploy(percent=50, cookie="sid")
    sides = site.sides()
    assert {site.text("/outer", sid) for sid in sides.values()} == set(sides) == {"old", "new"}


@pytest.mark.parametrize("page", ["raise ValueError('no')", "return 'x', 500"])
def test_a_version_that_fails_is_rolled_back_by_itself(site: Deployed, page: str) -> None:
    site.write(VERSION.format(name="new").replace('return "new"', page))
    site.deploy(min_responses=10, max_errors=20)
    statuses = [site.client.get("/").status_code for _ in range(12)]
    assert all(status >= 500 for status in statuses[:10])
    assert statuses[10:] == [200, 200]
    (shown,) = site.list()
    assert shown["state"] == "rolled-back" and "100.0 % of its responses were errors" in shown["reason"]
    assert shown["candidate"]["errors"] == 10


def test_a_version_is_not_judged_alone_while_the_other_has_clients_too(site: Deployed) -> None:
    site.write(VERSION.format(name="new").replace('return "new"', "return 'x', 500"))
    site.deploy(percent=50, cookie="sid", min_responses=10, max_errors=20)
    statuses = {sid: site.client.get("/", headers={"cookie": f"sid={sid}"}).status_code for sid in map(str, range(12))}
    bad, good = (next(sid for sid, status in statuses.items() if status == wanted) for wanted in (500, 200))
    site.change("rollback")
    site.deploy(percent=50, cookie="sid", min_responses=10, max_errors=20)
    for _ in range(15):
        assert site.client.get("/", headers={"cookie": f"sid={bad}"}).status_code == 500
    assert site.list()[0]["state"] == "serving"
    site.client.get("/", headers={"cookie": f"sid={good}"})
    assert site.client.get("/", headers={"cookie": f"sid={bad}"}).status_code == 500
    assert site.list()[0]["state"] == "rolled-back"


def test_a_slow_version_is_rolled_back_and_a_fault_of_both_is_no_reason(begin: Begin, origin: Origin) -> None:
    origin.default = Reply(502, {}, "down")
    edge = Edge("site")
    edge.route("/*", to=edge.origin("site", origin.url))
    site = begin(edge)
    text = (
        f'from edgerouter import Edge\nedge = Edge("site")\nedge.route("/*", to=edge.origin("site", "{origin.url}"))\n'
    )
    site.write(text)
    site.deploy(percent=50, cookie="sid", min_responses=20)
    for number in range(64):
        assert site.client.get("/", headers={"cookie": f"sid={number}"}).status_code == 502
    assert site.list()[0]["state"] == "serving"
    site.change("rollback")
    origin.default = Reply(200, {}, "up")
    site.deploy(max_latency=0.000001, min_responses=5)
    for _ in range(5):
        site.client.get("/")
    (shown, _) = site.list()
    assert shown["state"] == "rolled-back" and "max_latency" in shown["reason"]


BAD = [
    ("def f(:\n", "new.py:1: SyntaxError"),
    ("import sys\nsys.exit(3)\n", "SystemExit(3)"),
    ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    ("class Mute(BaseException):\n    def __str__(self): raise Mute\nraise Mute\n", "Mute"),
    ("import nowhere_at_all\n", "nowhere_at_all"),
    ("x = 1\n", "must be an Edge"),
    ("from edgerouter import Edge\nedge = Edge('site')\n", "nothing would be served"),
    (VERSION.format(name="x") + "edge.listen('127.0.0.1:0')\n", "listeners: cannot differ"),
    (VERSION.format(name="x").replace('"site"', '"other"'), "name: cannot differ"),
    (VERSION.format(name="x") + "edge.start()\n", "put the call under if"),
    (VERSION.format(name="x") + "edge.route('/*', to='nobody')\n", "nobody"),
    (VERSION.format(name="x").replace('("/")', '("/", isolation="process")'), "isolation"),
    (VERSION.format(name="x") + "@edge.on('start')\ndef start(): raise OSError('no')\n", "raised OSError"),
    ("while True: pass\n", "did not end within"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[said.split(":")[0] for _, said in BAD])
def test_a_file_that_cannot_be_served_changes_nothing(
    site: Deployed, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if said == "did not end within":
        monkeypatch.setattr(loading, "PATIENCE", 0.3)
    site.write(text)
    answer = site.order()
    monkeypatch.undo()
    assert answer.status_code == 400 and said in answer.json()["error"]["message"], answer.text
    (shown,) = site.list()
    assert shown["state"] == "refused" and said in shown["reason"]
    assert site.text() == "old"
    site.wait_for(lambda: not versions(), "the end of its modules")
    site.write(VERSION.format(name="new"))
    site.deploy()
    assert site.text() == "new"


def test_the_command_shows_the_deploy_that_it_changes_and_the_list_all(site: Deployed) -> None:
    def shown(*arguments: str) -> list[str]:
        done = command(*arguments, "--admin", f"unix:{site.socket}")
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if not line.startswith(" ")]

    assert site.order("nowhere.py").status_code == 400
    site.write(VERSION.format(name="new"))
    (begun,) = shown("deploy", "new.py", "--percent", "10")
    (changed,) = shown("deploys", "percent", "50")
    (ended,) = shown("deploys", "rollback")
    assert [line.split()[1] for line in (begun, changed, ended)] == ["serving", "serving", "rolled-back"]
    assert "  50 %  " in changed
    assert len(shown("deploys", "list")) == 2


def test_a_promotion_without_an_id_names_the_deploy_that_it_ends(site: Deployed) -> None:
    site.write(VERSION.format(name="new"))
    number = site.deploy()
    assert site.change("promote").json()["id"] == number


def test_an_order_is_not_waited_for_when_the_edge_is_frozen(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(VERSION.format(name="frozen"))
    socket = tmp_path / "admin.sock"
    arguments = ["--listen", "127.0.0.1:0", "--admin-socket", str(socket), "--deploy-folder", str(tmp_path)]
    edge = Process("run", str(tmp_path / "app.py"), *arguments)

    def ended(order: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return command(*order, "--admin", f"unix:{socket}")

    try:
        edge.wait_for(r"http://")
        edge.process.send_signal(signal.SIGSTOP)
        # Beside each other, as each takes twice five seconds.
        with ThreadPoolExecutor(2) as threads:
            new, end = threads.map(ended, [("deploy", "new.py", "--percent", "10"), ("deploys", "rollback")])
    finally:
        edge.kill()
    assert new.returncode == end.returncode == 1
    for done in (new, end):
        assert "did not answer within 5 s; it may still carry out the order" in " ".join(done.stderr.split())


def test_a_file_that_is_not_there_is_refused_by_its_name(site: Deployed) -> None:
    answer = site.order("nowhere.py")
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message == f"'nowhere.py': is no file below the folder for deploys, {site.folder}"


def test_an_import_that_ignores_its_end_is_abandoned(
    site: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "PATIENCE", 0.2)
    monkeypatch.setattr(loading, "GRACE", 0.05)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    site.write(f"open({str(pipe)!r})\n" + VERSION.format(name="late"), "late.py")
    assert site.order("late.py").status_code == 400
    monkeypatch.undo()
    assert site.order().status_code == 409
    assert site.text() == "old"
    with pipe.open("w"):
        wait_until(lambda: site.order(percent=1).status_code == 201, 60, "the end of the import")
    site.change("rollback")
    site.wait_for(lambda: not versions(), "the end of both")


def spoil(folder: Path, how: str) -> str:
    """Makes ``new.py`` one that must not be deployed; its name."""
    file = folder / "new.py"
    if how == "group":
        file.chmod(0o664)
    elif how == "others":
        file.chmod(0o646)
    elif how == "folder":
        folder.chmod(0o775)
    elif how == "link":
        file.rename(folder / "real.py")
        file.symlink_to("real.py")
    elif how == "linked-folder":
        (folder / "sub").symlink_to(".")
        return "sub/new.py"
    elif how == "pipe":
        file.unlink()
        os.mkfifo(file, 0o644)
    elif how == "below":
        (folder / "open").mkdir()
        (folder / "open").chmod(0o777)
        file.rename(folder / "open" / "new.py")
        return "open/new.py"
    elif how == "import":
        (folder / "helper.py").write_text("")
        (folder / "helper.py").chmod(0o666)
        file.write_text("import helper\n" + file.read_text())
    elif how == "out":
        return "../apps/new.py"
    elif how == "absolute":
        return str(file)
    return {"empty": "", "nul": "new\0.py", "toml": "new.toml", "none": "none.py", "is-folder": "."}.get(how, "new.py")


@pytest.mark.parametrize(
    "how",
    [
        "group",
        "others",
        "folder",
        "link",
        "linked-folder",
        "pipe",
        "below",
        "import",
        "out",
        "absolute",
        "empty",
        "nul",
        "toml",
        "none",
        "is-folder",
    ],
)
def test_a_file_is_the_users_own_and_below_the_folder(site: Deployed, how: str) -> None:
    answer = site.order(spoil(site.folder, how))
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "file"), answer.text
    assert site.text() == "old" and not versions()
    (shown,) = site.list()
    # Of a file that was not read there is none.
    assert (shown["state"], shown["hash"] != "") == ("refused", how == "import")


def test_the_socket_is_for_the_user_of_the_edge(site: Deployed) -> None:
    found = site.socket.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.getuid())
    assert site.admin.get("/v1/cache/stats").status_code == 200
    assert site.admin.get("/healthz", headers={"host": "evil.example"}).status_code == 421


CALLS = [("GET", ""), ("POST", ""), ("POST", "/promote"), ("POST", "/rollback"), ("POST", "/percent")]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_loopback_without_a_token_opens_no_deploys(site: Deployed, method: str, path: str) -> None:
    order = {"file": "new.py", "percent": 100}
    base = site.server.admin_url or ""
    for prefix in ("/v1/deploys", "/dashboard/api/v1/deploys"):
        for authorization in ("", "Bearer", "Bearer x", "AWS4-HMAC-SHA256 Credential=x/y/z"):
            headers = {"authorization": authorization} if authorization else {}
            answer = httpx.request(method, f"{base}{prefix}{path}", json=order, headers=headers)
            assert answer.status_code in (403, 404, 405), answer.text
    assert site.text() == "old" and site.list() == []


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_token_opens_them_and_the_readers_one_only_shows(begin: Begin, method: str, path: str) -> None:
    edge = Edge("site")
    edge.route("/*", respond=Respond(body="old"))
    site = begin(edge, admin_token="the-token-itself", admin_reader_token="the-readers-token")
    site.write(VERSION.format(name="new"))
    base = f"{site.server.admin_url}/v1/deploys{path}"

    def call(token: str) -> int:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = {"": {"file": "new.py", "percent": 7}, "/percent": {"percent": 7}}.get(path, {})
        return httpx.request(method, base, json=body, headers=headers).status_code

    if path:
        site.deploy(percent=1)
    assert [call(""), call("wrong")] == [401, 401]
    assert call("the-readers-token") == (200 if method == "GET" else 403)
    assert call("the-token-itself") == (201 if (method, path) == ("POST", "") else 200)
    if (method, path) == ("POST", ""):
        assert site.list()[0]["author"] == "token"


def test_an_edge_without_a_folder_takes_no_deploys(begin: Begin) -> None:
    edge = Edge("site")
    edge.route("/*", respond=Respond(body="old"))
    site = begin(edge)
    with pytest.raises(EdgeError, match="needs admin and admin_token, or admin_socket"):
        edge_settings(deploy_folder=str(site.folder), admin="127.0.0.1:0")
    assert site.change("rollback").status_code == 409


def edge_settings(**given: str) -> None:
    from edgerouter.settings import Settings

    Settings(**given)  # type: ignore[arg-type]
