"""The options that every declaration of a route has: the requests that it takes, and what guards them.

``Edge.route``, ``function``, ``mount``, ``files`` and ``images`` have them as arguments, by ``Unpack``: a type checker
and an editor know each by its name and type. ``Edge.route`` says what they mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypedDict

from edgerouter.experiments import Experiment
from edgerouter.guarding import AddressPolicy, BasicAuth, Cors, RateLimit, SecurityHeaders, SignedUrls
from edgerouter.identity import Jwt
from edgerouter.routes import HeaderPolicy, ViewerPolicy, When

__all__ = ["RouteOptions", "fields_of"]


class RouteOptions(TypedDict, total=False):
    """The options by their names as arguments; each may be left out."""

    host: str | Collection[str] | None
    when: When | Collection[When | Mapping[str, Any]]
    priority: int
    viewer: ViewerPolicy
    headers: HeaderPolicy | Mapping[str, Any] | None
    auth: Jwt | None
    addresses: AddressPolicy | Mapping[str, Any] | None
    cors: Cors | Mapping[str, Any] | None
    rate_limit: RateLimit | Collection[RateLimit | Mapping[str, Any]]
    signed: SignedUrls | Mapping[str, Any] | None
    basic: BasicAuth | Mapping[str, Any] | None
    security: SecurityHeaders | Mapping[str, Any] | None


def fields_of(options: RouteOptions, experiment: Experiment | Collection[Experiment] = ()) -> dict[str, Any]:
    """The fields of a ``Route`` that options set. Those at their default are left out: a large site has ten thousands
    of routes.
    """
    fields: dict[str, Any] = {**options}
    if isinstance(when := fields.get("when"), When):
        fields["when"] = (when,)
    if fields.get("headers") in (None, {}):
        fields.pop("headers", None)
    rate_limit = fields.pop("rate_limit", ())
    if rate_limit != ():
        fields["rate_limits"] = (rate_limit,) if isinstance(rate_limit, RateLimit) else rate_limit
    if experiment != ():
        fields["experiments"] = (experiment,) if isinstance(experiment, Experiment) else experiment
    return fields
