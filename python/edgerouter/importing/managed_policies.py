"""CloudFront's managed policies by their identifiers: facts of its documentation, as values of edgerouter.

A cache policy of CloudFront is what is in the key, and what is in the key goes to the origin. An origin request policy
adds to what goes to the origin, and a response headers policy edits what goes to the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edgerouter import cache
from edgerouter.cache import CachePolicy, Selection
from edgerouter.guarding import Cors, Hsts, SecurityHeaders

__all__ = [
    "CACHE_POLICIES",
    "METHODS",
    "ORIGIN_REQUEST_POLICIES",
    "RESPONSE_HEADERS_POLICIES",
    "Fields",
    "KeyPolicy",
    "RequestPolicy",
    "ResponsePolicy",
]

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_YEAR = 31_536_000

Fields: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class RequestPolicy:
    """An origin request policy: what goes to the origin besides the key. ``host``: the viewer's ``Host`` does."""

    name: str
    query: Selection = "none"
    cookies: Selection = "none"
    without_headers: Fields = ()
    host: bool = False


@dataclass(frozen=True)
class KeyPolicy:
    """A cache policy.

    ``host``  the viewer's ``Host`` is in the key and goes to the origin
    ``forwards``  what goes to the origin, where nothing is stored and so nothing is in a key
    """

    name: str
    policy: CachePolicy
    host: bool = False
    forwards: RequestPolicy | None = None


@dataclass(frozen=True)
class ResponsePolicy:
    """A response headers policy."""

    name: str
    cors: Cors | None = None
    security: SecurityHeaders | None = None
    set: dict[str, str] = field(default_factory=dict)
    remove: Fields = ()


def _keyed(name: str, *, host: bool = False, **fields: Any) -> KeyPolicy:
    return KeyPolicy(name, CachePolicy(request_directives=False, **fields), host)


_ORIGIN_FIELDS = ("Origin", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")

#: By identifier; ``Managed-NAME`` is how consoles and Terraform call them.
CACHE_POLICIES = {
    "658327ea-f89d-4fab-a63d-7e88639e58f6": KeyPolicy("CachingOptimized", cache.OPTIMIZED),
    "4135ea2d-6df8-44a3-9df3-4b5a84be39ad": KeyPolicy("CachingDisabled", cache.DISABLED),
    "b2884449-e4de-46a7-ac36-70bc7f1ddd6d": _keyed(
        "CachingOptimizedForUncompressedObjects",
        default_ttl=86_400,
        min_ttl=1,
        max_ttl=_YEAR,
        query="none",
        cookies="none",
    ),
    "08627262-05a9-4f76-9ded-b50ca2e3a84f": _keyed(
        "Elemental-MediaPackage",
        default_ttl=86_400,
        max_ttl=_YEAR,
        query=["aws.manifestfilter", "start", "end", "m"],
        cookies="none",
        headers=["Origin"],
        accept_encoding=True,
    ),
    "2e54312d-136d-493c-8eb9-b001f22f67d2": _keyed(
        "Amplify",
        host=True,
        default_ttl=2,
        min_ttl=2,
        max_ttl=600,
        cookies="all",
        headers=["Authorization"],
        accept_encoding=True,
    ),
    "83da9c7e-98b4-4e11-a168-04f0df8e2c65": _keyed(
        "UseOriginCacheControlHeaders",
        host=True,
        default_ttl=0,
        max_ttl=_YEAR,
        query="none",
        cookies="all",
        headers=_ORIGIN_FIELDS,
        accept_encoding=True,
    ),
    "4cc15a8a-d715-48a4-82b8-cc0b614638fe": _keyed(
        "UseOriginCacheControlHeaders-QueryStrings",
        host=True,
        default_ttl=0,
        max_ttl=_YEAR,
        cookies="all",
        headers=_ORIGIN_FIELDS,
        accept_encoding=True,
    ),
}

ORIGIN_REQUEST_POLICIES = {
    "216adef6-5c7f-47e4-b989-5492eafa07d3": RequestPolicy("AllViewer", "all", "all", host=True),
    "33f36d7e-f396-46d9-90e0-52428a34d9dc": RequestPolicy(
        "AllViewerAndCloudFrontHeaders-2022-06", "all", "all", host=True
    ),
    "b689b0a8-53d0-40ab-baf2-68738e2966ac": RequestPolicy("AllViewerExceptHostHeader", "all", "all"),
    "59781a5b-3903-41f3-afcb-af62929ccde1": RequestPolicy("CORS-CustomOrigin"),
    "88a5eaf4-2fd4-4709-b370-b4c650ea3fcf": RequestPolicy("CORS-S3Origin"),
    "775133bc-15f2-49f9-abea-afb2e0bf67d2": RequestPolicy("Elemental-MediaTailor-PersonalizedManifests", "all"),
    "bf0718e1-ba1e-49d1-88b1-f726733018ae": RequestPolicy("HostHeaderOnly", host=True),
    "acba4595-bd28-49b8-b9fe-13317c0390fa": RequestPolicy("UserAgentRefererHeaders"),
}

_SIMPLE = Cors(origins="*")
_PREFLIGHT = Cors(origins="*", methods=METHODS, expose="*")
_SECURITY = SecurityHeaders(hsts=Hsts(max_age=_YEAR))

RESPONSE_HEADERS_POLICIES = {
    "60669652-455b-4ae9-85a4-c4c02393f86c": ResponsePolicy("SimpleCORS", _SIMPLE),
    "5cc3b908-e619-4b99-88e5-2cf7f45965bd": ResponsePolicy("CORS-With-Preflight", _PREFLIGHT),
    "67f7725c-6f97-4210-82d7-5512b31e9d03": ResponsePolicy("SecurityHeadersPolicy", None, _SECURITY),
    "e61eb60c-9c35-4d20-a928-2b84e02af89c": ResponsePolicy("CORS-and-SecurityHeadersPolicy", _SIMPLE, _SECURITY),
    "eaab4381-ed33-4a86-88ca-d9558dc6cd63": ResponsePolicy(
        "CORS-with-preflight-and-SecurityHeadersPolicy", _PREFLIGHT, _SECURITY
    ),
}
