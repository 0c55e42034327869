"""``edgerouter replay``: forms of logs, assumptions, costs, the terminal, and files of people who wish it ill."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edgerouter.cli.commands import app as commands
from edgerouter.replaying.order import FORMATS

from ..processes import command, on_terminal

DOCS = Path(__file__).parents[2] / "docs"

APP = """
from edgerouter import Edge, Jwt, cache

edge = Edge("test")
site = edge.origin("site", "http://127.0.0.1:9")
edge.route("/*", to=site, cache=cache.CachePolicy(query=["page"]))
edge.route("/fixed/*", to=site, cache=cache.CachePolicy(ttl=60))
edge.route("/members/*", to=site, auth=Jwt.hs256("0123456789abcdef0123456789abcdef"))
edge.route("/old", redirect="/new")
edge.route("/only-https", to=site, viewer="https-only")
"""

LINE = '192.0.2.7 - - [26/Nov/2026:16:{at} +0000] "{method} {target} HTTP/1.1" {status} {size} "-" "-"'


@pytest.fixture
def app(tmp_path: Path) -> Path:
    file = tmp_path / "app.py"
    file.write_text(APP)
    return file


def line(target: str, *, at: int = 0, status: int = 200, size: int = 1_000, method: str = "GET") -> str:
    return LINE.format(at=f"{at // 60:02d}:{at % 60:02d}", method=method, target=target, status=status, size=size)


def replayed(app: Path, lines: list[str], *options: str) -> dict[str, Any]:
    log = app.parent / "access.log"
    log.write_text("".join(f"{text}\n" for text in lines))
    done = invoked(log, "--app", str(app), "--json", *options)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def invoked(*arguments: str | Path) -> Result:
    """The command in this process: starting one takes longer than most of the runs."""
    return CliRunner().invoke(commands, ["replay", *map(str, arguments)])


def outcomes(found: dict[str, Any]) -> dict[str, int]:
    return {name: counts["requests"] for name, counts in found["tiers"][-1]["outcomes"].items()}


def test_the_pages_name_every_form() -> None:
    for page in ("replay.md", "cli.md"):
        text = (DOCS / page).read_text()
        assert all(f"`{name}`" in text for name in FORMATS), page


def test_routes_keys_and_lifetimes_are_those_of_the_application(app: Path) -> None:
    found = replayed(
        app,
        [
            line("/a"),
            line("/a?utm=1"),  # the key has only ?page
            line("/a?page=2"),
            line("/fixed/1", at=1),
            line("/fixed/1", at=60),
            line("/a", at=299),
            line("/a", at=301),  # 300 s are assumed
            line("/fixed/1", at=400),  # the policy says 60
            line("/a", method="POST", at=401),
            line("/a", at=402),
            line("/old", status=302, at=402),
            line("/members/1", at=402),
            line("/", at=403, status=500),
            line("/a", at=300),
        ],
        "--scheme",
        "http",
    )
    assert outcomes(found) == {"hit": 4, "miss": 5, "revalidated": 2, "pass": 2, "redirect": 1}
    assert found["unlike"]["credentials"] == {"requests": 1, "examples": ["/members/1"]}
    assert found["out_of_order"] == 1


def test_a_log_of_the_past_has_its_own_time(app: Path) -> None:
    lines = [line("/a", at=at) for at in (0, 10, 299, 300, 301)]
    assert outcomes(replayed(app, lines)) == {"hit": 3, "miss": 1, "revalidated": 1}
    assert outcomes(replayed(app, lines, "--assume", "/b=9", "--assume", "/*=public, max-age=5")) == {
        "hit": 2,
        "miss": 1,
        "revalidated": 2,
    }
    assert outcomes(replayed(app, lines, "--assume", "/a=no-store")) == {"miss": 5}


def test_the_log_says_what_a_response_says_of_itself(app: Path) -> None:
    def logged(**fields: object) -> str:
        usual = {"time": "2026-11-26T16:00:00Z", "method": "GET", "url": "/a", "status": 200, "bytes": 7}
        return json.dumps({**usual, **fields})

    found = replayed(app, [logged(cache_control="private")] * 3)
    assert (outcomes(found), found["assumed_lifetimes"]) == ({"miss": 3}, 0)
    assert outcomes(replayed(app, [logged(cache="miss", reason="no-store")] * 3)) == {"miss": 3}
    assert outcomes(replayed(app, [logged()] * 3)) == {"hit": 2, "miss": 1}
    assert outcomes(replayed(app, [logged(host=host) for host in "aba"])) == {"hit": 1, "miss": 2}


def test_requests_that_the_application_refuses_are_shown(app: Path) -> None:
    found = replayed(app, [line("/only-https"), line("/only-https")], "--scheme", "http")
    assert outcomes(found) == {"error": 2}
    assert found["unlike"]["refused"]["examples"] == ["/only-https"]


def test_a_larger_cache_hits_more_and_costs_less(app: Path) -> None:
    lines = [line(f"/{number % 60}", size=50_000, at=number // 10) for number in range(600)]
    prices = app.parent / "prices.toml"
    prices.write_text('name = "p"\n[origin]\nper_gb = 1\n[egress]\nper_gb = 2\n')
    options = ("--memory", "1MiB", "--memory", "8MiB", "--memory", "2MiB", "--prices", str(prices))
    found = replayed(app, lines, *options)
    assert [tier["capacity"] >> 20 for tier in found["tiers"]] == [1, 2, 8]
    ratios = [tier["hit_ratio"] for tier in found["tiers"]]
    costs = [tier["month"]["total"] for tier in found["tiers"]]
    assert ratios == sorted(ratios)
    assert costs == sorted(costs, reverse=True)
    assert ratios[-1] == pytest.approx(0.9)
    assert found["tiers"][-1]["origin_bytes"] == 60 * 50_000
    times = 365.2425 / 12 * 86_400 / 59
    assert costs[-1] == pytest.approx((60 * 50_000 + 2 * 600 * 50_000) * times / 1e9)
    half = replayed(app, lines, *options, "--sample", "2")
    assert half["tiers"][-1]["hit_ratio"] == pytest.approx(0.9)
    assert half["tiers"][-1]["capacity"] == 8 << 20


def test_logs_may_be_compressed_and_several(app: Path) -> None:
    first, second = app.parent / "1.gz", app.parent / "2.log"
    first.write_bytes(gzip.compress(f"{line('/a')}\n".encode()) + gzip.compress(f"{line('/b')}\n".encode()))
    second.write_text(line("/a", at=9))  # without an end
    done = invoked(first, second, "--app", app, "--json")
    assert outcomes(json.loads(done.stdout)) == {"hit": 1, "miss": 2}


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (b"", [], "the logs have no request"),
        (b"hello\n", [], "is no access log"),
        (os.urandom(300_000), [], "is no access log"),
        (b"x" * 3_000_000, [], "is no access log"),
        (b'{"time":' + b"[" * 60_000, [], "is no access log"),
        (b"\x1f\x8b\x08garbage", [], "cannot be read"),
        (gzip.compress(b"\n" * 1_000_000)[:500], [], "cannot be read"),
        (gzip.compress(b"A" * 50_000_000), [], "is no access log"),
        (line("/").encode(), ["--format", "elb"], "of the form elb"),
        (line("/").encode(), ["--format", "apache"], "must be one of combined, json"),
        (line("/").encode(), ["--memory", "12parsecs"], "must be bytes, or a number with a unit"),
        (line("/").encode(), ["--memory", "1k"], "must be from 1MiB"),
        (line("/").encode(), ["--assume", "max-age=3"], "must be /PATTERN=CACHE-CONTROL"),
        (line("/").encode(), ["--assume", "/*=maxage=3"], "has no directive that a cache obeys"),
        (line("/").encode(), ["--assume", "/*=a\nb"], "is not a value of Cache-Control"),
        (line("/").encode(), ["--prices", "none"], "No such file"),
    ],
    ids=range(16),
)
def test_what_cannot_be_replayed_ends_in_one_line(app: Path, content: bytes, options: list[str], says: str) -> None:
    log = app.parent / "hostile.log"
    log.write_bytes(content)
    done = invoked(log, "--app", app, *options)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr[:500]
    assert says in done.stderr
    assert done.stderr.rstrip("\n").isprintable()


def test_lines_that_are_not_understood_are_counted(app: Path) -> None:
    lines = [line("/a"), "noise", "x" * 70_000, line("/a", status=42), line("/\\x00"), line("/a")]
    found = replayed(app, lines)
    assert (found["requests"], found["not_understood"], found["unusable"]) == (3, 3, 1)
    assert outcomes(found) == {"hit": 1, "miss": 1}


def test_a_pipe_gets_plain_text_and_no_progress(app: Path) -> None:
    log = app.parent / "access.log"
    log.write_text(line("/a"))
    done = command("replay", str(log), "--app", str(app), "--memory", "8MiB")
    assert (done.returncode, done.stderr) == (0, "")
    assert "assumed: successful responses" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal_gets_a_bar_and_colour_unless_no_color_is_set(app: Path, plain: bool) -> None:
    log = app.parent / "access.log"
    log.write_text("".join(f"{line('/a')}\n" for _ in range(50_000)))
    plainly = {"NO_COLOR": "1"} if plain else {}
    code, text = on_terminal("replay", str(log), "--app", str(app), "--memory", "8MiB", columns=120, **plainly)
    assert code == 0
    assert " lines" in text
    assert "█" in text
    assert ("\x1b[32m" in text) is not plain
