"""The edge counts visitors of experiments and their conversions, and keeps the counts over a restart."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt as pyjwt
import pytest
from typer.testing import CliRunner

from edgerouter import ConfigError, Context, Edge, Experiment, Jwt, Request, Response, Secret
from edgerouter.cli.commands import app
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.testing import Running

from ..origins import wait_until

SECRET = "k" * 32
HALVES = {"control": 1, "treatment": 1}


def shop(**changes: Any) -> Edge:
    edge = Edge("shop")
    edge.route("/thanks", respond="thank you")

    @edge.function("/signup")
    def signup(request: Request, ctx: Context) -> Response:
        return Response.json(ctx.convert("signup", value=float(request.query.get("value") or 0)))

    settings: dict[str, Any] = {"variants": HALVES, "conversion": "/thanks*", **changes}
    edge.route("/*", respond="x", experiment=Experiment("home", **settings))
    return edge


def served(edge: Edge, file: Path | None = None) -> Server:
    settings = Settings(
        listen="127.0.0.1:0", admin="127.0.0.1:0", workers=2, experiments_file=None if file is None else str(file)
    )
    return Server.start(edge, settings)


def view(server: Server | Running) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.admin_url}/v1/experiments").json()
    return found


def counts(server: Server | Running) -> dict[str, tuple[int, dict[str, int]]]:
    """Visitors and conversions of the first experiment by variant."""
    variants = view(server)["experiments"][0].get("variants", ())
    return {one["variant"]: (one["visitors"], one["conversions"]) for one in variants}


def visit(url: str, first: int, last: int, converts: Callable[[int], bool]) -> Counter[str]:
    """Visitors with browsers of their own; each third time by a new connection, so by another worker."""
    want: Counter[str] = Counter()
    for number in range(first, last):
        with httpx.Client(base_url=url, headers={"user-agent": f"browser {number}"}) as client:
            client.get("/thanks")
            client.get("/")
            variant = client.cookies["ab-variant"]
            client.get("/again")
            want[variant] += 1
        if converts(number):
            want[f"{variant} request"] += 1
            headers = {"user-agent": f"browser {number}"}
            httpx.get(f"{url}/thanks?order=1", headers=headers)
            httpx.get(f"{url}/thanks", headers=headers)
    return want


def counted(want: Counter[str]) -> dict[str, tuple[int, dict[str, int]]]:
    return {name: (want[name], {"request": want[f"{name} request"]}) for name in HALVES}


def test_visitors_and_conversions_are_counted_once_and_survive_restarts(tmp_path: Path) -> None:
    file = tmp_path / "counts"
    with served(shop(), file) as server:
        want = visit(server.urls[0], 0, 24, lambda number: number % 3 == 0)
        wait_until(lambda: counts(server) == counted(want), what=f"{counted(want)} in {counts(server)}")
    assert file.stat().st_mode & 0o777 == 0o600
    content = file.read_bytes()
    assert b"browser" not in content and b"127.0.0.1" not in content
    with served(shop(), file) as server:
        assert counts(server) == counted(want)
        # The visitors of before are known: they count no second time, and convert by their first exposure.
        url = server.urls[0]
        again = httpx.Client(base_url=url, headers={"user-agent": "browser 1"})
        known = {name: visitors for name, (visitors, _) in counted(want).items()}
        again.get("/thanks")
        again.close()
        wait_until(
            lambda: sum(of["request"] for _, of in counts(server).values()) == 9,
            what="the conversion of an old visitor",
        )
        assert {name: visitors for name, (visitors, _) in counts(server).items()} == known


def test_a_function_counts_conversions_with_their_value(serve: Any) -> None:
    edge: Running = serve(shop(variants={"only": 1}))
    with httpx.Client(base_url=edge.url) as client:
        client.get("/")
        for value in ("2.5", "1.5"):
            assert client.get(f"/signup?value={value}").json() is True
    wait_until(lambda: counts(edge) == {"only": (1, {"signup": 1})}, what="the conversion")
    wait_until(lambda: view(edge)["experiments"][0]["variants"][0]["value"] == 4.0, what="the second value")
    assert view(edge)["experiments"][0]["variants"][0]["squares"] == 16.0


@pytest.mark.parametrize(
    ("goal", "value", "message"),
    [
        ("", 0, "no name of a goal"),
        ("a b", 0, "no name"),
        ("x" * 65, 0, "no name"),
        ("a", float("nan"), "no value"),
        ("a", 2e9, "no value"),
    ],
)
def test_what_is_no_goal_or_value_is_refused(serve: Any, goal: str, value: float, message: str) -> None:
    edge = Edge("shop")

    @edge.function("/")
    def page(request: Request, ctx: Context) -> Response:
        try:
            return Response.json(ctx.convert(goal, value))
        except ValueError as error:
            return Response.text(str(error))

    assert message in httpx.get(serve(edge).url).text


def test_without_an_experiment_nothing_is_counted(serve: Any) -> None:
    edge = Edge("shop")

    @edge.function("/")
    def page(request: Request, ctx: Context) -> Response:
        return Response.json(ctx.convert("signup"))

    running: Running = serve(edge)
    assert httpx.get(running.url).json() is False
    assert view(running) == {"experiments": [], "kept": False, "lost": 0}


def test_visitors_are_those_of_the_id_that_decides(serve: Any) -> None:
    edge = Edge("shop")
    experiment = Experiment("home", variants={"only": 1}, by="sub", conversion="POST /buy")
    edge.route("/*", respond="x", auth=Jwt.hs256(Secret.literal(SECRET)), experiment=experiment)
    running: Running = serve(edge)
    for number in range(6):
        claims = {"sub": f"user {number % 3}", "exp": time.time() + 60}
        token = pyjwt.encode(claims, SECRET, "HS256")
        # One browser for all of them: its address and name are not what counts.
        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{running.url}/", headers=headers).status_code == 200
        if number == 0:
            httpx.post(f"{running.url}/buy", headers=headers)
            httpx.get(f"{running.url}/buy", headers=headers)
    want = {"only": (3, {"request": 1})}
    wait_until(lambda: counts(running) == want, what=f"{want} in place of {counts(running)}")


def test_a_visitor_of_two_variants_is_left_out_and_a_new_salt_begins_anew(serve: Any) -> None:
    edge: Running = serve(shop())
    for variant in HALVES:
        httpx.get(edge.url, headers={"cookie": f"ab-variant={variant}"})
    wait_until(lambda: view(edge)["experiments"][0].get("mixed") == 1, what="a mixed visitor")
    assert counts(edge) == {"control": (0, {}), "treatment": (0, {})}
    edge.reload(shop(salt="second run"))
    assert counts(edge) == {}
    httpx.get(edge.url, headers={"cookie": "ab-variant=control"})
    wait_until(lambda: counts(edge) == {"control": (1, {})}, what="a visitor of the new run")


def test_the_metrics_have_the_visitors(serve: Any) -> None:
    edge: Running = serve(shop(variants={"only": 1}))
    httpx.get(edge.url)
    want = 'edgerouter_experiment_visitors{experiment="home",variant="only"} 1'
    wait_until(lambda: want in httpx.get(f"{edge.admin_url}/metrics").text.splitlines(), what=want)
    seen = 'edgerouter_experiment_sightings_total{result="counted"} 1'
    wait_until(lambda: seen in httpx.get(f"{edge.admin_url}/metrics").text, what=seen)
    assert counts(edge) == {"only": (1, {})}


def test_a_file_that_cannot_keep_counts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "counts"
    file.write_text("something else\n")
    with pytest.raises(ConfigError, match=r"these are no counts of experiments: .*; move it away"):
        served(shop(), file)
    assert file.read_text() == "something else\n"
    with pytest.raises(ConfigError, match="give a file in a folder"):
        served(shop(), tmp_path / "nothing" / "counts")
    file.unlink()
    with served(shop(), file), pytest.raises(ConfigError, match="another edge uses it"):
        served(shop(), file)


@pytest.mark.parametrize("conversion", ["checkout", "post /a", "POST", "POST  /a", "/a b", 7])
def test_what_is_no_request_is_refused(conversion: Any) -> None:
    with pytest.raises(ConfigError, match=r"conversion.*must be a path"):
        Experiment("home", variants=HALVES, conversion=conversion)


def report(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["experiments", "report", *arguments], env={"NO_COLOR": "1", "COLUMNS": "200"})
    return done.exit_code, done.output


def test_the_report_reads_the_counts_of_the_edge(serve: Any) -> None:
    edge: Running = serve(shop(variants={"control": 1, "treatment": 1}, by="header:x-id"))
    with httpx.Client(base_url=edge.url) as client:
        for number in range(120):
            client.get("/", headers={"x-id": str(number)})
            if number % 4 == 0:
                client.get("/thanks", headers={"x-id": str(number)})
        client.get("/signup?value=3", headers={"x-id": "0"})
    wait_until(lambda: "signup" in view(edge)["experiments"][0].get("goals", ()), what="the last conversion")
    admin = edge.admin_url or ""
    code, output = report("--admin", admin, "--json")
    found = json.loads(output)
    assert code == 0 and found["goal"] == "request" and found["goals"] == ["request", "signup"]
    assert {row["variant"]: (row["visitors"], row["conversions"]) for row in found["variants"]} == {
        name: (visitors, of["request"]) for name, (visitors, of) in counts(edge).items()
    }
    assert sum(row["visitors"] for row in found["variants"]) == 120 and found["split"]["weights"] == HALVES
    assert sum(row.get("value", 0) for row in found["variants"]) == 3.0
    code, output = report("--admin", admin, "--experiment", "home", "--goal", "signup")
    assert code == 0 and "The goal is signup" in output and "--experiments-file keeps them" in output
    # Two edges together; one that is named twice is one.
    for other, visitors in ((admin.replace("127.0.0.1", "localhost"), 240), (admin, 120)):
        code, output = report("--admin", admin, "--admin", other, "--json")
        assert sum(row["visitors"] for row in json.loads(output)["variants"]) == visitors
    for wrong, words in [
        (("--experiment", "away"), "is not in the plan; there are home"),
        (("--goal", "away"), "reached are request, signup"),
        (("--control", "away"), "is not a variant that was met; there are"),
        (("--conversion", "/thanks"), "needs LOG"),
    ]:
        code, output = report("--admin", admin, *wrong)
        assert code == 1 and words in output, output


SITE = """
from edgerouter import Edge, Experiment, Isolation, Response

edge = Edge("shop")


@edge.function("/signup", isolation=Isolation(processes=1))
def signup(request, ctx):
    ctx.convert("signup", 2)
    return Response.text("welcome")


edge.route("/*", respond="x", experiment=Experiment("home", variants={"only": 1}))
"""


def test_an_isolated_function_converts_too(serve: Any, tmp_path: Path) -> None:
    from edgerouter.application import FileApplication

    file = tmp_path / "isolated_shop.py"
    file.write_text(SITE)
    edge: Running = serve(FileApplication(str(file)).load())
    httpx.get(edge.url)
    assert httpx.get(f"{edge.url}/signup", timeout=20).text == "welcome"
    wait_until(lambda: counts(edge) == {"only": (1, {"signup": 1})}, what="the conversion")


def test_an_edge_ends_when_its_file_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with served(shop(), folder / "counts") as server:
        httpx.get(server.urls[0])
        wait_until(lambda: sum(visitors for visitors, _ in counts(server).values()) == 1, what="a visitor")
        shutil.rmtree(folder)
        assert server.stop() and not folder.exists()
