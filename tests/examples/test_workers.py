"""The workers of the reference article, ported: each example does what its original does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from edgerouter.testing import Client, Received, Reply

from ..images.pictures import coded, opened, photo, psnr
from ..origins import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "a secret of thirty-two bytes or more"


def shown(request: Received) -> Reply:
    names = ("x-user-id", "x-user-role", "x-variant", "x-edge-function")
    return Reply.json({"path": request.path, **{name: request.get(name) for name in names}})


def example(name: str) -> Client:
    return Client(EXAMPLES / name / "app.py", origins={"site": shown})


def test_the_cache_worker_keeps_what_it_fetched() -> None:
    with example("cache_api") as client:
        first = client.get("/static/logo.svg")
        assert first.json()["path"] == "/static/logo.svg" and "age" not in first.headers
        wait_until(lambda: "age" in client.get("/static/logo.svg").headers, what="a response from the cache")
        before = client.origins["site"].count()
        assert client.get("/static/logo.svg").json() == first.json()
        assert client.origins["site"].count() == before
        assert client.post("/static/logo.svg").status_code == 405
        other = client.get("/static/logo.svg?v=2", headers={"cookie": "session=1"})
        assert "age" not in other.headers
        received = client.origins["site"].requests[-1]
        assert (received.path, received.query_string, received.get("cookie")) == ("/static/logo.svg", "v=2", None)


def test_the_authentication_worker_forwards_who_the_user_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    with example("jwt_auth") as client:
        claims = {"userId": "ada", "role": "editor", "exp": client.clock.now() + 60}
        right = {"authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}
        wrong = {"authorization": f"Bearer {jwt.encode(claims, SECRET + '!', 'HS256')}"}
        assert client.get("/").status_code == 401 and client.get("/", headers=wrong).status_code == 403
        assert client.origins["site"].count() == 0
        found = client.get("/", headers={**right, "x-user-role": "admin"}).json()
        assert (found["x-user-id"], found["x-user-role"]) == ("ada", "editor")
        assert client.get("/whoami", headers=right).json() == {"user": "ada", "role": "editor"}
        client.clock.advance(600)
        assert client.get("/whoami", headers=right).status_code == 403


def test_the_lambda_function_assigns_a_variant_and_forwards_it() -> None:
    with example("lambda_edge") as client:
        first = client.get("/home")
        assert (first.status_code, first.headers["location"]) == (302, "/home")
        assert client.cookies["variant"] in ("a", "b")
        found = client.get("/home").json()
        assert (found["x-variant"], found["x-edge-function"]) == (client.cookies["variant"], "processed")


def test_the_users_worker_reads_and_writes_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Client(EXAMPLES / "users" / "app.py") as client:
        with client.edge.bindings() as env:
            env.DB.exec((EXAMPLES / "users" / "migrations" / "DB" / "0001_users.sql").read_text())
        ann = {"email": "ann@example.com", "name": "Ann"}
        assert client.post("/api/users", json=ann).json() == {"success": True}
        assert client.post("/api/users", json=ann).status_code == 409
        assert [it["name"] for it in client.get("/api/users").json()] == ["Ann"]
        assert client.post("/api/users", content=b"{").status_code == 400


def test_the_image_worker_redirects_to_a_variant_of_the_image() -> None:
    picture = photo(1_000, 750)
    fresh = {"content-type": "image/jpeg", "cache-control": "max-age=600"}
    served = Reply(200, fresh, coded(picture))
    with Client(EXAMPLES / "images" / "app.py", origins={"site": lambda _: served}) as client:
        first = client.get("/image?url=/photos/cat.jpg")
        assert (first.status_code, first.headers["location"]) == (302, "/_image?url=%2Fphotos%2Fcat.jpg&w=800&f=webp")
        variant = client.get(first.headers["location"])
        assert variant.headers["content-type"] == "image/webp"
        assert psnr(opened(variant.content), picture.resize((800, 600))) > 33
        assert client.get(first.headers["location"]).content == variant.content
        assert client.origins["site"].count() == 1
        assert client.get(client.get("/image?url=/photos/cat.jpg&w=801").headers["location"]).status_code == 400


def test_the_ab_test_changes_while_it_runs_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTS_URL", f"sqlite:{tmp_path}/experiments.db")
    monkeypatch.setenv("CONFIG_INTERVAL", "0.02")
    with example("experiment") as client:

        def headline(variant: str) -> str:
            client.cookies.clear()
            found: dict[str, str] = client.get("/headline", headers={"cookie": f"ab-variant={variant}"}).json()
            return f"{found['variant']}: {found['headline']}"

        first = client.get("/")
        assert first.headers["set-cookie"].endswith("; Path=/; Max-Age=2592000; SameSite=Lax")
        assert (headline("control"), headline("treatment")) == ("control: Welcome", "treatment: Welcome")
        change = [sys.executable, str(EXAMPLES / "experiment" / "app.py")]
        subprocess.run(
            [*change, "treatment", '{"weight": 90, "payload": {"headline": "New!"}}'], check=True, timeout=30
        )
        wait_until(lambda: headline("treatment") == "treatment: New!")
        subprocess.run([*change, "control", '{"enabled": false}'], check=True, timeout=30)
        wait_until(lambda: headline("control") == "treatment: New!")


@pytest.mark.parametrize("name", ["cache_api", "experiment", "images", "jwt_auth", "lambda_edge", "latency", "users"])
def test_a_readme_has_the_original_beside_the_port(name: str) -> None:
    text = (EXAMPLES / name / "README.md").read_text()
    assert "| in the article's " in text and "| here |" in text and len(text.splitlines()) <= 12


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in EXAMPLES.glob("*/app.py")), ids=lambda path: path.name
)
def test_an_example_says_in_a_few_lines_what_it_is(folder: Path) -> None:
    lines = (folder / "README.md").read_text().splitlines()
    assert lines[0].startswith("# ") and len(lines) <= 12
    for link in re.findall(r"\]\((.*?)\)", "\n".join(lines)):
        assert (folder / link).exists()
