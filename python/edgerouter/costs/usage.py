"""The amounts that cost money, as the metrics of an edge have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from edgerouter.monitoring.alerts import ANSWERED_BY_CACHE, LOOKED_UP
from edgerouter.monitoring.samples import Samples

__all__ = ["Usage"]

_CODE = re.compile("[A-Z]{2}")


@dataclass(frozen=True)
class Usage:
    """Amounts, all of which only grow. Bytes are those of content: heads, TLS and retransmissions are not in them."""

    requests: float = 0.0
    """Requests that were answered."""
    answered_by_cache: float = 0.0
    """Requests for which no origin was requested."""
    looked_up: float = 0.0
    """Requests that used the cache at all."""
    bytes: float = 0.0
    """Bytes that were sent to viewers."""
    before_compression: float = 0.0
    """Bytes before compression of responses that were compressed while they were sent, without stored variants."""
    after_compression: float = 0.0
    origin_requests: float = 0.0
    origin_bytes: float = 0.0
    """Bytes that origins sent."""
    function_calls: float = 0.0
    function_seconds: float = 0.0
    """Time from calls of hooks and functions to their ends."""
    answered_by_functions: float = 0.0
    """Requests that a function answered in the place of an origin."""
    before_images: float = 0.0
    """Bytes of images of which variants were made, and of the variants, without the times that they were sent again."""
    after_images: float = 0.0
    stored_byte_seconds: float = 0.0
    """Bytes of the disk cache times the seconds for which it had them. The ledger adds them up."""
    countries: Mapping[str, float] = field(default_factory=dict)
    """Bytes that were sent to viewers by country, if the edge counts them; those of unknown places are in none."""

    @classmethod
    def of(cls, samples: Samples) -> Usage:
        """The counters of an edge since it was started."""
        requests = "edgerouter_requests_total"
        return cls(
            requests=samples.total(requests),
            answered_by_cache=samples.total(requests, cache=ANSWERED_BY_CACHE),
            looked_up=samples.total(requests, cache=LOOKED_UP),
            bytes=samples.total("edgerouter_response_bytes_total"),
            before_compression=samples.total("edgerouter_compressed_bytes_total", side="before"),
            after_compression=samples.total("edgerouter_compressed_bytes_total", side="after"),
            origin_requests=samples.total("edgerouter_origin_requests_total"),
            origin_bytes=samples.total("edgerouter_route_origin_bytes_total"),
            function_calls=samples.total("edgerouter_function_calls_total"),
            function_seconds=samples.total("edgerouter_function_duration_seconds_sum"),
            answered_by_functions=samples.total(requests, cache="function"),
            before_images=samples.total("edgerouter_images_bytes_total", side="before"),
            after_images=samples.total("edgerouter_images_bytes_total", side="after"),
            countries={
                country: bytes_
                for country, bytes_ in samples.by("country", "edgerouter_country_response_bytes_total").items()
                if _CODE.fullmatch(country)
            },
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Usage:
        """Usage as ``as_dict`` gives it; ``ValueError`` if it is not."""
        countries = data.get("countries", {})
        if not isinstance(countries, Mapping) or not all(map(_CODE.fullmatch, countries)):
            raise ValueError("countries is not amounts by code")
        amounts = {name: _amount(name, data.get(name, 0.0)) for name in _AMOUNTS}
        return cls(**amounts, countries={code: _amount(code, of) for code, of in countries.items()})

    def as_dict(self) -> dict[str, Any]:
        return {**self._amounts(), "countries": dict(self.countries)}

    def _amounts(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in _AMOUNTS}

    def flat(self) -> dict[str, float]:
        """All amounts, those of countries under their codes."""
        return {**self._amounts(), **self.countries}

    @classmethod
    def of_flat(cls, flat: Mapping[str, float]) -> Usage:
        """The inverse of ``flat``."""
        countries = {name: amount for name, amount in flat.items() if _CODE.fullmatch(name)}
        return cls(**{name: flat[name] for name in _AMOUNTS}, countries=countries)

    def plus(self, other: Usage, times: float = 1.0) -> Usage:
        """The sum with a multiple of the other, and never below zero."""
        mine, others = self.flat(), other.flat()
        return self.of_flat(
            {name: max(mine.get(name, 0.0) + others.get(name, 0.0) * times, 0.0) for name in {**mine, **others}}
        )

    def since(self, earlier: Usage) -> Usage:
        """The growth. If a counter fell the edge was started anew, and all that it has counted is growth."""
        if self.requests < earlier.requests or self.bytes < earlier.bytes:
            return self
        return self.plus(earlier, -1.0)


_AMOUNTS = tuple(one.name for one in fields(Usage) if one.name != "countries")


def _amount(name: str, amount: object) -> float:
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < 1e30:
        raise ValueError(f"{name} is not an amount")
    return float(amount)
