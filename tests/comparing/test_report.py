"""``edgerouter experiments report``: visitors and conversions from the log of a real edge."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from edgerouter import Edge, Experiment
from edgerouter.cli.commands import app
from edgerouter.comparing import visitors
from edgerouter.comparing.visitors import Conversion, Experience
from edgerouter.errors import ConfigError
from edgerouter.monitoring.lines import LogLine, read
from edgerouter.server import Server
from edgerouter.settings import Settings


def line(client: str, url: str, variant: str = "", method: str = "GET", status: int = 200) -> str:
    fields = {"time": "", "client": client, "method": method, "url": url, "status": status, "user_agent": "b"}
    return json.dumps({**fields, "variant": f"home:{variant}"} if variant else fields)


def report(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["experiments", "report", *arguments], env={"NO_COLOR": "1", "COLUMNS": "200"})
    return done.exit_code, done.output


@pytest.mark.parametrize("form", ["json", "combined"])
def test_the_log_of_an_edge_has_visitors_and_their_conversions(tmp_path: Path, form: str) -> None:
    edge = Edge("shop")
    edge.route("/thanks", respond="thank you")
    edge.route("/*", respond="x", experiment=Experiment("home", variants={"control": 1, "treatment": 1}))
    log = tmp_path / "access.log"
    settings = Settings(listen="127.0.0.1:0", workers=1, access_log=str(log), access_log_format=form)  # type: ignore[arg-type]
    want: Counter[str] = Counter()
    with Server.start(edge, settings) as server:
        for number in range(40):
            with httpx.Client(base_url=server.urls[0], headers={"user-agent": f"browser {number}"}) as client:
                client.get("/")
                variant = client.cookies["ab-variant"]
                client.get("/again")
                want[variant] += 1
                if number % 4 == 0:
                    want[f"{variant} converted"] += 1
                    client.get("/thanks?order=1")
                    client.get("/thanks")
    code, output = report(str(log), "--experiment", "home", "--conversion", "/thanks", "--json")
    assert code == 0, output
    rows = {row["variant"]: row for row in json.loads(output)["variants"]}
    for variant in ("control", "treatment"):
        assert rows[variant]["visitors"] == want[variant]
        assert rows[variant]["conversions"] == want[f"{variant} converted"]


def written(folder: Path, rates: dict[str, float], visitors: int = 4_000, shares: int = 2) -> Path:
    chance = random.Random(5)
    lines = []
    for number in range(visitors):
        variant = list(rates)[0 if chance.random() * shares < 1 else 1]
        lines.append(line(f"10.0.{number // 256}.{number % 256}", "/", variant))
        if chance.random() < rates[variant]:
            lines.append(line(f"10.0.{number // 256}.{number % 256}", "/checkout", method="POST"))
    log = folder / "access.log.gz"
    log.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    return log


COMMON = ("--experiment", "home", "--conversion", "POST /checkout")


def test_a_difference_is_found_and_named(tmp_path: Path) -> None:
    log = written(tmp_path, {"control": 0.05, "treatment": 0.12})
    code, output = report(str(log), *COMMON)
    assert code == 0 and "treatment converts more than control" in output


def test_no_difference_is_found_where_there_is_none(tmp_path: Path) -> None:
    code, output = report(str(written(tmp_path, {"control": 0.08, "treatment": 0.08})), *COMMON)
    assert code == 0 and "No variant differs" in output


def test_a_wrong_split_is_a_warning_and_exit_code_1(tmp_path: Path) -> None:
    log = written(tmp_path, {"control": 0.1, "treatment": 0.1}, shares=4)
    code, output = report(str(log), *COMMON)
    assert code == 1 and "not split by the weights" in output
    assert report(str(log), *COMMON, "--weights", "control=25,treatment=75")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--conversion", "checkout"), "must be a path"),
        (("--weights", "a"), "must be variants and weights"),
        (("--control", "x"), "is not a variant that was met"),
        (("--experiment", "other"), "no line of the logs"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, arguments: tuple[str, str], message: str) -> None:
    log = tmp_path / "access.log"
    log.write_text(line("10.0.0.1", "/", "a") + "\nnonsense\n")
    code, output = report(str(log), *COMMON, *arguments)
    assert code == 1 and message in output
    assert report(str(tmp_path / "none.log"), *COMMON)[0] == 1


def test_a_log_whose_compression_is_broken_ends_in_one_line(tmp_path: Path) -> None:
    log = tmp_path / "access.log.gz"
    whole = gzip.compress(line("10.0.0.1", "/", "a").encode() * 50)
    for broken in (whole[:-9], whole[:20] + bytes(80), b"{}"):
        log.write_bytes(broken)
        code, output = report(str(log), *COMMON)
        assert (code, len(output.splitlines())) == (1, 1) and "access.log.gz" in output


def experience(*lines: str) -> Experience:
    made = Experience("home", Conversion.read("POST /checkout*"))
    for found in filter(None, map(read, lines)):
        made.add(found)
    return made


def counts(found: Experience) -> dict[str, Any]:
    return {name: (found.visitors[name], found.conversions[name]) for name in found.variants}


def test_a_visitor_counts_once_and_a_conversion_only_after_an_exposure() -> None:
    buy = line("1.1.1.1", "/checkout/7?x=1", method="POST")
    found = experience(buy, line("1.1.1.1", "/", "a"), line("1.1.1.1", "/", "a"), buy, buy)
    assert counts(found) == {"a": (1, 1)}
    refused = line("1.1.1.1", "/checkout", method="POST", status=402)
    assert counts(experience(line("1.1.1.1", "/", "a"), refused)) == {"a": (1, 0)}
    assert counts(experience(line("1.1.1.1", "/", "a"), line("1.1.1.1", "/checkout"))) == {"a": (1, 0)}


def test_a_visitor_of_two_variants_is_in_neither() -> None:
    buy = line("1.1.1.1", "/checkout", method="POST")
    found = experience(line("1.1.1.1", "/", "a"), buy, line("1.1.1.1", "/", "b"), buy, line("1.1.1.1", "/", "a"))
    assert (counts(found)["a"], found.visitors["b"], found.mixed) == ((0, 0), 0, 1)


def test_memory_is_bounded_and_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "MOST_VISITORS", 2)
    found = experience(*(line(f"10.9.8.{number}", "/", "a") for number in range(5)))
    assert (found.visitors["a"], found.left_out) == (2, 3)
    assert "10.9.8" not in repr(found)


def test_a_line_has_its_variant_browser_and_user() -> None:
    combined = (
        '1.2.3.4 - ada [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "b \\"x" '
        'host="h" variant="home:a" time=0.1'
    )
    found = read(combined)
    assert isinstance(found, LogLine)
    assert (found.user, found.agent, found.variant, found.seconds) == ("ada", 'b \\"x', "home:a", 0.1)
    with pytest.raises(ConfigError):
        Conversion.read("")
