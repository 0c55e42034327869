"""``edgerouter purge``: what it prints, where, and its exit codes."""

from __future__ import annotations

import json

import pytest

from edgerouter import Edge
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..processes import command
from ..responses import is_hit
from .conftest import Shop


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (["http://shop.example/a"], ["/a"]),
        (["--path", "/c*", "--path", "/a"], ["/a", "/css/x.css"]),
        (["--host", "shop.example"], ["/a", "/b", "/css/x.css"]),
        (["--tag", "t"], ["/a", "/b", "/css/x.css"]),
        (["--all"], ["/a", "/b", "/css/x.css"]),
    ],
)
def test_the_command_purges_and_says_what_matched(make_shop: object, arguments: list[str], gone: list[str]) -> None:
    shop: Shop = make_shop(headers={"Cache-Tag": "t"})  # type: ignore[operator]
    shop.fill("/a", "/b", "/css/x.css")
    dry = command("purge", *arguments, "--dry-run", "--admin", shop.admin)
    number = f"{len(gone)} object{'' if len(gone) == 1 else 's'}"
    assert dry.returncode == 0 and dry.stdout.startswith(f"would match {number}")
    assert all(f"shop.example{path}" in dry.stdout for path in gone)
    done = command("purge", *arguments, "--admin", shop.admin.removeprefix("http://"))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"completed, {number}" in done.stdout and "\033" not in done.stdout
    assert [path for path in ("/a", "/b", "/css/x.css") if not is_hit(shop.get(path))] == gone


def test_nothing_matched_is_a_warning_and_not_a_failure(shop: Shop) -> None:
    done = command("purge", "--tag", "none", EDGEROUTER_ADMIN=shop.admin)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: nothing in the store matched")


def test_json_is_for_programs_and_a_reference_makes_it_one_purge(shop: Shop) -> None:
    shop.fill("/a")
    once, again = (
        command("purge", "--all", "--soft", "--reference", "r", "--json", "--admin", shop.admin) for _ in range(2)
    )
    purge = json.loads(once.stdout)
    assert purge["status"] == "Completed" and purge["soft"] and purge["matched"]["objects"] == 1
    assert json.loads(again.stdout)["id"] == purge["id"]
    assert (purge["new"], json.loads(again.stdout)["new"]) == (True, False)
    shop.fill("/b")
    said = command("purge", "--all", "--soft", "--reference", "r", "--admin", shop.admin).stdout
    assert "this reference was used before, at 2" in said and "in effect for every request" not in said
    assert is_hit(shop.get("/b"))


def test_mistakes_have_their_own_exit_codes(shop: Shop) -> None:
    nothing = command("purge", "--admin", shop.admin)
    assert nothing.returncode == 2 and "--path" in nothing.stderr
    wrong = command("purge", "/a", "--admin", shop.admin)
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: urls[0]: ")
    dead = command("purge", "--all", "--admin", "http://127.0.0.1:1")
    assert dead.returncode == 1 and "127.0.0.1:1: nothing listens here; start the edge with --admin" in dead.stderr
    other = command("purge", "--all", "--admin", shop.origin.url)
    assert other.returncode == 1 and "is it an edge's admin listener?" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_token_comes_from_the_environment_and_is_never_shown() -> None:
    edge = Edge("shop")
    edge.route("/*", respond="x")
    settings = Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", admin_token="sesame", workers=1)
    with Server.start(edge, settings) as server:
        admin = server.admin_url or ""
        without = command("purge", "--all", "--admin", admin)
        assert without.returncode == 1 and "--admin-token-env" in without.stderr
        right = command("purge", "--all", "--admin", admin, "--admin-token-env", "TOKEN", TOKEN="sesame")
        assert right.returncode == 0
        wrong = command("purge", "--all", "--admin", admin, "--token-env", "TOKEN", TOKEN="other")
        assert wrong.returncode == 1 and "other" not in wrong.stderr
        for torn in ("sesame\n", "芝麻"):
            refused = command("purge", "--all", "--admin", admin, "--token-env", "TOKEN", TOKEN=torn)
            assert refused.returncode == 1 and torn.strip() not in refused.stderr
            assert refused.stderr.startswith("error: --admin-token-env: 'TOKEN': must be printable ASCII")
        unset = command("purge", "--all", "--admin", admin, "--token-env", "TOKEN")
        assert unset.returncode == 1 and "TOKEN" in unset.stderr
