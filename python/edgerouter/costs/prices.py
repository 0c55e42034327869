"""The price model: a TOML file that users edit, read strictly, and the arithmetic on it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from edgerouter.costs.usage import Usage
from edgerouter.errors import ConfigError, Problem

__all__ = ["Budget", "Line", "Prices", "Region", "Schedule", "Tenant", "example", "examples"]

MILLION = 1_000_000
#: Seconds of the month by which storage is priced.
MONTH = 30 * 86_400
MOST_BYTES = 1 << 20
MOST_TIERS = 32
MOST_SHARES = 8
MOST_TENANTS = 64
MOST_ROUTES = 256


class Line(NamedTuple):
    """An item of a bill."""

    item: str
    amount: float
    unit: str
    cost: float


@dataclass(frozen=True)
class Schedule:
    """The price of a unit, by the amount in a month: each step up to an amount, and the last one without end."""

    steps: tuple[tuple[float, float], ...] = ()

    def cost(self, amount: float) -> float:
        total = begin = 0.0
        for end, price in self.steps:
            if amount <= begin:
                break
            total += (min(amount, end) - begin) * price
            begin = end
        return total

    def more(self, amount: float, further: float) -> float:
        """The price of further units after an amount."""
        return self.cost(amount + further) - self.cost(amount)


@dataclass(frozen=True)
class Region:
    """A share of the bytes to viewers that has a price of its own."""

    name: str
    share: float
    per_gb: Schedule


@dataclass(frozen=True)
class Tenant:
    """A party that shares the bill: its routes by their labels in the metrics, in which ``*`` is any text."""

    name: str
    routes: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """The money for a month, and the shares of it at which an alarm is due."""

    per_month: float
    alarm_at: tuple[float, ...] = (1.0,)


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
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigError([Problem(place, None, f"is not TOML: {error}")]) from None
        fields = _Fields(data, place)
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
        gigabytes = usage.bytes / self.bytes_per_gb
        from_origins = usage.origin_bytes / self.bytes_per_gb
        stored = usage.stored_byte_seconds / self.bytes_per_gb / MONTH
        return [
            ("requests", Line("requests", usage.requests, "requests", self.requests.cost(usage.requests / MILLION))),
            *(
                (
                    "bytes",
                    Line(
                        f"to viewers, {region.name}",
                        gigabytes * region.share,
                        "GB",
                        region.per_gb.cost(gigabytes * region.share),
                    ),
                )
                for region in self.regions
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
                sum(region.per_gb.more(gigabytes * region.share, spared * region.share) for region in self.regions),
            ),
            Line(
                "images: bytes to viewers (at least)",
                images,
                "GB",
                sum(region.per_gb.more(gigabytes * region.share, images * region.share) for region in self.regions),
            ),
            Line(
                "functions: requests to origins",
                called,
                "requests",
                self.origin_requests.more((usage.origin_requests + answered) / MILLION, called / MILLION),
            ),
        ]
        return [line for line in lines if line.amount]


class _Fields:
    """Reads fields, and keeps each problem with its path."""

    def __init__(self, data: Mapping[str, Any], place: str) -> None:
        self._place = place
        self._problems: list[Problem] = []
        self._known: set[tuple[str, ...]] = set()
        self._data = data

    def done(self) -> None:
        """Raises ``ConfigError`` if a field was wrong, or is one that nobody reads."""
        for name, value in self._data.items():
            if isinstance(value, Mapping) and any(len(path) > 1 and path[0] == name for path in self._known):
                for inner in value:
                    if (name, inner) not in self._known:
                        self._fail(f"{name}.{inner}", ..., self._remedy(name))
            elif (name,) not in self._known:
                self._fail(name, ..., self._remedy())
        if self._problems:
            raise ConfigError(self._problems)

    def _remedy(self, group: str | None = None) -> str:
        paths = {
            path[1] if group else path[0] for path in self._known if group is None or (path[0] == group and path[1:])
        }
        return f"is not a field; there are {', '.join(sorted(paths))}"

    def _fail(self, path: str, value: object, message: str) -> None:
        shown = None if value is ... else repr(value)[:60]
        self._problems.append(Problem(f"{self._place}: {path}", shown, message))

    def _get(self, *path: str) -> Any:
        self._known.add(path)
        found: Any = self._data
        for index, name in enumerate(path):
            if not isinstance(found, Mapping):
                self._fail(".".join(path[:index]), found, "must be a table")
                return None
            found = found.get(name)
            if found is None:
                return None
        return found

    def text(self, *path: str, default: str | None = None) -> str:
        found = self._get(*path)
        if found is None and default is not None:
            return default
        if not isinstance(found, str) or not 1 <= len(found) <= 500 or not found.isprintable():
            self._fail(".".join(path), found, "must be a printable text of 1 to 500 characters")
            return ""
        return found

    def number(self, *path: str, default: float | None = None, least: float = 0.0) -> float:
        found = self._get(*path)
        return default if found is None and default is not None else self._amount(".".join(path), found, least=least)

    def _amount(self, path: str, found: object, *, least: float = 0.0, most: float = 1e15) -> float:
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not least <= found <= most:
            self._fail(path, found, f"must be a number from {least:g} to {most:g}")
            return least
        return float(found)

    def schedule(self, *path: str) -> Schedule:
        return self._schedule(".".join(path), self._get(*path))

    def _schedule(self, path: str, found: object) -> Schedule:
        """A price, or a list of ``{up_to = …, price = …}`` whose last one has no ``up_to``."""
        if found is None:
            return Schedule()
        if not isinstance(found, list):
            return Schedule(((float("inf"), self._amount(path, found)),))
        steps: list[tuple[float, float]] = []
        if not 1 <= len(found) <= MOST_TIERS:
            self._fail(path, len(found), f"must have 1 to {MOST_TIERS} steps")
        for index, step in enumerate(found[:MOST_TIERS]):
            where = f"{path}[{index}]"
            last = index == len(found) - 1
            if not isinstance(step, Mapping) or set(step) != ({"price"} if last else {"up_to", "price"}):
                self._fail(where, step, "must be {up_to = AMOUNT, price = PRICE}, and the last one {price = PRICE}")
                continue
            end = float("inf") if last else self._amount(f"{where}.up_to", step["up_to"])
            if steps and end <= steps[-1][0]:
                self._fail(f"{where}.up_to", end, f"must be more than that of the step before, {steps[-1][0]:g}")
            steps.append((end, self._amount(f"{where}.price", step["price"])))
        return Schedule(tuple(steps))

    def regions(self, group: str) -> tuple[Region, ...]:
        """One price for all bytes, or regions with their shares."""
        one, several = self._get(group, "per_gb"), self._get(group, "regions")
        if several is None:
            return (Region("all regions", 1.0, self._schedule(f"{group}.per_gb", one)),) if one is not None else ()
        if one is not None:
            self._fail(f"{group}.per_gb", one, "must be absent if there are regions")
        if not isinstance(several, list) or not 1 <= len(several) <= MOST_TIERS:
            self._fail(f"{group}.regions", several, f"must be 1 to {MOST_TIERS} tables")
            return ()
        found = []
        for index, region in enumerate(several):
            where = f"{group}.regions[{index}]"
            if not isinstance(region, Mapping) or set(region) != {"name", "share", "per_gb"}:
                self._fail(where, region, "must be a table with name, share and per_gb")
                continue
            share = self._amount(f"{where}.share", region["share"], most=1.0)
            found.append(Region(str(region["name"])[:60], share, self._schedule(f"{where}.per_gb", region["per_gb"])))
        shares = sum(region.share for region in found)
        if found and abs(shares - 1.0) > 1e-6:
            self._fail(f"{group}.regions", f"{shares:g}", "the shares must add up to 1")
        return tuple(found)

    def tenants(self, group: str) -> tuple[Tenant, ...]:
        """Tables with a name and routes."""
        found = self._get(group)
        if found is None:
            return ()
        if not isinstance(found, list) or not 1 <= len(found) <= MOST_TENANTS:
            self._fail(group, found, f"must be 1 to {MOST_TENANTS} tables")
            return ()
        tenants: list[Tenant] = []
        for index, tenant in enumerate(found):
            where = f"{group}[{index}]"
            if not isinstance(tenant, Mapping) or set(tenant) != {"name", "routes"}:
                self._fail(where, tenant, "must be a table with name and routes")
                continue
            name, routes = tenant["name"], tenant["routes"]
            if not isinstance(name, str) or not 1 <= len(name) <= 60 or not name.isprintable() or name[0] == "(":
                self._fail(f"{where}.name", name, "must be a printable text of 1 to 60 characters that opens with no (")
            elif name in (one.name for one in tenants):
                self._fail(f"{where}.name", name, "is the name of another tenant")
            elif (
                not isinstance(routes, list)
                or not 1 <= len(routes) <= MOST_ROUTES
                or not all(isinstance(route, str) and 1 <= len(route) <= 500 for route in routes)
            ):
                self._fail(f"{where}.routes", routes, f"must be 1 to {MOST_ROUTES} labels of routes, such as '/a/*'")
            else:
                tenants.append(Tenant(name, tuple(routes)))
        return tuple(tenants)

    def budget(self, group: str) -> Budget | None:
        month, shares = self._get(group, "per_month"), self._get(group, "alarm_at")
        if month is None:
            if shares is not None:
                self._fail(f"{group}.alarm_at", shares, "does nothing without per_month")
            return None
        amount = self._amount(f"{group}.per_month", month, least=0.01)
        if shares is None:
            return Budget(amount)
        if not isinstance(shares, list) or not 1 <= len(shares) <= MOST_SHARES:
            self._fail(f"{group}.alarm_at", shares, f"must be 1 to {MOST_SHARES} numbers such as [0.8, 1.0]")
            return Budget(amount)
        found = [
            self._amount(f"{group}.alarm_at[{index}]", share, least=0.01, most=10) for index, share in enumerate(shares)
        ]
        return Budget(amount, tuple(sorted(set(found))))


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
