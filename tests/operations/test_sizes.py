"""Sizes are written with units wherever a size can stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgerouter import CacheLimits, Edge, HttpLimits, Limits
from edgerouter.errors import ConfigError


def test_a_size_in_python_may_have_a_unit() -> None:
    limits = Limits(cache=CacheLimits(memory_bytes="1GB"), http=HttpLimits(body_bytes="512 MiB", url_bytes="8k"))
    assert (limits.cache.memory_bytes, limits.http.body_bytes, limits.http.url_bytes) == (10**9, 512 << 20, 8_192)
    with pytest.raises(ConfigError, match=r"HttpLimits\.body_bytes.*10GiB"):
        HttpLimits(body_bytes="much")
    with pytest.raises(ConfigError, match=r"HttpLimits\.connections.*whole number"):
        HttpLimits(connections="1k")  # type: ignore[arg-type]


def test_a_size_in_a_plan_file_may_have_a_unit(tmp_path: Path) -> None:
    plan = tmp_path / "site.json"
    body = {
        "version": 1,
        "name": "t",
        "limits": {"cache": {"memory_bytes": "64MiB"}, "http": {"body_bytes": "1GB"}},
        "disk_cache": {"path": str(tmp_path / "disk"), "size": "10GiB"},
        "routes": [{"pattern": "/*", "respond": {"body": "x"}}],
    }
    plan.write_text(json.dumps(body))
    Edge.from_file(plan).compile()
    body["limits"] = {"http": {"body_bytes": "much", "connections": "1k"}}
    plan.write_text(json.dumps(body))
    with pytest.raises(ConfigError) as refused:
        Edge.from_file(plan).compile()
    assert {problem.path for problem in refused.value.problems} == {"limits.http.body_bytes", "limits.http.connections"}


@pytest.mark.parametrize(("name", "text"), [("site.toml", "a = " + "[" * 5_000), ("site.json", '{"a":' * 50_000)])
def test_a_plan_file_that_is_nested_without_end_is_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="is not valid"):
        Edge.from_file(tmp_path / name)
