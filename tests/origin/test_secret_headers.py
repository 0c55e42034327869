"""Secrets in the fields that every request to an origin carries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from edgerouter import ConfigError, Edge, env, secret_file
from edgerouter.testing import Running

from ..conftest import Serve
from ..origins import Origin, Reply


def test_a_secret_reaches_the_origin_and_nothing_else(
    origin: Origin,
    serve: Serve,
    client_for: Callable[[Running], httpx.Client],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ORIGIN_TOKEN", "Bearer hunter2")
    file = tmp_path / "key"
    file.write_text("hunter3\n")
    origin.default = Reply(200, {}, "x")
    edge = Edge("test")
    made = edge.origin(
        "first",
        origin.url,
        headers={"Authorization": env("ORIGIN_TOKEN"), "X-Keys": [secret_file(file), "plain"]},
    )
    edge.route("/*", to=made)
    assert "hunter" not in f"{made!r} {edge.to_dict()!r}"
    client = client_for(serve(edge))
    response = client.get("/", headers={"X-Keys": "forged"})
    assert origin.requests[0].get("authorization") == "Bearer hunter2"
    assert origin.requests[0].all("x-keys") == ["hunter3", "plain"]
    origin.kill()
    client.get("/other")
    out, err = capfd.readouterr()
    assert "hunter" not in out + err + str(response.headers)


def test_one_that_cannot_be_read_or_sent_is_a_problem_with_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("TWO_LINES", "hunter2\nX-Evil: 1")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", "http://x", headers={"X-A": env("NOT_SET"), "X-B": env("TWO_LINES")}))
    with pytest.raises(ConfigError) as caught:
        edge.compile()
    text = str(caught.value)
    assert "headers.X-A" in text and "environment variable NOT_SET: is not set" in text
    assert "headers.X-B" in text and "line breaks" in text and "hunter2" not in text


def test_only_headers_for_origins_take_secrets() -> None:
    with pytest.raises(ConfigError, match="must be a string"):
        Edge("test").route("/*", respond="x", headers={"response": {"set": {"X-A": env("A")}}})


@pytest.mark.parametrize(
    "url", ["http://me:hunter2@a.example", "ftp://me:hunter2@a.example", "me:hunter2@a.example", "http://:hunter2@"]
)
def test_a_url_with_a_password_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Edge("test").origin("o", url)
    assert caught.value.problems[0].value is None and "hunter" not in str(caught.value)
    with pytest.raises(ConfigError) as compiled:
        Edge.from_dict({"name": "test", "origins": [{"name": "o", "url": url}], "routes": []}).compile()
    assert "url" in str(compiled.value) and "hunter" not in str(compiled.value)
