"""Geo: where clients are, by files in MaxMind's format. The core decides what follows; the engine reads the files.

A file that is not there, or that is none, is a problem of the plan; one that takes its place later is read without a
reload.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec

from edgerouter import places
from edgerouter.arguments import accepts
from edgerouter.cache import Duration, GeoFact
from edgerouter.checks import Check, Value, listed
from edgerouter.errors import ConfigError, Problem

if TYPE_CHECKING:
    from edgerouter.declarations import Declarations

__all__ = ["GeoFact", "GeoPolicy", "Geography"]

_NAMES = re.compile(r"[!-~]{1,64}\Z")
Naming: TypeAlias = Literal["x-geo", "cloudfront"]


class _Files(Value, frozen=True):
    files: str | os.PathLike[str] | Collection[str | os.PathLike[str]] = ()


class GeoPolicy(_Files, frozen=True, kw_only=True):
    """The files that say where clients are; see ``Edge.geo``.

    ``files``  files in MaxMind's format, such as GeoLite2-City and GeoLite2-ASN; the first that has a fact gives it. A
        relative path is relative to the folder of the file that declares it, Python or plan
    ``interval``  seconds between two looks at the files; one that was replaced is read again
    ``naming``  the names of the fields for origins: ``"x-geo"`` (``X-Geo-Country``) or ``"cloudfront"``
        (``CloudFront-Viewer-Country``)
    ``country_fields``  fields of ``trusted_proxy_fields`` in which a trusted proxy names the country, such as
        ``"CF-IPCountry"``; they have precedence over the files
    ``regions``  names of regions with their latitude and longitude, for ``ctx.region``:
        ``{"fra1": (50.0, 8.6), "iad1": (38.9, -77.4)}``
    ``count_countries``  counts the bytes to viewers by country in the metrics, for the prices of regions in
        ``edgerouter cost``; each request then looks its place up
    """

    interval: Duration = 5
    naming: Naming = "x-geo"
    country_fields: Collection[str] = ()
    regions: Mapping[str, tuple[float, float]] = {}
    count_countries: bool = False

    def _check(self, check: Check) -> None:
        files = [self.files] if isinstance(self.files, (str, os.PathLike)) else listed(self.files)
        if files is not None:
            check.keep("files", tuple(os.fspath(file) if isinstance(file, os.PathLike) else file for file in files))
        check.texts("files")
        check.seconds("interval", positive=True)
        check.choice("naming", get_args(Naming))
        check.tokens("country_fields")
        check.flag("count_countries")
        if not self.files and not self.country_fields:
            check.fail_secretly("files", "must name a file, or give country_fields: without both it has no effect")
        if not isinstance(self.regions, Mapping):
            check.fail("regions", "must be names with latitude and longitude")
            return
        for name, place in self.regions.items():
            pair = listed(place)
            if not isinstance(name, str) or not _NAMES.match(name):
                check.fail("regions", "must be named with 1 to 64 visible characters", value=name)
            elif pair is None or len(pair) != 2 or not _is_place(*pair):
                check.fail(f"regions[{name!r}]", "must be latitude and longitude in degrees: (50.0, 8.6)", value=place)
        check.keep("regions", {name: tuple(listed(place) or ()) for name, place in self.regions.items()})


def _is_place(latitude: object, longitude: object) -> bool:
    return all(
        isinstance(degrees, (int, float)) and not isinstance(degrees, bool) and math.fabs(degrees) <= most
        for degrees, most in ((latitude, 90), (longitude, 180))
    )


def located(policy: GeoPolicy, folder: Path) -> GeoPolicy:
    """The same with absolute files."""
    return msgspec.structs.replace(policy, files=tuple(str(folder / file) for file in listed(policy.files) or ()))


def rebase(plan: MutableMapping[str, Any], folder: Path) -> None:
    """Makes the relative files of a plan file relative to ``folder``."""
    geo = plan.get("geo")
    if isinstance(geo, MutableMapping) and isinstance(geo.get("files"), list):
        geo["files"] = [str(folder / file) if isinstance(file, str) and file else file for file in geo["files"]]


class Geography:
    """The places of clients as an ``Edge`` declares them."""

    _declared: Declarations

    @accepts(GeoPolicy)
    def geo(self, policy: GeoPolicy) -> GeoPolicy:
        """Looks up where clients are: ``edge.geo(["GeoLite2-City.mmdb", "GeoLite2-ASN.mmdb"])``; once for an edge.

        A place is looked up by the first that reads it: a condition ``When(country=…)``, ``AddressPolicy``, a field for
        the origin or the key (``CachePolicy.geo``, ``ForwardPolicy.geo``), ``request.geo`` or ``ctx.region``. The
        arguments are the fields of ``GeoPolicy``.
        """
        if self._declared.geo is not None or "geo" in self._declared.base:
            raise ConfigError([Problem("geo", None, "is declared already: an edge has one, with up to 4 files")])
        self._declared.places.note("geo")
        self._declared.geo = located(policy, places.folder_of_caller())
        return self._declared.geo
