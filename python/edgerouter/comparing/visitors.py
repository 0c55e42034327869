"""Visitors of an experiment and their conversions, from lines of an access log, in the order in which they happened.

A visitor is the user of a verified token where the log has it, otherwise an address with a browser. Neither is kept: a
keyed hash of 8 bytes stands for it, under a key that is new with each report.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import translate
from hashlib import blake2b

from edgerouter.errors import ConfigError, Problem
from edgerouter.monitoring.lines import LogLine

__all__ = ["MOST_VARIANTS", "MOST_VISITORS", "Conversion", "Experience"]

#: Visitors and variants that are kept in memory; others are counted as left out.
MOST_VISITORS = 1_000_000
MOST_VARIANTS = 32

_MIXED = -1


@dataclass(frozen=True)
class Conversion:
    """A request that counts as a conversion if its status is below 400: ``POST /checkout``, ``/thanks*``."""

    method: str
    path: re.Pattern[str]

    @classmethod
    def read(cls, text: str) -> Conversion:
        """Raises ``ConfigError`` if it is no path, or no method and path."""
        method, _, path = text.strip().rpartition(" ")
        if not path.startswith("/") or len(text) > 1_000 or (method and not method.isalpha()):
            message = "must be a path with *, or a method and a path, such as 'POST /checkout'"
            raise ConfigError([Problem("--conversion", repr(text), message)])
        return cls(method.upper(), re.compile(translate(path)))

    def takes(self, line: LogLine) -> bool:
        if line.status >= 400 or (self.method and line.method != self.method):
            return False
        return self.path.match(line.url.partition("?")[0]) is not None


@dataclass
class Experience:
    """The visitors of one experiment until now.

    ``variants``  names in the order in which they were met
    ``visitors``, ``conversions``  by variant; a visitor counts once in each
    ``mixed``  visitors who met two variants, and are in neither
    ``left_out``  lines of visitors beyond the bound
    """

    experiment: str
    conversion: Conversion
    variants: list[str] = field(default_factory=list)
    visitors: Counter[str] = field(default_factory=Counter)
    conversions: Counter[str] = field(default_factory=Counter)
    mixed: int = 0
    left_out: int = 0
    _key: bytes = field(default_factory=lambda: os.urandom(16))
    #: Twice the number of the variant, and one more after a conversion.
    _known: dict[int, int] = field(default_factory=dict)

    def add(self, line: LogLine) -> bool:
        """Takes a line; true if it is a new visitor's."""
        variant = self._variant(line)
        converts = self.conversion.takes(line)
        if variant is None and not converts:
            return False
        visitor = self._visitor(line)
        known = self._known.get(visitor)
        is_new = False
        if variant is not None:
            number = self._number(variant)
            if known is None:
                if number is None or len(self._known) >= MOST_VISITORS:
                    self.left_out += 1
                    return False
                known, is_new = 2 * number, True
                self.visitors[variant] += 1
            elif known != _MIXED and known // 2 != number:
                before = self.variants[known // 2]
                self.visitors[before] -= 1
                self.conversions[before] -= known % 2
                self.mixed += 1
                known = _MIXED
            self._known[visitor] = known
        if converts and known is not None and known != _MIXED and known % 2 == 0:
            self.conversions[self.variants[known // 2]] += 1
            self._known[visitor] = known + 1
        return is_new

    def _variant(self, line: LogLine) -> str | None:
        for pair in line.variant.split(",") if line.variant else ():
            name, _, variant = pair.partition(":")
            if name == self.experiment:
                return variant
        return None

    def _number(self, variant: str) -> int | None:
        if variant not in self.variants:
            if len(self.variants) >= MOST_VARIANTS:
                return None
            self.variants.append(variant)
        return self.variants.index(variant)

    def _visitor(self, line: LogLine) -> int:
        name = f"user {line.user}" if line.user else f"client {line.client} {line.agent}"
        return int.from_bytes(blake2b(name.encode(errors="replace"), key=self._key, digest_size=8).digest())
