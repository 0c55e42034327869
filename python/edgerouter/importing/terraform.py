"""Terraform: the resource ``aws_cloudfront_distribution`` in the names that ``cloudfront`` reads.

Variables with a default, locals, and the identifiers of policies are worked out. Every other expression stays a part
such as ``${aws_s3_bucket.site.bucket_regional_domain_name}``, which no setting may have.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgerouter.importing.cloudfront import Distribution
from edgerouter.importing.model import Site
from edgerouter.importing.nodes import Node
from edgerouter.importing.policies import Policies
from edgerouter.importing.report import Report, SourceError

__all__ = ["read_terraform"]

_DISTRIBUTION = "aws_cloudfront_distribution"
_POLICIES = ("aws_cloudfront_cache_policy", "aws_cloudfront_origin_request_policy")
_RESPONSE = "aws_cloudfront_response_headers_policy"

#: Names that are spelt in another way than by capitals.
_NAMES = {
    "http_port": "HTTPPort",
    "https_port": "HTTPSPort",
    "min_ttl": "MinTTL",
    "max_ttl": "MaxTTL",
    "default_ttl": "DefaultTTL",
    "error_caching_min_ttl": "ErrorCachingMinTTL",
    "origin_id": "OriginId",
    "origin": "Origins",
    "origin_group": "OriginGroups",
    "ordered_cache_behavior": "CacheBehaviors",
    "custom_error_response": "CustomErrorResponses",
    "is_ipv6_enabled": "IPV6Enabled",
    "web_acl_id": "WebACLId",
    "logging_config": "Logging",
    "custom_header": "OriginCustomHeaders",
    "origin_ssl_protocols": "OriginSSLProtocols",
    "ssl_protocols": "OriginSSLProtocols",
    "lambda_function_association": "LambdaFunctionAssociations",
    "function_association": "FunctionAssociations",
    "cloudfront_default_certificate": "CloudFrontDefaultCertificate",
    "members": "Members",
    "member": "Members",
    "etag": "ETag",
    "xss_protection": "XSSProtection",
    "cors_config": "CorsConfig",
}

#: Settings of Terraform itself.
_OF_THE_TOOL = (
    "count",
    "depends_on",
    "for_each",
    "lifecycle",
    "provider",
    "provisioner",
    "tags",
    "tags_all",
    "timeouts",
)


def read_terraform(root: Node, report: Report, file: Path) -> Site:
    """Reads the distribution of a file, and the policies that it defines."""
    values = _Values(root)
    resources = _blocks(root, "resource")
    found = [(name, node) for kind, name, node in resources if kind == _DISTRIBUTION]
    if not found:
        raise SourceError(f"has no resource {_DISTRIBUTION}")
    policies = Policies()
    for kind, name, node in resources:
        if kind not in (*_POLICIES, _RESPONSE):
            if kind != _DISTRIBUTION:
                node.plain()
            continue
        values.resolve(node)
        config = _renamed(node)
        config.ignore("Etag", "ETag", "Id")
        identifier = f"{kind}.{name}"
        if kind == _POLICIES[0]:
            policies.define_cache(identifier, name, config)
        elif kind == _POLICIES[1]:
            policies.define_request(identifier, name, config)
        else:
            policies.define_response(identifier, name, config)
        values.renamed.append(config)
    (name, node), *others = found
    for other, unread in others:
        unread.left_out(f"one program is one distribution: {other} is left out; import a file with it alone")
    site = Site(name, report)
    values.resolve(node)
    config = _renamed(node)
    for tool in _OF_THE_TOOL:
        config.ignore(_canonical(tool))
    config.ignore("RetainOnDelete", "WaitForDeployment", "Staging")
    config.without("ContinuousDeploymentPolicyId", "see experiment= for a part of the visitors")
    if config.has("Dynamic"):
        config.without("Dynamic", "blocks that are made by Terraform are not read; write them out")
    Distribution(site, policies).read(config)
    root.used = True
    root.plain()
    # The reader has used nodes with other names: the unread ones are those of the renamed tree.
    for tree in (config, *values.renamed):
        for unread in tree.unread():
            unread.left_out("has no counterpart in edgerouter")
    return site


def _blocks(root: Node, kind: str) -> list[tuple[str, str, Node]]:
    """The blocks of a kind with two labels."""
    found = []
    for block in root.items(kind):
        for first, inner in block:
            for second, body in inner:
                if body.is_table:
                    body.used = True
                    found.append((first, second, body))
    return found


def _canonical(name: str) -> str:
    return _NAMES.get(name) or "".join(part.capitalize() for part in name.split("_"))


def _renamed(node: Node, within: str = "") -> Node:
    """The same values under the names of the API, each with its place in the source."""
    if isinstance(node.value, list):
        made = [_renamed(item, within) for item in node.value]
        return Node(list(made), node.path, node.report, node.line)
    if not isinstance(node.value, dict):
        return Node(node.value, node.path, node.report, node.line)
    table: dict[str, Node] = {}
    for name, item in node.value.items():
        canonical = _canonical(name)
        if within == "origin" and name == "origin_id":
            canonical = "Id"
        if within == "origin_group" and name in ("origin_id", "id"):
            canonical = "Id"
        if within == "custom_header":
            canonical = {"name": "HeaderName", "value": "HeaderValue"}.get(name, canonical)
        if within == "members" and name == "origin_id":
            canonical = "OriginId"
        inner = "members" if name in ("member", "members") else name
        renamed = _renamed(item, inner)
        if _is_wrapped(renamed):
            assert isinstance(renamed.value, list)
            renamed = renamed.value[0]
        if canonical in table:
            _merge(table[canonical], renamed)
        else:
            table[canonical] = renamed
    return Node(table, node.path, node.report, node.line)


def _is_wrapped(node: Node) -> bool:
    """A block of one with items only, such as ``cookies { items = [...] }``."""
    if not isinstance(node.value, list) or len(node.value) != 1:
        return False
    inner = node.value[0].value
    return isinstance(inner, dict) and set(inner) == {"Items"}


def _merge(into: Node, other: Node) -> None:
    if isinstance(into.value, list) and isinstance(other.value, list):
        into.value.extend(other.value)


class _Values:
    """Variables with a default, locals, and identifiers of policies."""

    def __init__(self, root: Node) -> None:
        self.renamed: list[Node] = []
        self._known: dict[str, Node] = {}
        for block in root.items("variable"):
            for name, body in block:
                if (default := body.child("default")) is not None:
                    self._known[f"var.{name}"] = default
        for block in root.items("locals"):
            for name, value in block:
                self._known[f"local.{name}"] = value
        for kind, name, body in _blocks(root, "data"):
            text = body.child("name")
            if kind.startswith("aws_cloudfront_") and text is not None:
                self._known[f"data.{kind}.{name}.id"] = text

    def resolve(self, node: Node, depth: int = 0) -> None:
        """Replaces expressions below a node by their values."""
        if isinstance(node.value, list):
            for item in node.value:
                self.resolve(item, depth)
        elif isinstance(node.value, dict):
            for item in node.value.values():
                self.resolve(item, depth)
        elif isinstance(node.value, str) and "${" in node.value:
            self._expression(node, node.value, depth)

    def _expression(self, node: Node, text: str, depth: int) -> None:
        whole = re.fullmatch(r"\$\{([A-Za-z0-9_.\-\[\]]+)\}", text)
        if whole is not None:
            name = re.sub(r"\[[0-9]+\]", "", whole[1])
            policy = re.fullmatch(r"(aws_cloudfront_\w+_policy\.[\w-]+)\.id", name)
            if policy is not None:
                node.value = policy[1]
            elif (known := self._known.get(name)) is not None and depth < 8:
                copied = Node.of(known.plain(), node.path, node.report, node.line)
                self.resolve(copied, depth + 1)
                node.value = copied.value
                if name.startswith("var."):
                    node.choice(f"is the variable {name[4:]}; its default is used")
            elif (number := _product(whole[1])) is not None:
                node.value = number
            return
        if (product := _product(text.removeprefix("${").removesuffix("}"))) is not None:
            node.value = product
            return

        def part(found: re.Match[str]) -> str:
            known = self._known.get(found[1])
            if known is None or depth >= 8:
                return found[0]
            inner = Node.of(known.plain(), node.path, node.report, node.line)
            self.resolve(inner, depth + 1)
            return found[0] if isinstance(inner.value, (list, dict)) else str(inner.value)

        made = re.sub(r"\$\{([A-Za-z0-9_.\-]+)\}", part, text[:4096])
        node.value = made if len(made) <= 4096 else text


def _product(text: str) -> int | None:
    """The value of ``60 * 60 * 24``."""
    if not re.fullmatch(r"\s*[0-9]{1,9}(\s*\*\s*[0-9]{1,9}){1,4}\s*", text):
        return None
    product = 1
    for factor in text.split("*"):
        product *= int(factor)
    return product
