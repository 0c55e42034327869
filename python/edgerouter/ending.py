"""The end of a version of an application."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgerouter.edge import Edge
    from edgerouter.functions.lifecycle import Life

__all__ = ["Ending"]


class Ending:
    """Handlers of the stop, and then the release of what the version holds: after its last call, and once."""

    def __init__(self, life: Life | None, *releases: Callable[[], None] | None) -> None:
        self._life = life
        self._releases = [release for release in releases if release is not None]

    @classmethod
    def of(cls, edge: Edge, life: Life | None) -> Callable[[], None] | None:
        """The call for the engine to make after the last call of a version; ``None`` where there is nothing to do."""
        return cls(life, edge.release).ended if life or edge.release else None

    def ended(self) -> None:
        """Ends it from a thread that must not wait."""
        threading.Thread(target=self.end, name="edge-stop", daemon=True).start()

    def end(self) -> None:
        """Ends it. A second time does nothing."""
        if self._life:
            self._life.end(finish=True)
        releases, self._releases = self._releases, []
        for release in releases:
            release()
