"""Expressions of Terraform are worked out as Terraform does, and those that a file does not settle stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerouter.importing.hcl_expressions import Evaluator, Scope, UnknownError, constant
from edgerouter.importing.nodes import Plain
from edgerouter.importing.reading import read

SCOPE: Scope = {
    "var": constant({"env": "prod", "names": ["b", "a"], "sites": {"x": {"ttl": 5}, "w": {"ttl": 7}}, "none": None}),
    "local": constant({"late": "${aws_s3_bucket.pages.id}"}),
}

VALUES: dict[str, Plain] = {
    "1 + 2 * 3 - 4": 3,
    "(1 + 2) * 3": 9,
    "7 / 2": 3.5,
    "60 * 60 * 24": 86_400,
    "-5 % 3 == -5 % 3": True,
    "10 - 3 - 2": 5,
    '"7" + 1': 8,
    'var.env == "prod" ? 1 : 2': 1,
    'var.env != "prod" && true': False,
    "true || var.absent": True,
    "!(1 >= 2) && 1 <= 1": True,
    "1 < 2 ? true : false": True,
    '"a" == 1': False,
    "var.none == null ? [] : [1]": [],
    '"${var.env}-${1 + 1}"': "prod-2",
    r'"a\"b$${c}"': 'a"b${c}',
    "var.names[0]": "b",
    'var.sites["x"].ttl': 5,
    "[for n in var.names : upper(n)]": ["B", "A"],
    '[for i, n in var.names : i if n == "a"]': [1],
    "{ for k, v in var.sites : k => v.ttl if v.ttl > 5 }": {"w": 7},
    "[for k, v in var.sites : k]": ["w", "x"],
    '{ a = 1, "b-c" : 2, (var.env) = 3 }': {"a": 1, "b-c": 2, "prod": 3},
    "toset(var.names)": ["a", "b"],
    'concat(["a"], var.names)': ["a", "b", "a"],
    "merge({ a = 1 }, { a = 2, b = 3 })": {"a": 2, "b": 3},
    'lookup(var.sites, "absent", "no")': "no",
    'lookup({ a = 1 }, "a")': 1,
    'try(var.sites.x.absent, "instead")': "instead",
    "can(var.sites.x.absent)": False,
    "can(var.sites.x)": True,
    'format("%s-%d%%", var.env, 3)': "prod-3%",
    'join(",", sort(var.names))': "a,b",
    'split(",", "a,b")': ["a", "b"],
    "length(var.sites)": 2,
    'coalesce("", var.env)': "prod",
    "flatten([[1, [2]], 3])": [1, 2, 3],
    "keys(var.sites)": ["w", "x"],
    "element(var.names, 3)": "a",
    'replace("a.b", ".", "-")': "a-b",
    'trimsuffix("a.example.", ".")': "a.example",
    "max([1, 2]...) == 2 /* the last */": True,
}

UNKNOWN = [
    "var.absent",
    "aws_s3_bucket.pages.id",
    'local.late == "x" ? 1 : 2',
    "1 / 0",
    'file("/etc/passwd")',
    "timestamp()",
    'try(aws_s3_bucket.pages.id, "instead")',
    "can(aws_s3_bucket.pages.id)",
    "var.names[*]",
    "var.env ? 1 : 2",
    'replace("a", "/a/", "b")',
    '"%{ if true }x%{ endif }"',
    "!" * 2_000 + "true",
    "1 +",
    "(((",
    "",
    "range(100000000)",
    "[for n in var.names : ",
    "element([], 1)",
    "é",
]


@pytest.mark.parametrize("expression", VALUES)
def test_an_expression_is_worked_out(expression: str) -> None:
    assert Evaluator().value(f"${{{expression}}}", SCOPE) == VALUES[expression]


@pytest.mark.parametrize("expression", UNKNOWN)
def test_an_expression_that_the_file_does_not_settle_is_unknown(expression: str) -> None:
    with pytest.raises(UnknownError):
        Evaluator().value(f"${{{expression}}}", SCOPE)


def test_parts_of_a_text_that_are_unknown_stay_as_they_are() -> None:
    assert Evaluator().value("${var.env}.${aws_x.y.id}.example", SCOPE) == "prod.${aws_x.y.id}.example"


@given(st.text(st.sampled_from('ab1.+-*/%?:[](){}"$,=!<>& |for in var.names if \\\n'), max_size=60))
def test_no_text_is_more_than_unknown(text: str) -> None:
    try:
        found = Evaluator().value(f"${{{text}}}", SCOPE)
    except UnknownError:
        found = None
    assert found is None or isinstance(found, (str, int, float, list, dict))


@pytest.mark.parametrize(
    "declared",
    [
        "a = local.b\n b = local.a",
        "a = [for x in range(900) : [for y in range(900) : [for z in range(900) : z]]]",
        "z = [1, 1]\n"
        + "\n".join(f"l{n} = [local.l{n + 1}, local.l{n + 1}]" for n in range(40))
        + "\n l40 = 1\n a = local.l0",
        f"a = {'(' * 50}1{')' * 50}",
        'a = join("", [for x in range(900) : join("", [for y in range(900) : "0123456789"])])',
    ],
    ids=["circle", "loops", "doubled", "brackets", "text"],
)
def test_locals_that_grow_without_end_are_left_as_they_are(declared: str, tmp_path: Path) -> None:
    source = tmp_path / "site.tf"
    source.write_text(
        f"locals {{\n {declared}\n}}\n"
        'resource "aws_cloudfront_distribution" "s" {\n'
        '  origin {\n domain_name = "a.example.com"\n origin_id = "a"\n }\n'
        '  default_cache_behavior {\n target_origin_id = "a"\n viewer_protocol_policy = local.a\n }\n}\n'
    )
    assert 'edge.route("/*", to=a' in read(source).program
