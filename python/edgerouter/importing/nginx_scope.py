"""Inheritance among blocks of nginx: a setting is taken from the innermost block that has it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgerouter.importing.nginx_directives import Directive

__all__ = ["Scope"]


@dataclass(frozen=True)
class Scope:
    """The blocks around a place, and the hosts of its server.

    ``upgraded``  another server sends browsers from http to this one
    """

    http: Directive
    server: Directive
    hosts: list[str]
    upgraded: bool
    locations: tuple[Directive, ...] = ()

    @property
    def blocks(self) -> tuple[Directive, ...]:
        """The blocks, the innermost first."""
        return (*reversed(self.locations), self.server, self.http)

    @property
    def place(self) -> Directive:
        """The innermost block."""
        return self.blocks[0]

    def within(self, location: Directive) -> Scope:
        """The scope of a location in this one."""
        return replace(self, locations=(*self.locations, location))

    def level(self, *names: str) -> list[Directive]:
        """The directives with these names in the innermost block that has any."""
        found: list[Directive] = []
        for block in self.blocks:
            here = block.all(*names)
            found = found or here
        return found

    def last(self, name: str) -> Directive | None:
        """The directive that counts."""
        found = self.level(name)
        return found[-1] if found else None

    def is_on(self, name: str) -> bool:
        """The directive that counts is ``on``."""
        found = self.last(name)
        return found is not None and found.args[:1] == ["on"]
