"""``edgerouter cost`` on a real edge, with a real receiver of webhooks."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import typer

from edgerouter import CachePolicy, Edge, cache
from edgerouter.costs.webhook import SIGNATURE, retry_after
from edgerouter.testing import Running, running

from ..metrics import COSTS, documented
from ..origins import Origin, Reply, wait_until
from ..processes import Process, command, free_port

Serve = Callable[[Edge], Running]
SECRET = "a secret of the webhook"
PRICES = """
name = "test"
[requests]
per_million = 1_000_000
[egress]
per_gb = 1
[origin]
requests_per_million = 2_000_000
[budget]
per_month = 10
"""


def address(edge: Running) -> str:
    return edge.admin_url.removeprefix("http://")


@pytest.fixture
def made(origin: Origin) -> Edge:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("site", origin.url), cache=CachePolicy(ttl=600))
    edge.route("/api/*", to="site", cache=cache.DISABLED)
    origin.default = Reply(200, {"content-type": "text/html"}, "x" * 10_000)
    return edge


@pytest.fixture
def model(tmp_path: Path) -> str:
    file = tmp_path / "prices.toml"
    file.write_text(PRICES)
    return str(file)


def load(edge: Running, *paths: str) -> int:
    """The bytes of content that the client got."""
    with httpx.Client(base_url=edge.url) as client:
        return sum(len(client.get(path).content) for path in paths)


def test_the_bytes_and_requests_of_a_report_are_those_that_the_client_counted(
    made: Edge, model: str, serve: Serve
) -> None:
    served = serve(made)
    counted = load(served, "/a", "/a", "/a", "/b", "/api/x")
    printed = command("cost", "report", "--prices", model, "--admin", address(served), "--json")
    assert printed.returncode == 0, printed.stderr
    found = json.loads(printed.stdout)
    assert found["usage"]["bytes"] == counted == 50_000
    assert (found["usage"]["requests"], found["usage"]["origin_requests"]) == (5, 3)
    assert found["hit_rate"] == pytest.approx(0.5)
    assert found["total"] == pytest.approx(5 + 3 * 2 + 50_000 / 1e9)
    assert {line["item"]: line["cost"] for line in found["savings"]}["cache: requests to origins"] == pytest.approx(4)
    text = command("cost", "report", "--prices", model, "--admin", address(served)).stdout
    assert "5 requests" in text and "since the start of the edge" in text


def test_usage_survives_a_restart_of_the_edge(made: Edge, model: str, tmp_path: Path) -> None:
    state = tmp_path / "costs.json"
    port = free_port()

    def report() -> dict[str, float]:
        printed = command(
            "cost", "report", "--prices", model, "--state", str(state), "--admin", f"127.0.0.1:{port}", "--json"
        )
        assert printed.returncode == 0, printed.stderr
        usage: dict[str, float] = json.loads(printed.stdout)["usage"]
        return usage

    def served() -> Running:
        from edgerouter.server import Server
        from edgerouter.settings import Settings

        settings = Settings(listen="127.0.0.1:0", admin=f"127.0.0.1:{port}", workers=1)
        return Running.of(Server.start(made, settings))

    first = served()
    load(first, "/a")
    assert report()["requests"] == 0, "the first look is a beginning"
    counted = load(first, *["/a"] * 9)
    assert report()["requests"] == pytest.approx(9)
    first.server.stop(2)
    second = served()
    counted += load(second, *["/b"] * 3)
    usage = report()
    second.server.stop(2)
    assert usage["requests"] == pytest.approx(12)
    assert usage["bytes"] == pytest.approx(counted)


def watch(model: str, state: Path, edge: Running, *more: str, **environment: str) -> tuple[int, str]:
    done = command(
        "cost",
        "watch",
        "--once",
        "--prices",
        model,
        "--state",
        str(state),
        "--admin",
        address(edge),
        *more,
        **environment,
    )
    return done.returncode, done.stderr


def test_a_budget_alarm_is_logged_signed_repeated_until_it_is_taken_and_raised_once(
    made: Edge, model: str, serve: Serve, second: Origin, tmp_path: Path
) -> None:
    served = serve(made)
    state, textfile = tmp_path / "costs.json", tmp_path / "costs.prom"
    second.on("/hook", Reply(500, {}, "not yet"))
    hook = ["--webhook", f"{second.url}/hook?key=hidden", "--webhook-secret-env", "HOOK", "--interval", "1"]
    hook += ["--textfile", str(textfile)]
    assert watch(model, state, served, *hook, HOOK=SECRET) == (0, "")
    load(served, *["/a"] * 11)
    code, log = watch(model, state, served, *hook, HOOK=SECRET)
    assert code == 1
    assert re.search(r"warning: 1\d\.\d\d USD are spent: more than 100 % of the budget of 10\.00 USD", log)
    assert "answered 500; the alarm" in log and "hidden" not in log and SECRET not in log
    assert "edgerouter_cost_alarms_waiting 1" in textfile.read_text()
    second.on("/hook", Reply(204))
    wait_until(lambda: watch(model, state, served, *hook, HOOK=SECRET) == (0, ""), 60, what="the second attempt")
    assert watch(model, state, served, *hook, HOOK=SECRET) == (0, "")
    assert second.count("/hook") == 2
    refused, taken = second.requests
    assert json.loads(refused.body)["id"] == json.loads(taken.body)["id"]
    event = json.loads(taken.body)
    assert (event["kind"], event["budget"], event["currency"]) == ("spent", 10, "USD")
    (block,) = re.findall(r"```python\n(.*?)```", COSTS.read_text(), re.DOTALL)
    page: dict[str, Callable[..., bool]] = {}
    exec(block, page)  # the receiver that the page shows
    field = taken.get(SIGNATURE)
    assert field is not None
    assert page["is_genuine"](field, taken.body, SECRET.encode(), int(time.time()))
    assert not page["is_genuine"](field, taken.body + b" ", SECRET.encode(), int(time.time()))
    assert not page["is_genuine"](field, taken.body, b"another secret here", int(time.time()))
    assert not page["is_genuine"](field, taken.body, SECRET.encode(), int(time.time()) + 301)


def test_a_webhook_that_never_ends_its_answer_loses_no_usage_and_is_tried_again(
    made: Edge,
    model: str,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from edgerouter.cli import costs
    from edgerouter.costs import webhook

    monkeypatch.setattr(webhook, "TIMEOUT", 0.5)
    monkeypatch.setenv("HOOK", SECRET)
    served, state = serve(made), tmp_path / "costs.json"
    assert watch(model, state, served) == (0, "")
    load(served, *["/a"] * 11)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    connection.sendall(b"x")
                    # The pause between two bytes, which is shorter than the limit of each step.
                    time.sleep(0.05)

        peer = threading.Thread(target=drip, daemon=True)
        peer.start()
        with pytest.raises(typer.Exit) as ended:
            costs.watch(
                model,
                state,
                admin=[address(served)],
                webhook=f"http://127.0.0.1:{listener.getsockname()[1]}/x",
                webhook_secret_env="HOOK",
                once=True,
            )
        peer.join(60)
    assert ended.value.exit_code == 1
    assert "gave no answer" in capfd.readouterr().err
    kept = json.loads(state.read_text())
    assert sum(month["requests"] for month in kept["months"].values()) == pytest.approx(11)
    assert kept["waiting"][0]["attempts"] == 1


def test_the_text_file_has_the_families_of_the_page(made: Edge, model: str, serve: Serve, tmp_path: Path) -> None:
    served = serve(made)
    textfile = tmp_path / "costs.prom"
    assert watch(model, tmp_path / "costs.json", served, "--textfile", str(textfile))[0] == 0
    text = textfile.read_text()
    helps = dict(re.findall(r"^# HELP (\w+) (.*)$", text, re.MULTILINE))
    assert helps == {name: about for name, (_, about, _) in documented(COSTS).items()}
    assert re.search(r'^edgerouter_cost_budget\{currency="USD"\} 10\.0$', text, re.MULTILINE)
    assert textfile.stat().st_mode & 0o777 == 0o644


def test_watch_goes_on_while_an_edge_is_down_and_ends_by_ctrl_c(made: Edge, model: str, tmp_path: Path) -> None:
    port = free_port()
    state = str(tmp_path / "costs.json")
    process = Process(
        "cost", "watch", "--prices", model, "--state", state, "--admin", f"127.0.0.1:{port}", "--interval", "1"
    )
    try:
        process.wait_for("nothing listens here(.|\n)*nothing listens here")
        assert process.end(2) == 0
    finally:
        process.process.kill()
        process.process.wait(60)


def test_pauses_between_attempts_double_up_to_an_hour() -> None:
    assert [retry_after(attempts, 60) for attempts in (1, 2, 3, 6, 7, 1_000)] == [60, 120, 240, 1_920, 3_600, 3_600]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--webhook", "http://hooks.example.com/x", "--webhook-secret-env", "HOOK"], "must be a URL with https"),
        (["--webhook", "https://u:p@hooks.example.com/x", "--webhook-secret-env", "HOOK"], "must have no user"),
        (["--webhook", "https://hooks.example.com/x"], "needs --webhook-secret-env"),
        (["--webhook", "https://hooks.example.com/x", "--webhook-secret-env", "NONE"], "is not set"),
        (["--webhook", "https://hooks.example.com/x", "--webhook-secret-env", "SHORT"], "at least 16 bytes"),
        (["--webhook-secret-env", "HOOK"], "does nothing without --webhook"),
    ],
    ids=["plain http", "a user", "no secret", "an unset secret", "a short secret", "a secret without webhook"],
)
def test_an_option_that_is_unsafe_or_does_nothing_is_refused(
    arguments: list[str], remedy: str, model: str, tmp_path: Path
) -> None:
    state = tmp_path / "costs.json"
    refused = command(
        "cost", "watch", "--once", "--prices", model, "--state", str(state), *arguments, HOOK=SECRET, SHORT="short"
    )
    assert refused.returncode == 1
    assert remedy in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert SECRET not in refused.stderr and not state.exists()


def test_a_webhook_without_a_budget_and_a_missing_file_of_prices_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "prices.toml"
    model.write_text('name = "no budget"\n')
    state = str(tmp_path / "costs.json")
    hook = ["--webhook", "https://hooks.example.com/x", "--webhook-secret-env", "HOOK"]
    refused = command("cost", "watch", "--once", "--prices", str(model), "--state", state, *hook, HOOK=SECRET)
    assert (refused.returncode, "no budget.per_month" in refused.stderr) == (1, True)
    missing = command("cost", "report", "--prices", str(tmp_path / "none.toml"))
    assert (missing.returncode, "own-machines" in missing.stderr) == (1, True)


def test_prices_prints_examples_that_a_report_takes(made: Edge, tmp_path: Path) -> None:
    names = command("cost", "prices").stdout.split()
    assert "own-machines" in names
    file = tmp_path / "mine.toml"
    file.write_text(command("cost", "prices", "own-machines").stdout)
    with running(made) as served:
        load(served, "/a")
        for model in (str(file), "own-machines"):
            assert command("cost", "report", "--prices", model, "--admin", address(served)).returncode == 0


def test_a_report_without_prices_takes_an_example_and_says_so(made: Edge, serve: Serve) -> None:
    printed = command("cost", "report", EDGEROUTER_ADMIN=address(serve(made)))
    assert (printed.returncode, len(printed.stderr.splitlines())) == (0, 1)
    assert "cdn-by-volume" in printed.stderr and "(example)" in printed.stdout


def test_a_report_for_the_dashboard_is_kept_and_shown(made: Edge, model: str, tmp_path: Path) -> None:
    from edgerouter.server import Server
    from edgerouter.settings import Settings

    file = tmp_path / "report.json"
    settings = Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", workers=1, cost_report=str(file))
    with Server.start(made, settings) as server:
        served = Running.of(server)
        missing = httpx.get(f"{served.admin_url}/v1/costs")
        assert missing.status_code == 503 and "is edgerouter cost watch" in missing.json()["error"]["message"]
        for path in ("/a", "/b"):
            load(served, path)
            code, output = watch(model, tmp_path / "costs.json", served, "--report", str(file))
            assert code == 0, output
        shown = httpx.get(f"{served.admin_url}/v1/costs").json()
        assert shown["usage"]["requests"] == pytest.approx(1) and shown["days"][0]["cost"] == shown["total"] > 0
        for content in ("[1]", "{", "x" * (1 << 20) + "x"):
            file.write_text(content)
            assert httpx.get(f"{served.admin_url}/v1/costs").status_code == 503
    with running(made) as other:
        assert "--cost-report" in httpx.get(f"{other.admin_url}/v1/costs").json()["error"]["message"]
