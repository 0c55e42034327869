"""CloudFormation templates, and the API's JSON of a distribution, in the names that ``cloudfront`` reads.

Intrinsic functions are worked out where the template says enough: ``Ref`` of a parameter with a default, conditions
that such parameters settle, ``FindInMap``, ``Select``, ``Split``, ``Sub`` and ``Join`` of known texts. Everything else
stays a part such as ``${Bucket.DomainName}``, which no setting may have.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgerouter.importing.cloudfront import Distribution
from edgerouter.importing.model import Site
from edgerouter.importing.nodes import Node
from edgerouter.importing.policies import Policies
from edgerouter.importing.report import Report, SourceError

__all__ = ["is_api", "is_template", "read_api", "read_template"]

_DISTRIBUTION = "AWS::CloudFront::Distribution"
_POLICIES = {
    "AWS::CloudFront::CachePolicy": "CachePolicyConfig",
    "AWS::CloudFront::OriginRequestPolicy": "OriginRequestPolicyConfig",
    "AWS::CloudFront::ResponseHeadersPolicy": "ResponseHeadersPolicyConfig",
}


def is_template(root: Node) -> bool:
    """The document has the shape of a template."""
    resources = root.value.get("Resources") if isinstance(root.value, dict) else None
    return resources is not None and resources.is_table


def is_api(root: Node) -> bool:
    """The document has the shape of ``get-distribution`` or ``get-distribution-config``."""
    if not isinstance(root.value, dict):
        return False
    return any(root.has(name) for name in ("DistributionConfig", "Distribution", "DefaultCacheBehavior"))


def read_api(root: Node, report: Report, file: Path) -> Site:
    """Reads the API's JSON of one distribution."""
    root.ignore("ETag", "Id", "ARN", "Status", "LastModifiedTime", "DomainName", "InProgressInvalidationBatches")
    outer = root.table("Distribution") if root.has("Distribution") else root
    outer.ignore("Id", "ARN", "Status", "LastModifiedTime", "DomainName", "InProgressInvalidationBatches")
    outer.ignore("ActiveTrustedSigners", "ActiveTrustedKeyGroups", "AliasICPRecordals", "Location")
    config = outer.table("DistributionConfig") if outer.has("DistributionConfig") else outer
    site = Site(file.stem, report)
    Distribution(site, Policies()).read(config)
    config.ignore("ContinuousDeploymentPolicyId")
    return site


def read_template(root: Node, report: Report, file: Path) -> Site:
    """Reads the distribution of a template, and the policies that it defines."""
    template = _Template(root)
    resources = root.child("Resources")
    assert resources is not None
    kinds: dict[str, list[tuple[str, Node]]] = {}
    for name, resource in resources:
        kinds.setdefault(_kind(resource), []).append((name, resource))
    found = kinds.get(_DISTRIBUTION, [])
    if not found:
        raise SourceError(f"has no {_DISTRIBUTION}")
    for kind, several in kinds.items():
        for _, resource in several:
            if kind == _DISTRIBUTION or kind in _POLICIES:
                template.resolve(resource)
            else:
                # Other resources are no part of the distribution.
                resource.plain()
    policies = Policies()
    for kind, config_name in _POLICIES.items():
        for name, resource in kinds.get(kind, []):
            resource.ignore("Type", "DependsOn", "Metadata", "DeletionPolicy", "UpdateReplacePolicy", "Condition")
            config = resource.table("Properties").table(config_name)
            define = {
                "CachePolicyConfig": policies.define_cache,
                "OriginRequestPolicyConfig": policies.define_request,
                "ResponseHeadersPolicyConfig": policies.define_response,
            }[config_name]
            define(name, name, config)
    (name, resource), *others = found
    for other, unread in others:
        unread.left_out(f"one program is one distribution: {other} is left out; import a file with it alone")
    resource.ignore("Type", "DependsOn", "Metadata", "DeletionPolicy", "UpdateReplacePolicy", "Condition")
    site = Site(name, report)
    properties = resource.table("Properties")
    properties.ignore("Tags")
    if root.has("Description") and (text := root.raw("Description")):
        site.about.append(text)
    Distribution(site, policies).read(properties.table("DistributionConfig"))
    root.ignore("AWSTemplateFormatVersion", "Outputs", "Parameters", "Mappings", "Conditions", "Metadata", "Rules")
    root.ignore("Transform", "Globals", "Hooks")
    return site


def _kind(resource: Node) -> str:
    kind = resource.value.get("Type") if isinstance(resource.value, dict) else None
    return kind.value if kind is not None and isinstance(kind.value, str) else ""


