"""A/B and N-way experiments: visitors are split by weight and stay where they were put.

A variant is part of the cache key of everything on the route; nobody has to remember it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import ClassVar, Literal

from edgerouter.cache import Duration
from edgerouter.checks import Check, Value, is_token, listed

__all__ = ["Experiment"]

_BY = r"sub|header:.+|claim:.+"
_CONFIG = re.compile(r"kv:[A-Za-z][A-Za-z0-9_]*/.+\Z", re.DOTALL)
_CONVERSION = r"([A-Z]+ )?/\S*"
_VARIANT = r"[A-Za-z0-9_.-]{1,64}\Z"


class _Named(Value, frozen=True):
    name: str


class Experiment(_Named, frozen=True, kw_only=True):
    """Splits a route's visitors among variants.

    ``name``  1 to 64 letters, digits, ``-`` or ``_``; moving a visitor's variant to another name draws it anew
    ``variants``  names and weights, as in ``{"control": 50, "treatment": 50}``; a weight of 0 switches one off
    ``cookie``  where the visitor's variant is kept
    ``mode``  ``"cookie"``: set on the response when absent; ``"redirect"``: a 302 to the same URL that sets it
    ``by``  a stable id to decide by: ``"sub"``, ``"claim:NAME"`` or ``"header:NAME"``; ``None``: at random
    ``salt``  changes who gets what, for a new run of the same experiment
    ``header``  gives the origin the variant
    ``max_age``  seconds that the cookie lives; ``secure``, ``same_site``  its attributes
    ``config``  ``"kv:BINDING/KEY"``: weights, switches and payloads that are read while the edge serves, from a store
        of ``Edge.kv``. The key may have ``{name}`` and ``{variant}``, which gives each variant a key of its own
    ``config_interval``  seconds between two readings
    ``payload_header``  gives the origin the payload of the variant, as JSON in base64url
    ``conversion``  the request that counts as a conversion if its status is below 400, on whichever route it is: a path
        with ``*``, or a method and a path, as in ``"POST /checkout*"``; functions count others with ``ctx.convert``
    """

    _example: ClassVar[str] = 'Experiment("home", variants={"control": 50, "treatment": 50})'

    variants: Mapping[str, float] | Collection[tuple[str, float]]
    cookie: str = "ab-variant"
    mode: Literal["cookie", "redirect"] = "cookie"
    by: str | None = None
    salt: str = ""
    header: str = "X-Variant"
    max_age: int = 2_592_000
    secure: bool = False
    same_site: Literal["Lax", "Strict", "None"] = "Lax"
    config: str | None = None
    config_interval: Duration = 5
    payload_header: str | None = None
    conversion: str | None = None

    def _check(self, check: Check) -> None:
        check.name("name")
        self._check_variants(check)
        check.token("cookie", "header")
        check.choice("mode", ("cookie", "redirect"))
        if self.by is not None and (not isinstance(self.by, str) or not re.fullmatch(_BY, self.by)):
            check.fail("by", 'must be "sub", "claim:NAME", "header:NAME" or None')
        elif self.by is not None and self.by.startswith("header:") and not is_token(self.by[7:]):
            check.fail("by", "must name a header after header:")
        check.text("salt", empty=True)
        check.seconds("max_age", whole=True, positive=True)
        check.flag("secure")
        check.choice("same_site", ("Lax", "Strict", "None"))
        if self.conversion is not None and (
            not isinstance(self.conversion, str) or not re.fullmatch(_CONVERSION, self.conversion)
        ):
            check.fail("conversion", "must be a path with *, or a method and a path, such as 'POST /checkout'")
        if self.same_site == "None" and self.secure is False:
            check.fail("same_site", "None needs secure=True, or browsers drop the cookie")
        self._check_config(check)

    def _check_config(self, check: Check) -> None:
        if self.config is not None and (not isinstance(self.config, str) or not _CONFIG.match(self.config)):
            check.fail("config", 'must be "kv:BINDING/KEY", as in "kv:EXPERIMENTS/experiment:{variant}"')
        check.seconds("config_interval", positive=True)
        check.token("payload_header", optional=True)
        if self.config is None and self.payload_header is not None:
            check.fail("payload_header", "has no effect without config, which gives the payloads")
        if self.config is None and self.config_interval != 5:
            check.fail("config_interval", "has no effect without config, which names the place to read")

    def _check_variants(self, check: Check) -> None:
        items = list(self.variants.items()) if isinstance(self.variants, Mapping) else listed(self.variants)
        if not items or not all(isinstance(item, (tuple, list)) and len(item) == 2 for item in items):
            check.fail("variants", 'must be names and weights, as in {"control": 50, "treatment": 50}')
            return
        total = 0.0
        for variant, weight in items:
            if not isinstance(variant, str) or not re.match(_VARIANT, variant):
                check.fail("variants", "must be named with letters, digits, ., - or _", value=variant)
            elif isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
                check.fail(f"variants[{variant!r}]", "must be a weight ≥ 0", value=weight)
            else:
                total += weight
        if len({name for name, _ in items}) != len(items):
            check.fail("variants", "must have different names")
        elif not total:
            check.fail("variants", "must have at least one weight > 0")
        check.keep("variants", tuple((name, weight) for name, weight in items))
