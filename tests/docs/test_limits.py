"""The bounds of an edge: Python's structs, the core, the documentation and the golden plans agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgerouter import ConfigError, Edge, HttpLimits, Limits

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "rust" / "core" / "src" / "plan" / "compile"
ROW = re.compile(r"^\|[^|]*\| `limits\.(\w+)\.(\w+)` \| ([^|]*) \|", re.MULTILINE)

Groups = dict[str, dict[str, Any]]


def names(groups: Groups) -> dict[str, set[str]]:
    return {group: set(fields) for group, fields in groups.items()}


def test_struct_core_documentation_and_golden_plans_have_the_same_limits_and_defaults() -> None:
    defaults: Groups = {
        group: msgspec.structs.asdict(values) for group, values in msgspec.structs.asdict(Limits()).items()
    }
    # A test of the core compiles this file and compares the result with the core's own defaults.
    assert json.loads((GOLDEN / "default_limits.json").read_text()) == defaults
    golden: Groups = json.loads((GOLDEN / "every_field.json").read_text())["limits"]
    assert names(golden) == names(defaults)
    assert not [
        (group, name) for group in golden for name in golden[group] if golden[group][name] == defaults[group][name]
    ]
    documented: Groups = {}
    for group, name, default in ROW.findall((ROOT / "docs" / "limits.md").read_text()):
        documented.setdefault(group, {})[name] = default
    assert names(documented) == names(defaults)
    for group, fields in defaults.items():
        for name, default in fields.items():
            shown = re.match(r"[\d,]*\d", documented[group][name])
            assert default is None or (shown and float(shown[0].replace(",", "")) == default), f"{group}.{name}"
    unknown = {"version": 1, "name": "a", "limits": {group: {"unknown": 1} for group in defaults}}
    with pytest.raises(ConfigError) as refused:
        Edge.from_dict(unknown).compile()
    read = {it.path.split(".")[1]: set(it.message.split(" are ")[1].split(", ")) for it in refused.value.problems}
    assert read == names(defaults)


@pytest.mark.parametrize(
    ("flat", "grouped"),
    [
        ("head_bytes", "http.head_bytes"),
        ("memory_cache_bytes", "cache.memory_bytes"),
        ("function_timeout", "functions.timeout"),
        ("purge_scopes", "purge.scopes"),
        ("log_queue_bytes", "log.queue_bytes"),
    ],
)
def test_a_limit_outside_its_group_is_refused_with_its_place(flat: str, grouped: str) -> None:
    with pytest.raises(ConfigError, match=rf"Limits\.{flat}: no such field; did you mean {grouped}\?"):
        Limits(**{flat: 5})  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=rf"limits\.{flat}: is not a field; the fields here are http, http2, origins, "
    ):
        Edge.from_dict({"version": 1, "name": "a", "limits": {flat: 5}}).compile()


def test_a_group_may_be_a_mapping_of_the_plan() -> None:
    assert Limits(http={"head_bytes": "8KiB"}).http == HttpLimits(head_bytes=8_192)  # type: ignore[arg-type]