class _Template:
    """Works out intrinsic functions."""

    def __init__(self, root: Node) -> None:
        self._defaults: dict[str, str] = {}
        for name, parameter in root.table("Parameters"):
            default = parameter.child("Default")
            if default is not None and not default.is_table and not default.is_list:
                self._defaults[name] = default.as_text(raw=True) or ""
        self._mappings = root.table("Mappings")
        self._conditions = dict(root.table("Conditions"))
        self._settled: dict[str, bool | None] = {}
        resources = root.child("Resources")
        self._policies = {name for name, resource in resources or () if _kind(resource) in _POLICIES}

    def resolve(self, node: Node) -> None:
        """Replaces intrinsic functions below a node by their values."""
        if isinstance(node.value, list):
            for item in node.value:
                self.resolve(item)
            node.value = [item for item in node.value if item.value is not None]
            return
        if not isinstance(node.value, dict):
            return
        if len(node.value) == 1 and (branch := node.value.get("Fn::If")) is not None:
            self._choose(node, branch)
            return
        for item in node.value.values():
            self.resolve(item)
        if len(node.value) != 1:
            return
        (function, argument), *_ = node.value.items()
        if function == "Ref" or function.startswith("Fn::"):
            self._apply(node, function, argument)

    def _choose(self, node: Node, branch: Node) -> None:
        """Only the branch that is taken is worked out: the other one need not exist."""
        parts = branch.value if isinstance(branch.value, list) else []
        if len(parts) != 3 or not isinstance(parts[0].value, str):
            node.value = "${Fn::If}"
            return
        name = parts[0].value
        settled = self._settle(name)
        how = f"depends on the condition {name}"
        if settled is None:
            node.choice(f"{how}; the value for true is used")
        else:
            node.choice(f"{how}, which is {str(settled).lower()} by the defaults of the parameters")
        taken = parts[2] if settled is False else parts[1]
        self.resolve(taken)
        node.value = taken.value

    def _apply(self, node: Node, function: str, argument: Node) -> None:
        texts = _texts(argument)
        if function == "Ref":
            name = texts[0] if texts else ""
            if name == "AWS::NoValue":
                node.value = None
            else:
                node.value = self._reference(node, name)
        elif function == "Fn::GetAtt":
            name = texts[0] if texts else ""
            node.value = name if name in self._policies else f"${{{'.'.join(texts)}}}"
        elif function == "Fn::Sub":
            text = texts[0] if texts else ""
            extra = argument.value[1] if isinstance(argument.value, list) and len(argument.value) == 2 else None
            node.value = self._substituted(node, text, extra)
        elif function == "Fn::Join" and isinstance(argument.value, list) and len(argument.value) == 2:
            between = argument.value[0].value
            parts = _texts(argument.value[1])
            node.value = (between if isinstance(between, str) else "").join(parts)
        elif function == "Fn::FindInMap" and (found := self._mapped(texts)) is not None:
            node.value = Node.of(found.plain(), node.path, node.report, node.line).value
        elif function == "Fn::Select" and (chosen := _selected(argument)) is not None:
            node.value = chosen.value
        elif function == "Fn::Split" and isinstance(argument.value, list) and (pieces := _split(texts)) is not None:
            node.value = [Node(one, f"{node.path}[{at}]", node.report, node.line) for at, one in enumerate(pieces)]
        else:
            node.value = f"${{{function} {' '.join(texts)}}}"

    def _mapped(self, keys: list[str]) -> Node | None:
        found: Node | None = self._mappings
        for key in keys[:3]:
            found = found.value.get(key) if found is not None and isinstance(found.value, dict) else None
        return found if len(keys) == 3 else None

    # -- conditions ------------------------------------------------------------------------------------------------

    def _settle(self, name: str) -> bool | None:
        """A condition by the defaults of the parameters; ``None``: the template does not say enough."""
        if name not in self._settled:
            # A condition that names itself is not settled.
            self._settled[name] = None
            condition = self._conditions.get(name)
            self._settled[name] = None if condition is None else self._truth(condition)
        return self._settled[name]

    def _truth(self, condition: Node) -> bool | None:
        if not isinstance(condition.value, dict) or len(condition.value) != 1:
            return None
        (function, argument), *_ = condition.value.items()
        parts = argument.value if isinstance(argument.value, list) else [argument]
        if function == "Condition":
            return self._settle(argument.value) if isinstance(argument.value, str) else None
        if function == "Fn::Equals" and len(parts) == 2:
            sides = [self._side(part) for part in parts]
            return None if None in sides else sides[0] == sides[1]
        truths = [self._truth(part) for part in parts]
        if function == "Fn::Not" and len(truths) == 1:
            return None if truths[0] is None else not truths[0]
        if function not in ("Fn::And", "Fn::Or"):
            return None
        settling = function == "Fn::Or"
        if settling in truths:
            return settling
        return None if None in truths else not settling

    def _side(self, part: Node) -> str | None:
        """A side of a comparison, on a copy: what a condition uses is in no setting."""
        copied = Node.of(part.plain(), part.path, Report(), part.line)
        self.resolve(copied)
        text = copied.as_text(raw=True) if not copied.is_table and not copied.is_list else None
        return None if text is None or "${" in text else text

    # -- texts -----------------------------------------------------------------------------------------------------

    def _reference(self, node: Node, name: str) -> str:
        if name in self._defaults:
            node.choice(f"is the parameter {name}; its default {self._defaults[name]!r} is used")
            return self._defaults[name]
        return name if name in self._policies else f"${{{name}}}"

    def _substituted(self, node: Node, text: str, extra: Node | None) -> str:
        def part(found: re.Match[str]) -> str:
            name = found[1]
            known = extra.value.get(name) if extra is not None and isinstance(extra.value, dict) else None
            if known is not None and isinstance(known.value, (str, int)):
                return str(known.value)
            return self._reference(node, name)

        return re.sub(r"\$\{([A-Za-z0-9:.]+)\}", part, text[:4096])


def _texts(node: Node) -> list[str]:
    items = node.value if isinstance(node.value, list) else [node]
    return [str(item.value) for item in items if isinstance(item.value, (str, int, float))]


def _selected(argument: Node) -> Node | None:
    """The member that ``Fn::Select`` names."""
    if not isinstance(argument.value, list) or len(argument.value) != 2:
        return None
    number, members = argument.value
    at = str(number.value)
    if not isinstance(members.value, list) or not at.isdecimal() or len(at) > 4 or int(at) >= len(members.value):
        return None
    return members.value[int(at)]


def _split(texts: list[str]) -> list[str] | None:
    """The parts of ``Fn::Split``, of a text that is known."""
    if len(texts) != 2 or not texts[0] or "${" in texts[1]:
        return None
    return texts[1].split(texts[0])[:1_000]
