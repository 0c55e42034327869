"""The values of a Terraform file: variables with a default, locals, policies, and blocks that ``dynamic`` makes.

``resolve`` replaces expressions by their values where the file says enough. Every other expression stays a text such as
``${aws_s3_bucket.site.bucket_regional_domain_name}``, which no setting may have.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from edgerouter.importing.hcl_expressions import Evaluator, Scope, UnknownError, constant
from edgerouter.importing.hcl_functions import MOST, pairs
from edgerouter.importing.nodes import Node, Plain

__all__ = ["TerraformValues", "blocks"]

_VARIABLE = re.compile(r"\bvar\.([A-Za-z_][A-Za-z0-9_-]*)")
_POLICY = re.compile(r"\$\{(aws_cloudfront_\w+_policy\.[\w-]+)(\[[^\]]*\])?\.id\}")


def blocks(root: Node, kind: str) -> list[tuple[str, str, Node]]:
    """The blocks of a kind with two labels."""
    found = []
    for block in root.items(kind):
        for first, inner in block:
            for second, body in inner:
                if body.is_table:
                    body.used = True
                    found.append((first, second, body))
    return found


class _Known(dict[str, Plain]):
    """Variables or locals by their names; one is worked out when it is looked at, since it may refer to others."""

    def __init__(self, values: dict[str, Plain], work_out: Callable[[Plain], Plain]) -> None:
        super().__init__(values)
        self._work_out = work_out
        self._done: dict[str, Plain] = {}
        self._open: set[str] = set()

    def __getitem__(self, name: str) -> Plain:
        if name not in self._done:
            if name in self._open:
                raise UnknownError
            self._open.add(name)
            try:
                self._done[name] = self._work_out(super().__getitem__(name))
            finally:
                self._open.remove(name)
        return self._done[name]


def _same(value: Plain) -> Plain:
    return value


class TerraformValues:
    """Works out what the expressions of a file are."""

    def __init__(self, root: Node) -> None:
        self._evaluator = Evaluator()
        self._made = 0
        variables: dict[str, Plain] = {}
        for block in root.items("variable"):
            for name, body in block:
                if isinstance(body.value, dict) and "default" in body.value:
                    variables[name] = body.value["default"].plain()
        own: dict[str, Plain] = {}
        for block in root.items("locals"):
            for name, value in block:
                own[name] = value.plain()
        data: dict[str, dict[str, Plain]] = {}
        for kind, name, body in blocks(root, "data"):
            text = body.child("name")
            of_kind = data.setdefault(kind, {})
            if kind.startswith("aws_cloudfront_") and text is not None:
                of_kind[name] = {"id": text.plain(), "0": {"id": text.plain()}}
        tables: dict[str, Plain] = {
            "var": _Known(variables, self._worked_out),
            "local": _Known(own, self._worked_out),
            "data": _Known({kind: _Known(named, _same) for kind, named in data.items()}, _same),
        }
        self._variables = variables
        self._root: Scope = {name: constant(table) for name, table in tables.items()}

    def instance(self, body: Node) -> Scope:
        """The names within a block that ``for_each`` or ``count`` repeats: those of its first instance."""
        each, count = body.child("for_each"), body.child("count")
        scope: dict[str, Plain] = {"count": {"index": 0}}
        if each is not None:
            found = self._pairs(each, self._root)
            if found:
                scope["each"] = {"key": found[0][0], "value": found[0][1]}
            which = f"{len(found)} of them; the first, {found[0][0]!r}, is" if found else "several of them; one is"
            each.left_out(f"one program is one distribution, and this makes {which} imported")
        elif count is not None:
            self.resolve(count, self._root)
            if isinstance(count.value, int) and count.value > 1:
                count.left_out("one program is one distribution: the first is imported")
        return {**self._root, **{name: constant(value) for name, value in scope.items()}}

    def resolve(self, node: Node, scope: Scope | None = None) -> None:
        """Replaces expressions below a node by their values, and ``dynamic`` by the blocks that it makes."""
        scope = scope or self._root
        if isinstance(node.value, list):
            for item in node.value:
                self.resolve(item, scope)
        elif isinstance(node.value, dict):
            self._expand(node, scope)
            for name, item in list(node.value.items()):
                given = item.value is not None
                self.resolve(item, scope)
                # An argument that is null is one that is not there.
                if given and item.value is None:
                    del node.value[name]
        elif isinstance(node.value, str) and "${" in node.value:
            self._expression(node, node.value, scope)

    def _expression(self, node: Node, text: str, scope: Scope) -> None:
        policy = _POLICY.fullmatch(text)
        if policy is not None:
            node.value = policy[1]
            return
        try:
            value = self._evaluator.value(text, scope)
            made = Node.of(_bounded(value), node.path, node.report, node.line)
        except UnknownError:
            return
        self.resolve_nested(made)
        node.value = made.value
        if node.value != text:
            self._note(node, text)

    def resolve_nested(self, node: Node) -> None:
        """Policies that a value names, such as a member of a map in a variable."""
        for item in node.value.values() if isinstance(node.value, dict) else ():
            self.resolve_nested(item)
        for item in node.value if isinstance(node.value, list) else ():
            self.resolve_nested(item)
        if isinstance(node.value, str) and (policy := _POLICY.fullmatch(node.value)):
            node.value = policy[1]

    def _note(self, node: Node, text: str) -> None:
        names = [name for name in dict.fromkeys(_VARIABLE.findall(text)) if name in self._variables]
        if len(names) == 1:
            node.choice(f"is the variable {names[0]}; its default is used")
        elif names:
            node.choice(f"is made of the variables {', '.join(names)}; their defaults are used")

    def _worked_out(self, value: Plain) -> Plain:
        """A value without expressions, but for parts that are unknown."""
        if isinstance(value, dict):
            return {name: self._worked_out(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._worked_out(item) for item in value]
        if isinstance(value, str) and "${" in value:
            try:
                return self._evaluator.value(value, self._root)
            except UnknownError:
                return value
        return value

    # -- blocks that are made --------------------------------------------------------------------------------------

    def _pairs(self, node: Node, scope: Scope) -> list[tuple[Plain, Plain]]:
        """The keys and values of a ``for_each``; none if they are unknown, which is reported."""
        source = node.value
        self.resolve(node, scope)
        value = node.plain()
        try:
            if isinstance(source, str) and isinstance(value, list):
                # A set and a list look alike as nodes.
                value = self._evaluator.value(source, scope)
            return pairs(value)
        except UnknownError:
            return []

    def _expand(self, node: Node, scope: Scope) -> None:
        """Makes the blocks of each ``dynamic`` in a block."""
        assert isinstance(node.value, dict)
        dynamic = node.value.pop("dynamic", None)
        if dynamic is None or not isinstance(dynamic.value, list):
            return
        for block in dynamic.value:
            for label, body in block:
                self._repeat(node, label, body, scope)

    def _repeat(self, node: Node, label: str, body: Node, scope: Scope) -> None:
        assert isinstance(node.value, dict)
        each = body.child("for_each")
        content = body.items("content")
        if each is None or not content:
            body.left_out("has no for_each or no content")
            return
        found = self._pairs(each, scope)
        if isinstance(each.value, str):
            each.left_out(f"is known only when the source is deployed: write the blocks {label} out")
            return
        iterator = body.child("iterator")
        name = str(iterator.value) if iterator is not None else label
        name = name.removeprefix("${").removesuffix("}")
        made = node.value.setdefault(label, Node([], f"{node.path}.{label}", node.report, node.line))
        if not isinstance(made.value, list):
            body.left_out(f"{label} is no block")
            return
        for key, value in found:
            self._made += 1
            if self._made > MOST:
                each.left_out(f"makes more than {MOST} blocks, the most that are read")
                return
            place = f"{node.path}.{label}[{len(made.value)}]"
            one = Node.of(content[0].plain(), place, node.report, node.line)
            self.resolve(one, {**scope, name: constant({"key": key, "value": value})})
            made.value.append(one)


def _bounded(value: Plain) -> Plain:
    """The value, unless it has more parts than a distribution: locals that repeat one another grow fast."""
    count = 0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        count += 1
        if count > 10 * MOST:
            raise UnknownError
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return value
