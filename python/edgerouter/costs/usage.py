"""The amounts that cost money, as the metrics of an edge have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from edgerouter.monitoring.alerts import ANSWERED_BY_CACHE, LOOKED_UP
from edgerouter.monitoring.samples import Samples

__all__ = ["Usage"]


@dataclass(frozen=True)
class Usage:
    """Amounts, all of which only grow. Bytes are those of content: heads, TLS and retransmissions are not in them."""

    requests: float = 0.0
    """Requests that were answered."""
    answered_by_cache: float = 0.0
    """Those of them that no origin was requested for."""
    looked_up: float = 0.0
    """Those of them that used the cache at all."""
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
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Usage:
        """Usage as ``as_dict`` gives it; ``ValueError`` if it is not."""
        amounts = {}
        for field in fields(cls):
            amount = data.get(field.name, 0.0)
            if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < 1e30:
                raise ValueError(f"{field.name} is not an amount")
            amounts[field.name] = float(amount)
        return cls(**amounts)

    def as_dict(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def plus(self, other: Usage, times: float = 1.0) -> Usage:
        """The sum with a multiple of the other, and never below zero."""
        mine, others = self.as_dict(), other.as_dict()
        return Usage(**{name: max(mine[name] + others[name] * times, 0.0) for name in mine})

    def since(self, earlier: Usage) -> Usage:
        """The growth. If a counter fell the edge was started anew, and all that it has counted is growth."""
        if self.requests < earlier.requests or self.bytes < earlier.bytes:
            return self
        return self.plus(earlier, -1.0)
