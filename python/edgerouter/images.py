"""Images that the edge scales and codes: the variants that a route makes, and the places that images come from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, TypeAlias, get_args

from edgerouter.checks import Check, Value, listed, shown
from edgerouter.errors import ConfigError, Problem
from edgerouter.origins import Group, Origin

__all__ = ["ImageFormat", "ImageSources", "Images"]

ImageFormat: TypeAlias = Literal["avif", "webp", "jpeg", "png"]
"""A format that the edge encodes."""

_FORMATS = get_args(ImageFormat)
_MOST_PIXELS = 16_384
_MOST_LISTED = 64


class Images(Value, frozen=True, kw_only=True):
    """The variants of images that a route makes, by the parameters ``w``, ``h``, ``f``, ``q``, ``fit``, ``crop`` and
    ``dpr`` of a query.

    Sizes and qualities come from lists, since anybody could have any number of variants made otherwise. With ``None``
    every value is allowed, which needs ``signed`` on the route.

    ``widths``, ``heights``  for ``w`` and ``h``; empty heights are the same as the widths
    ``qualities``, ``quality``  for ``q``, and the quality of a request without it
    ``formats``  for ``f`` and the negotiation by ``Accept``: ``"auto"`` for all, or a list of names
    ``svg``, ``avif``  ``"pass"`` sends such an image as it is; ``"refuse"`` answers 415
    ``hints``  ``Sec-CH-DPR`` and ``DPR`` multiply the sizes
    """

    widths: Collection[int] | None = (160, 320, 480, 640, 960, 1_280, 1_920, 2_560)
    heights: Collection[int] | None = ()
    qualities: Collection[int] | None = (40, 60, 75, 90)
    quality: int = 75
    formats: Literal["auto"] | Collection[ImageFormat] = "auto"
    svg: Literal["pass", "refuse"] = "refuse"
    avif: Literal["pass", "refuse"] = "pass"
    hints: bool = True

    def _check(self, check: Check) -> None:
        for name, most in (("widths", _MOST_PIXELS), ("heights", _MOST_PIXELS), ("qualities", 100)):
            self._check_numbers(check, name, most)
        check.whole("quality", least=1, most=100)
        formats = listed(self.formats)
        if self.formats != "auto" and (not formats or not all(it in (*_FORMATS, "jpg") for it in formats)):
            check.fail("formats", f'must be "auto", or name some of {", ".join(_FORMATS)}')
        check.choice("svg", ("pass", "refuse"))
        check.choice("avif", ("pass", "refuse"))
        check.flag("hints")

    def _check_numbers(self, check: Check, name: str, most: int) -> None:
        value = getattr(self, name)
        if value is None:
            return
        numbers = listed(value)
        whole = numbers is not None and all(
            isinstance(it, int) and not isinstance(it, bool) and 1 <= it <= most for it in numbers
        )
        if not whole or (not numbers and name != "heights"):
            check.fail(name, f"must be a list of whole numbers from 1 to {most}, or None with signed URLs")
        elif len(numbers or ()) > _MOST_LISTED:
            check.fail(name, f"must have at most {_MOST_LISTED} members")


class ImageSources(Value, frozen=True, kw_only=True):
    """The places that images named by a URL may come from.

    ``origins``  names of origins and groups of this edge, whose routes everybody may use
    ``hosts``  hosts of others: ``"img.example.com"``, ``"*.example.com"``, ``"http://10.0.0.7:8080"``
    ``networks``  private networks in which those hosts may be
    """

    origins: Collection[str] = ()
    hosts: Collection[str] = ()
    networks: Collection[str] = ()

    def _check(self, check: Check) -> None:
        check.texts("origins")
        check.texts("hosts")
        check.texts("networks")


def split(sources: Collection[Any]) -> tuple[list[Any], list[str]]:
    """The origins and groups among the sources, and the hosts of others: texts are hosts."""
    given = [sources] if isinstance(sources, (Origin, Group)) else listed(sources)
    if given is None:
        message = "must be a list of origins and groups, or hosts as text"
        raise ConfigError([Problem("images.sources", shown(sources), message)])
    origins = [source for source in given if isinstance(source, (Origin, Group))]
    hosts = [source for source in given if not isinstance(source, (Origin, Group))]
    return origins, hosts
