"""A distribution of CloudFront, in the names of its API, to a site.

CloudFormation, Terraform and the API write one distribution in three ways. Their readers give it the same names, and
this one decides what each setting becomes. ``policies`` reads the cache, origin request and response headers policies.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from edgerouter.cache import CachePolicy, Selection
from edgerouter.checks import is_country
from edgerouter.guarding import AddressPolicy
from edgerouter.importing.cloudfront_origins import CloudFrontOrigins
from edgerouter.importing.managed_policies import METHODS, KeyPolicy, RequestPolicy, ResponsePolicy
from edgerouter.importing.model import Declared, Site, SiteRoute, variable
from edgerouter.importing.nodes import Node
from edgerouter.importing.ordering import covers, keep_order
from edgerouter.importing.policies import Policies, extra_names, forwarded_values, united
from edgerouter.importing.report import SourceError
from edgerouter.origins import Group, Origin
from edgerouter.routes import ForwardPolicy, HeaderEdits, HeaderPolicy, Respond, Rewrite

__all__ = ["Distribution"]

_PROTOCOLS = "listeners with TLS offer HTTP/2 by themselves, and none offers HTTP/3"
_MOST_BEHAVIOURS = 1_000
_VIEWER = ("allow-all", "https-only", "redirect-to-https")


class Distribution:
    """Reads one distribution into a site."""

    def __init__(self, site: Site, policies: Policies) -> None:
        self._site = site
        self._policies = policies
        self._origins = CloudFrontOrigins(site)
        self._negative: dict[int, int] = {}
        self._errors: dict[int, str] = {}
        self._fallback: str | None = None
        #: For each target, the routes that send the viewer's Host to it, and those that do not.
        self._hosts: dict[str, dict[bool, list[SiteRoute]]] = {}

    def read(self, config: Node) -> None:
        """Reads the configuration of the distribution."""
        self._head(config)
        self._origins.read(config)
        self._custom_errors(config)
        routes = self._behaviours(config)
        self._site.routes += routes
        self._viewer_hosts()
        config.ignore("CallerReference", "Tags", "Staging")

    # -- the head --------------------------------------------------------------------------------------------------

    def _head(self, config: Node) -> None:
        site = self._site
        if comment := config.raw("Comment"):
            site.about.append(comment)
        if config.flag("Enabled") is False and (enabled := config.child("Enabled")):
            enabled.choice("the distribution is switched off; the program serves")
        if hosts := self._aliases(config):
            site.settings["hosts"] = hosts
        config.without("PriceClass", "an edge of your own has no price classes: it serves from where you run it")
        config.without("WebACLId", "edgerouter has no web application firewall; see addresses= and rate_limit=")
        shield = "there is no second layer of caches; concurrent misses share one fetch already"
        config.without("OriginShieldRegion", shield)
        config.without("HttpVersion", _PROTOCOLS)
        for name in ("IPV6Enabled", "IsIPV6Enabled"):
            config.without(name, "addresses are chosen by edge.listen or --listen; [::] serves IPv6, too")
        for name in ("Logging", "RealtimeLogConfigArn"):
            logging = config.child(name)
            if logging is not None and not logging.is_empty and logging.flag("Enabled") is not False:
                logging.left_out("start the edge with --access-log FILE for a log")
            config.ignore(name)
        restriction = config.table("Restrictions").table("GeoRestriction")
        self._countries(restriction)
        self._certificate(config)

    def _countries(self, restriction: Node) -> None:
        """Restrictions by country, which need a file of places beside the program."""
        kind = restriction.text("RestrictionType")
        several = sum(len(restriction.items(field)) for field in ("Locations", "Items"))
        locations = [name for field in ("Locations", "Items") for name in restriction.texts(field)]
        countries = [name.upper() for name in locations if is_country(name)]
        if kind == "none" or (kind is None and not restriction.has("RestrictionType")):
            return
        if kind not in ("whitelist", "blacklist") or not countries or len(countries) < several:
            # A list that is not known whole opens nothing.
            self._site.settings["addresses"] = AddressPolicy(allow=["127.0.0.1"])
            restriction.left_out(
                "the countries are not in the source: only this machine is served until "
                "addresses=AddressPolicy(allow_countries=[...]) has them"
            )
            return
        allowed = kind == "whitelist"
        self._site.settings["addresses"] = AddressPolicy(
            allow_countries=countries if allowed else None, deny_countries=() if allowed else countries
        )
        self._site.place_file = "GeoLite2-Country.mmdb"
        restriction.choice(
            f"countries are looked up in {self._site.place_file}, which must be there; clients of unknown places "
            + ("get 403" if allowed else "are served")
        )

    def _aliases(self, config: Node) -> list[str]:
        names = [name.lower() for name in (*config.texts("Aliases"), *config.texts("CNAMEs"))]
        return [name for name in dict.fromkeys(names) if re.fullmatch(r"(\*\.)?[a-z0-9_.-]+", name)]

    def _certificate(self, config: Node) -> None:
        certificate = config.table("ViewerCertificate")
        if certificate.is_empty:
            return
        wanted = certificate.raw("MinimumProtocolVersion") or "TLSv1.2_2021"
        policy = wanted if wanted in ("TLSv1.2_2021", "TLSv1.2_2025", "TLSv1.3_2025") else "TLSv1.2_2021"
        if certificate.flag("CloudFrontDefaultCertificate") and not certificate.has("AcmCertificateArn"):
            certificate.ignore("SslSupportMethod", "CertificateSource", "Certificate")
            certificate.left_out(
                "the certificate of cloudfront.net stays with CloudFront; declare one with edge.listen"
            )
            return
        for name in ("AcmCertificateArn", "IamCertificateId", "ACMCertificateArn", "IAMCertificateId"):
            if certificate.has(name):
                remedy = (
                    f'edge.listen("[::]:443", tls=Tls(Certificate("fullchain.pem", "privkey.pem"), policy="{policy}"))'
                )
                certificate.without(name, f"the certificate stays with AWS; declare one of your own: {remedy}")
        certificate.ignore("SslSupportMethod", "CertificateSource", "Certificate", "CloudFrontDefaultCertificate")

    # -- errors ----------------------------------------------------------------------------------------------------

    def _custom_errors(self, config: Node) -> None:
        for item in config.items("CustomErrorResponses"):
            status = item.number("ErrorCode")
            if status is None or not 400 <= status <= 599:
                item.left_out("needs an ErrorCode from 400 to 599")
                continue
            seconds = item.number("ErrorCachingMinTTL")
            if seconds:
                self._negative[status] = seconds
            page = item.text("ResponsePagePath")
            code = item.number("ResponseCode")
            if not page:
                continue
            page = page if page.startswith("/") else f"/{page}"
            if code == 200 and status in (403, 404):
                if self._fallback not in (None, page):
                    item.left_out(f"a route has one page for navigations: {self._fallback}")
                    continue
                if self._fallback is None:
                    item.choice(
                        f"becomes fallback={page!r} of the last route: navigations get it with 200, "
                        "and scripts, images and other routes keep their error"
                    )
                self._fallback = page
                continue
            self._errors[status] = page
            if code is not None and code != status:
                item.left_out(f"the page is sent with {status} itself, not with {code}")

    # -- behaviours ------------------------------------------------------------------------------------------------

    def _behaviours(self, config: Node) -> list[SiteRoute]:
        ordered = config.items("CacheBehaviors")
        if len(ordered) > _MOST_BEHAVIOURS:
            raise SourceError(f"has more than {_MOST_BEHAVIOURS} cache behaviours")
        default = config.table("DefaultCacheBehavior")
        routes: list[SiteRoute] = []
        for node in ordered:
            pattern = node.text("PathPattern")
            if not pattern:
                node.left_out("has no PathPattern")
                continue
            pattern = pattern if pattern.startswith("/") else f"/{pattern}"
            if re.search(r"[{}\s#]", pattern):
                node.left_out("the PathPattern has signs that no path of CloudFront has")
                continue
            routes += self._behaviour(node, pattern)
        if default.is_empty:
            self._site.report.note("left-out", "DefaultCacheBehavior", "is missing: other paths get 404")
        else:
            routes += self._behaviour(default, "/*")
        if keep_order(routes):
            self._site.comments.append(
                "CloudFront takes the first behaviour that matches; priority= keeps that order here."
            )
        self._close_methods(routes)
        self._root(config, routes)
        return routes

    def _behaviour(self, node: Node, pattern: str) -> list[SiteRoute]:
        target = self._target(node)
        if target is None:
            node.plain()
            return []
        route = SiteRoute(pattern, {"to": target}, path=node.path, line=node.line)
        arguments = route.arguments
        viewer = node.text("ViewerProtocolPolicy")
        if viewer in _VIEWER:
            if viewer != "allow-all":
                arguments["viewer"] = viewer
        elif viewer is not None and (found := node.child("ViewerProtocolPolicy")) is not None:
            found.left_out(f"must be one of {', '.join(_VIEWER)}")
        methods = self._methods(node)
        if methods is not None:
            arguments["methods"] = methods
        host = self._cache(node, route)
        self._response_headers(node, route)
        self._guards(node, route)
        if self._errors:
            arguments["errors"] = dict(self._errors)
        if pattern == "/*" and self._fallback:
            arguments["fallback"] = self._fallback
        self._hosts.setdefault(target, {}).setdefault(host, []).append(route)
        return [route]

    def _target(self, node: Node) -> str | None:
        name = node.raw("TargetOriginId")
        if (group := node.raw("OriginGroupId")) is not None:
            parts = [part for part in re.split(r"[^A-Za-z0-9_-]+", group) if part not in ("", "id")]
            chosen = self._origins.targets.get(parts[-1] if parts else "")
            if chosen in self._site.groups:
                return chosen
            if (found := node.child("OriginGroupId")) is not None:
                found.left_out("names no origin group of this distribution")
        if name in self._origins.targets:
            return self._origins.targets[name]
        names = [*self._site.origins]
        found = node.child("TargetOriginId")
        if len(names) == 1 and found is not None:
            found.choice(f"names no origin of this distribution; {names[0]}, the only one, is used")
            return names[0]
        (found or node).left_out("names no origin of this distribution: the behaviour is left out")
        return None

    def _methods(self, node: Node) -> list[str] | None:
        allowed = node.texts("AllowedMethods")
        inner = node.child("AllowedMethods")
        if inner is not None:
            inner.ignore("CachedMethods")
        cached = node.texts("CachedMethods")
        if "OPTIONS" in cached and (found := node.child("CachedMethods")):
            found.left_out(
                "responses to OPTIONS are not stored (RFC 9110 §9.3.7); cors= answers preflights at the edge"
            )
        methods = [method.upper() for method in allowed] or ["GET", "HEAD"]
        if set(METHODS) <= set(methods):
            return None
        # GET includes HEAD.
        return [method for method in dict.fromkeys(methods) if method != "HEAD" or "GET" not in methods]

    def _cache(self, node: Node, route: SiteRoute) -> bool:
        """The cache policy, and what goes to the origin. ``True``: the viewer's Host does."""
        key = self._policies.cache(node.child("CachePolicyId"))
        if key is None:
            key = forwarded_values(node, variable(route.pattern, "default"))
        else:
            node.ignore("ForwardedValues", "MinTTL", "DefaultTTL", "MaxTTL")
        request = self._policies.request(node.child("OriginRequestPolicyId"))
        policy = self._with_errors(key.policy)
        route.arguments["cache"] = policy
        if policy != key.policy or not self._policies.has_constant(policy):
            suffix = " with lifetimes of errors" if policy != key.policy else ""
            origin_of = f"CloudFront's {key.name}{suffix}." if key.name in self._policies.managed_names else ""
            self._site.policy(key.name, policy, *([origin_of] if origin_of else []), path=node.path, line=node.line)
        if (forward := self._forward(node, key, request)) is not None:
            route.arguments["forward"] = forward
        if not node.flag("Compress"):
            if policy.compress:
                route.arguments["compress"] = False
        elif not policy.compress:
            if policy.enabled:
                route.arguments["compress"] = True
            elif (compress := node.child("Compress")) is not None:
                compress.choice("CloudFront compresses nothing where it stores nothing; compress=True would")
        node.without("SmoothStreaming", "Smooth Streaming of Microsoft is not served in a special way")
        return key.host or (request is not None and request.host)

    def _with_errors(self, policy: CachePolicy) -> CachePolicy:
        if not policy.enabled or not self._negative:
            return policy
        return msgspec.structs.replace(policy, negative_ttl=dict(sorted(self._negative.items())))

    def _forward(self, node: Node, key: KeyPolicy, request: RequestPolicy | None) -> ForwardPolicy | None:
        policy = key.policy
        request = request or key.forwards or RequestPolicy("")
        headers: Selection | None = {"except": list(request.without_headers)} if request.without_headers else None
        if not policy.enabled:
            if (request.query, request.cookies, headers) == ("all", "all", None):
                return None
            if not request.name:
                place = node.child("CachePolicyId")
                if place is not None:
                    place.choice("without an origin request policy no query and no cookies go to the origin, as here")
            return ForwardPolicy(query=request.query, cookies=request.cookies, headers=headers)
        chosen: dict[str, Any] = {} if headers is None else {"headers": headers}
        unkeyed: list[str] = []
        for part, in_key, sent in (
            ("query", policy.query, request.query),
            ("cookies", policy.cookies or "none", request.cookies),
        ):
            whole = united(in_key, sent)
            if whole == in_key:
                continue
            chosen[part] = whole
            names = extra_names(in_key, sent)
            word = part.removesuffix("s")
            if names is None:
                place = node.child("OriginRequestPolicyId") or node
                place.choice(
                    f"requests with a {word} outside the key bypass the cache here, CloudFront shares responses; "
                    f'if responses do not depend on some, list them: unkeyed=["{word}:NAME"]'
                )
            else:
                unkeyed += [f"{word}:{name}" for name in names]
        if unkeyed:
            chosen["unkeyed"] = unkeyed
        return ForwardPolicy(**chosen) if chosen else None

    def _response_headers(self, node: Node, route: SiteRoute) -> None:
        policy: ResponsePolicy | None = self._policies.response(node.child("ResponseHeadersPolicyId"))
        if policy is None:
            return
        if policy.cors is not None:
            route.arguments["cors"] = policy.cors
        if policy.security is not None:
            route.arguments["security"] = policy.security
        if policy.set or policy.remove:
            edits = HeaderEdits(set=policy.set, remove=policy.remove)
            route.arguments["headers"] = HeaderPolicy(response=edits)

    def _guards(self, node: Node, route: SiteRoute) -> None:
        for name in ("LambdaFunctionAssociations", "FunctionAssociations"):
            for item in node.items(name):
                event = item.text("EventType") or "viewer-request"
                item.plain()
                hook = event.replace("-", "_")
                item.left_out(
                    f'the function runs at CloudFront only; write it as a hook: @edge.on("{hook}", "{route.pattern}")'
                )
                route.comments.append(f"A {event} function of CloudFront is missing here: write it as a hook.")
        closed = False
        for name in ("TrustedKeyGroups", "TrustedSigners"):
            found = node.child(name)
            if found is None or found.is_empty or (found.is_table and found.flag("Enabled") is False):
                continue
            if not found.items("Items") and found.is_table:
                continue
            closed = True
            found.left_out(
                "only signed URLs open these paths, and the keys are not in the source: all requests get 403 until "
                'signed=SignedUrls(keys={"KEY-PAIR-ID": "public.pem"}) and to= replace respond='
            )
        if closed:
            target = route.arguments.pop("to")
            for name in ("forward", "fallback", "compress", "cache", "methods"):
                route.arguments.pop(name, None)
            route.arguments = {"respond": Respond(status=403, body="signed URLs only\n"), **route.arguments}
            route.comments.append(
                f"Closed until the public keys are here: replace respond= by to={variable(target, 'origin')} and "
                'signed=SignedUrls(keys={"KEY-PAIR-ID": "public.pem"}).'
            )
        node.without("FieldLevelEncryptionId", "fields of forms are not encrypted on their way to the origin")
        node.without("RealtimeLogConfigArn", "start the edge with --access-log FILE for a log")
        grpc = node.table("GrpcConfig")
        if grpc.flag("Enabled"):
            grpc.left_out("gRPC is not passed on to origins")

    # -- after all behaviours --------------------------------------------------------------------------------------

    def _close_methods(self, routes: list[SiteRoute]) -> None:
        """CloudFront refuses other methods of a behaviour; here a wider route would take them."""
        for route in list(routes):
            methods = route.arguments.get("methods")
            if methods is None:
                continue
            wider = [
                other
                for other in routes
                if other is not route
                and covers(other.pattern, route.pattern)
                and not set(other.arguments.get("methods") or METHODS) <= {*methods, "HEAD"}
            ]
            if not wider:
                continue
            closed: dict[str, Any] = {"respond": Respond(status=403, body="method not allowed here\n")}
            if "priority" in route.arguments:
                closed["priority"] = route.arguments["priority"]
            comments = [f"Other methods are refused, as CloudFront does, and do not reach {wider[-1].pattern}."]
            routes.insert(routes.index(route) + 1, SiteRoute(route.pattern, closed, comments, line=route.line))

    def _root(self, config: Node, routes: list[SiteRoute]) -> None:
        root = config.text("DefaultRootObject")
        last = routes[-1] if routes and routes[-1].pattern == "/*" else None
        if not root or last is None:
            return
        arguments = {**last.arguments, "rewrite": Rewrite("/", f"/{root.strip('/')}")}
        if any("priority" in route.arguments for route in routes):
            arguments["priority"] = len(routes)
        made = SiteRoute("/", arguments, ["The page of the site itself."], line=last.line)
        if "to" not in arguments:
            del arguments["rewrite"]
        routes.insert(len(routes) - 1, made)
        if (target := arguments.get("to")) is not None:
            for host, served in self._hosts.get(target, {}).items():
                if last in served:
                    self._hosts[target][host].append(made)
                    break

    def _viewer_hosts(self) -> None:
        """Sets ``host`` of origins. One that gets both kinds of Host becomes two origins."""
        site = self._site
        for target, served in self._hosts.items():
            if True not in served:
                continue
            group = site.groups.get(target)
            members = (
                [str(name) for name in group.value.members] if group and isinstance(group.value, Group) else [target]
            )
            if False not in served or group is not None:
                if False in served and group is not None:
                    message = "some behaviours send the viewer's Host and some do not; all send it here"
                    site.report.note("choice", group.path, message, line=group.line)
                for member in members:
                    self._set_host(member)
                continue
            declared = site.origins[target]
            if not isinstance(declared.value, Origin):
                continue
            second = site.free_name(f"{target}-viewer-host")
            origin = msgspec.structs.replace(declared.value, name=second, host="viewer")
            site.origins[second] = Declared(
                origin, ["The same server, with the viewer's Host."], declared.path, declared.line
            )
            for route in served[True]:
                if "to" in route.arguments:
                    route.arguments["to"] = second

    def _set_host(self, name: str) -> None:
        declared = self._site.origins.get(name)
        if declared is not None and isinstance(declared.value, Origin):
            declared.value = msgspec.structs.replace(declared.value, host="viewer")
