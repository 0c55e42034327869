"""Properties of the pure decisions, against slow and obvious models."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from edgerouter import _core as core

PIECES = st.sampled_from(["a", "b", "aa", "ab", "/", "*", "?", ".", "-"])
# A dot segment never reaches the matcher, and `.*` is meant as a regular expression: such patterns are refused.
patterns = (
    st.lists(PIECES, max_size=8)
    .map(lambda pieces: "/" + "".join(pieces))
    .filter(lambda pattern: not {".", "..", ".*"} & set(pattern.split("/")))
)
paths = st.lists(st.sampled_from(["a", "b", "/", ".", "-"]), max_size=12).map(lambda pieces: "/" + "".join(pieces))


def slow_glob(pattern: str, path: str) -> bool:
    expression = "".join({"*": "(?s:.*)", "?": "(?s:.)"}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, path) is not None


@given(patterns, paths)
def test_the_matcher_agrees_with_the_obvious_one(pattern: str, path: str) -> None:
    assert core.matches(pattern, path) == slow_glob(pattern, path)


@given(st.text(alphabet="abc", min_size=1, max_size=5), st.text(alphabet="abc/", max_size=8))
def test_captures_give_back_what_was_put_in(name: str, rest: str) -> None:
    found = core.captures("/x/{name}/{rest:path}", f"/x/{name}/{rest}")
    assert found == ({"name": name, "rest": rest} if rest else found)


segments = st.lists(
    st.one_of(st.sampled_from([".", "..", "a", "b c", "ü", "%41", "%2f", "~"]), st.text(max_size=3)), max_size=6
)


@given(segments)
def test_normalising_is_idempotent_and_leaves_no_dot_segments(parts: list[str]) -> None:
    path = "/" + "/".join(quote(part, safe="%~") if "%" not in part else part for part in parts)
    try:
        once = core.normalise_path(path)
    except ValueError:
        return
    assert core.normalise_path(once) == once
    assert once.startswith("/")
    assert not {".", ".."} & set(once.split("/"))


names = st.text(alphabet="abcXYZ019_-", min_size=1, max_size=6)
values = st.text(alphabet="abc012.-_~", max_size=6)


@given(st.lists(st.tuples(names, values), max_size=6), st.sampled_from(["; ", ";", " ; ", ";  "]))
def test_cookies_come_back_as_they_were_sent(pairs: list[tuple[str, str]], separator: str) -> None:
    assert core.parse_cookies(separator.join(f"{name}={value}" for name, value in pairs)) == pairs


@given(st.text(max_size=60))
def test_cookies_and_cache_control_take_any_text(text: str) -> None:
    line = "".join(char for char in text if 32 <= ord(char) < 127)
    assert len(core.parse_cookies(line)) <= line.count(";") + 1
    assert isinstance(core.parse_cache_control([line]), dict)


@given(
    st.integers(0, 10**12), st.integers(0, 10**12), st.booleans(), st.sampled_from(["max-age", "Max-Age", "MAX-AGE"])
)
def test_of_two_lifetimes_the_smaller_counts(first: int, second: int, quoted: bool, name: str) -> None:
    form = '{}="{}"' if quoted else "{}={}"
    parsed = core.parse_cache_control([form.format(name, first), form.format(name, second)])
    assert parsed["max_age"] == min(first, second, 2**31 if min(first, second) >= 2**31 else 2**63) or parsed[
        "max_age"
    ] == min(first, second, 2**31)


policies = st.sampled_from(
    [{}, {"query": "none"}, {"query": {"only": ["a"]}}, {"query": {"except": ["a"]}}, {"headers": ["x-a"]}]
)
queries = st.lists(st.tuples(st.sampled_from("abc"), st.text(alphabet="12", max_size=2)), max_size=4).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)


@given(policies, paths, paths, queries, queries, st.text(alphabet="xy", max_size=2), st.text(alphabet="xy", max_size=2))
def test_keys_are_equal_exactly_when_what_they_are_made_of_is(
    policy: dict[str, object], path: str, other: str, query: str, other_query: str, header: str, other_header: str
) -> None:
    def parts(path: str, query: str, header: str) -> tuple[object, ...]:
        chosen = policy.get("query", "all")
        pairs = [pair for pair in query.split("&") if pair] if query else []
        if chosen == "none":
            pairs = []
        elif isinstance(chosen, dict) and "only" in chosen:
            pairs = [pair for pair in pairs if pair.split("=")[0] in chosen["only"]]
        elif isinstance(chosen, dict):
            pairs = [pair for pair in pairs if pair.split("=")[0] not in chosen["except"]]
        return path, "&".join(pairs), header if "headers" in policy else ""

    def key(path: str, query: str, header: str) -> bytes:
        return core.cache_key(json.dumps(policy).encode(), "example.com", path, query or None, [("x-a", header)])

    same = parts(path, query, header) == parts(other, other_query, other_header)
    assert (key(path, query, header) == key(other, other_query, other_header)) == same


def experiment(**variants: int) -> bytes:
    return json.dumps({"name": "e", "cookie": "c", "variants": list(variants.items()), "by": "sub"}).encode()


@given(st.text(max_size=20))
def test_one_id_always_falls_into_the_same_bucket(identifier: str) -> None:
    assert core.bucket(experiment(a=50, b=50), identifier) == core.bucket(experiment(a=50, b=50), identifier)


def test_buckets_follow_the_weights_and_few_move_when_they_change() -> None:
    ids = [f"user-{number}" for number in range(20_000)]
    before = [core.bucket(experiment(a=70, b=30), identifier) for identifier in ids]
    after = [core.bucket(experiment(a=60, b=40), identifier) for identifier in ids]
    assert abs(before.count("a") / len(ids) - 0.7) < 0.015
    assert abs(after.count("a") / len(ids) - 0.6) < 0.015
    moved = sum(1 for old, new in zip(before, after, strict=True) if old != new)
    assert abs(moved / len(ids) - 0.1) < 0.015
