"""Reads the fields of a price model strictly, and keeps each problem with its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgerouter.checks import is_country
from edgerouter.costs.terms import ELSEWHERE, Budget, Region, Schedule, Tenant
from edgerouter.errors import ConfigError, Problem

__all__ = ["Fields"]

MOST_TIERS = 32
MOST_SHARES = 8
MOST_TENANTS = 64
MOST_ROUTES = 256
#: The ways to say which bytes are a region's.
_BY = ("share", "countries")


class Fields:
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
            elif not any(path[0] == name for path in self._known):
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
        """One price for all bytes, or regions with their shares or countries."""
        one, several = self._get(group, "per_gb"), self._get(group, "regions")
        if several is None:
            return (Region("all regions", self._schedule(f"{group}.per_gb", one)),) if one is not None else ()
        if one is not None:
            self._fail(f"{group}.per_gb", one, "must be absent if there are regions")
        if not isinstance(several, list) or not 1 <= len(several) <= MOST_TIERS:
            self._fail(f"{group}.regions", several, f"must be 1 to {MOST_TIERS} tables")
            return ()
        found: list[Region] = []
        for index, region in enumerate(several):
            where = f"{group}.regions[{index}]"
            if not isinstance(region, Mapping) or set(region) not in ({"name", "per_gb", by} for by in _BY):
                self._fail(where, region, "must be a table with name, per_gb, and share or countries")
                continue
            name, price = (
                self._name(f"{where}.name", region["name"]),
                self._schedule(f"{where}.per_gb", region["per_gb"]),
            )
            if "share" in region:
                found.append(Region(name, price, self._amount(f"{where}.share", region["share"], most=1.0)))
            else:
                found.append(Region(name, price, countries=self._countries(f"{where}.countries", region["countries"])))
        self._whole(f"{group}.regions", found)
        return tuple(found)

    def _name(self, path: str, found: object) -> str:
        if isinstance(found, str) and 1 <= len(found) <= 60 and found.isprintable():
            return found
        self._fail(path, found, "must be a printable text of 1 to 60 characters")
        return ""

    def _countries(self, path: str, found: object) -> tuple[str, ...]:
        if isinstance(found, list) and found and all(code == ELSEWHERE or _is_code(code) for code in found):
            return tuple(found)
        self._fail(path, found, f"must be codes of ISO 3166-1 such as ['US', 'CA'], or ['{ELSEWHERE}'] for all others")
        return (ELSEWHERE,)

    def _whole(self, path: str, found: list[Region]) -> None:
        """All regions together have each byte once."""
        if self._problems or not found:
            return
        codes = [code for region in found for code in region.countries]
        if codes and not all(region.countries for region in found):
            self._fail(path, ..., "must all have a share, or all have countries")
        elif doubled := [code for code in dict.fromkeys(codes) if codes.count(code) > 1]:
            self._fail(path, doubled[0], "is in two regions")
        elif codes and ELSEWHERE not in codes:
            rule = f"must have one with countries = ['{ELSEWHERE}'], for all others and clients of unknown places"
            self._fail(path, ..., rule)
        elif not codes and abs((shares := sum(region.share for region in found)) - 1.0) > 1e-6:
            self._fail(path, f"{shares:g}", "the shares must add up to 1")

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


def _is_code(code: object) -> bool:
    return isinstance(code, str) and is_country(code) and code.isupper()
