"""The price model: a TOML file that users edit, read strictly, and the arithmetic on it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgerouter.costs.fields import Fields
from edgerouter.costs.terms import ELSEWHERE, Budget, Line, Region, Schedule, Tenant
from edgerouter.costs.usage import Usage
from edgerouter.errors import ConfigError, Problem

__all__ = ["Prices", "example", "examples"]

MILLION = 1_000_000
#: Seconds of the month by which storage is priced.
MONTH = 30 * 86_400
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Prices:
    """A price model. An item without a price costs nothing and has no line."""

    name: str
    currency: str
    source: str
    bytes_per_gb: float
    requests: Schedule
    regions: tuple[Region, ...]
    origin_requests: Schedule
    origin_bytes: Schedule
    function_calls: Schedule
    function_seconds: Schedule
    storage: Schedule
    machines_per_month: float
    budget: Budget | None
    tenants: tuple[Tenant, ...] = ()

    @classmethod
    def load(cls, given: str) -> Prices:
        """Prices by the name of an example or by a file; ``ConfigError`` names each field that is wrong."""
        if given in examples():
            return cls.read(example(given), given)
        try:
            with Path(given).open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except OSError as error:
            remedy = f"{error.strerror or error}; give a file, or one of {', '.join(examples())}"
            raise ConfigError([Problem("--prices", repr(given), remedy)]) from None
        if len(content) > MOST_BYTES:
            raise ConfigError([Problem("--prices", repr(given), f"must have at most {MOST_BYTES:,} bytes")])
        try:
            return cls.read(content.decode(), given)
        except UnicodeDecodeError:
            raise ConfigError([Problem("--prices", repr(given), "must be UTF-8")]) from None

    @classmethod
    def read(cls, text: str, place: str) -> Prices:
        """Prices from TOML."""
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError([Problem(place, None, f"is not TOML: {error}")]) from None
        fields = Fields(data, place)
        prices = cls(
            name=fields.text("name"),
            currency=fields.text("currency", default="USD"),
            source=fields.text("source", default=""),
            bytes_per_gb=fields.number("bytes_per_gb", default=1e9, least=1.0),
            requests=fields.schedule("requests", "per_million"),
            regions=fields.regions("egress"),
            origin_requests=fields.schedule("origin", "requests_per_million"),
            origin_bytes=fields.schedule("origin", "per_gb"),
            function_calls=fields.schedule("functions", "calls_per_million"),
            function_seconds=fields.schedule("functions", "per_million_seconds"),
            storage=fields.schedule("storage", "per_gb_month"),
            machines_per_month=fields.number("machines", "per_month", default=0.0),
            budget=fields.budget("budget"),
            tenants=fields.tenants("tenants"),
        )
        fields.done()
        return prices

    def bill(self, usage: Usage, share_of_month: float = 0.0) -> list[Line]:
        """The items for the usage of one month, of which this share has passed."""
        return [line for _, line in self.items(usage, share_of_month) if line.cost]

    def items(self, usage: Usage, share_of_month: float = 0.0) -> list[tuple[str, Line]]:
        """All items, each with the name of the amount in ``Usage`` by which tenants share it."""
        from_origins = usage.origin_bytes / self.bytes_per_gb
        stored = usage.stored_byte_seconds / self.bytes_per_gb / MONTH
        return [
            ("requests", Line("requests", usage.requests, "requests", self.requests.cost(usage.requests / MILLION))),
            *(
                (
                    "bytes",
                    Line(f"to viewers, {region.name}", gigabytes, "GB", region.per_gb.cost(gigabytes)),
                )
                for region, gigabytes in self._regions(usage)
            ),
            (
                "origin_requests",
                Line(
                    "requests to origins",
                    usage.origin_requests,
                    "requests",
                    self.origin_requests.cost(usage.origin_requests / MILLION),
                ),
            ),
            ("origin_bytes", Line("from origins", from_origins, "GB", self.origin_bytes.cost(from_origins))),
            (
                "function_calls",
                Line(
                    "calls of functions",
                    usage.function_calls,
                    "calls",
                    self.function_calls.cost(usage.function_calls / MILLION),
                ),
            ),
            (
                "function_calls",
                Line(
                    "time of functions",
                    usage.function_seconds,
                    "seconds",
                    self.function_seconds.cost(usage.function_seconds / MILLION),
                ),
            ),
            ("requests", Line("storage", stored, "GB-months", self.storage.cost(stored))),
            ("requests", Line("machines", share_of_month, "months", self.machines_per_month * share_of_month)),
        ]

    def _regions(self, usage: Usage) -> list[tuple[Region, float]]:
        """Each region with its gigabytes."""
        return [(region, region.bytes(usage, self.regions) / self.bytes_per_gb) for region in self.regions]

    def _more_to_viewers(self, usage: Usage, further: float) -> float:
        """The price of further gigabytes to viewers, in the proportion of the regions."""
        whole = usage if usage.bytes else Usage(bytes=1.0)
        parts = ((region, region.bytes(whole, self.regions) / whole.bytes) for region in self.regions)
        gigabytes = usage.bytes / self.bytes_per_gb
        return sum(region.per_gb.more(gigabytes * part, further * part) for region, part in parts)

    def by_country(self, usage: Usage) -> list[dict[str, Any]]:
        """The bytes to viewers of each country with their part of its region's cost, the largest first.

        Bytes of unknown countries have the country ``""``, and are priced with all others.
        """
        regions = {code: region for region in self.regions for code in region.countries}
        means = {
            region.name: region.per_gb.cost(gigabytes) / gigabytes / self.bytes_per_gb if gigabytes else 0.0
            for region, gigabytes in self._regions(usage)
        }
        unplaced = max(usage.bytes - sum(usage.countries.values()), 0.0)
        rows = []
        for code, amount in {**usage.countries, "": unplaced}.items():
            region = regions.get(code) or regions[ELSEWHERE]
            if amount:
                rows.append(
                    {"country": code, "region": region.name, "bytes": amount, "cost": amount * means[region.name]}
                )
        return sorted(rows, key=lambda row: (-float(row["bytes"]), row["country"]))

    @property
    def needs_countries(self) -> bool:
        """True if bytes to viewers are priced by country."""
        return any(region.countries for region in self.regions)

    def total(self, usage: Usage, share_of_month: float = 0.0) -> float:
        return sum(line.cost for line in self.bill(usage, share_of_month))

    def savings(self, usage: Usage) -> list[Line]:
        """The items that the bill would have in addition without cache, compression, variants of images and functions.

        The price of each is that of the next units. Bytes that the cache answered are estimated by the mean response.
        Compression is that of responses that were compressed while they were sent, and of images each variant counts
        once: the edge does not count the bytes that stored variants spare. A request that a function answers is one
        that no origin had to.
        """
        if not usage.requests:
            return []
        gigabytes = usage.bytes / self.bytes_per_gb
        cached = gigabytes * usage.answered_by_cache / usage.requests
        spared = max(usage.before_compression - usage.after_compression, 0.0) / self.bytes_per_gb
        images = max(usage.before_images - usage.after_images, 0.0) / self.bytes_per_gb
        answered, called = usage.answered_by_cache, usage.answered_by_functions
        lines = [
            Line(
                "cache: requests to origins",
                answered,
                "requests",
                self.origin_requests.more(usage.origin_requests / MILLION, answered / MILLION),
            ),
            Line(
                "cache: bytes from origins (estimated)",
                cached,
                "GB",
                self.origin_bytes.more(usage.origin_bytes / self.bytes_per_gb, cached),
            ),
            Line(
                "compression: bytes to viewers (at least)",
                spared,
                "GB",
                self._more_to_viewers(usage, spared),
            ),
            Line(
                "images: bytes to viewers (at least)",
                images,
                "GB",
                self._more_to_viewers(usage, images),
            ),
            Line(
                "functions: requests to origins",
                called,
                "requests",
                self.origin_requests.more((usage.origin_requests + answered) / MILLION, called / MILLION),
            ),
        ]
        return [line for line in lines if line.amount]


def examples() -> list[str]:
    """The names of the price models in the package."""
    return sorted(name.removesuffix(".toml") for name in _names())


def example(name: str) -> str:
    """The text of one."""
    return (resources.files("edgerouter.costs") / "examples" / f"{name}.toml").read_text(encoding="utf-8")


def _names() -> Iterator[str]:
    for file in (resources.files("edgerouter.costs") / "examples").iterdir():
        if file.name.endswith(".toml"):
            yield file.name
