"""Terraform: the resource ``aws_cloudfront_distribution`` in the names that ``cloudfront`` reads.

``terraform_values`` works out expressions before.
"""

from __future__ import annotations

from pathlib import Path

from edgerouter.importing.cloudfront import Distribution
from edgerouter.importing.model import Site
from edgerouter.importing.nodes import Node
from edgerouter.importing.policies import Policies
from edgerouter.importing.report import Report, SourceError
from edgerouter.importing.terraform_values import TerraformValues, blocks

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
    values = TerraformValues(root)
    renamed: list[Node] = []
    resources = blocks(root, "resource")
    found = [(name, node) for kind, name, node in resources if kind == _DISTRIBUTION]
    if not found:
        raise SourceError(f"has no resource {_DISTRIBUTION}")
    policies = Policies()
    for kind, name, node in resources:
        if kind not in (*_POLICIES, _RESPONSE):
            if kind != _DISTRIBUTION:
                node.plain()
            continue
        values.resolve(node, values.instance(node))
        config = _renamed(node)
        config.ignore("Etag", "ETag", "Id")
        identifier = f"{kind}.{name}"
        if kind == _POLICIES[0]:
            policies.define_cache(identifier, name, config)
        elif kind == _POLICIES[1]:
            policies.define_request(identifier, name, config)
        else:
            policies.define_response(identifier, name, config)
        renamed.append(config)
    (name, node), *others = found
    for other, unread in others:
        unread.left_out(f"one program is one distribution: {other} is left out; import a file with it alone")
    site = Site(name, report)
    values.resolve(node, values.instance(node))
    config = _renamed(node)
    for tool in _OF_THE_TOOL:
        config.ignore(_canonical(tool))
    config.ignore("RetainOnDelete", "WaitForDeployment", "Staging")
    config.without("ContinuousDeploymentPolicyId", "see experiment= for a part of the visitors")
    Distribution(site, policies).read(config)
    root.used = True
    root.plain()
    # The reader has used nodes with other names: the unread ones are those of the renamed tree.
    for tree in (config, *renamed):
        for unread in tree.unread():
            unread.left_out("has no counterpart in edgerouter")
    return site


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
