"""The orders of the admin listener, carried out one at a time on a thread of their own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgerouter.deploying.checked import CheckedFolder
from edgerouter.deploying.loading import DeployedApplication, Loading
from edgerouter.edge import Edge
from edgerouter.ending import Ending
from edgerouter.errors import ConfigError, EdgeError

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter.functions.lifecycle import Life

__all__ = ["Deploys", "Version"]

log = logging.getLogger("edgerouter.deploys")


class Version(NamedTuple):
    """A version beside the one in service."""

    edge: Edge
    life: Life | None
    plan: bytes
    application: DeployedApplication


class _RefusedError(Exception):
    """An answer with a status of its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Deploys:
    """The deploys of a server from one folder.

    ``begin``  begins the life of a version: its handlers of the start
    ``running``  the data of the plan in service
    ``promoted``  is given the version that is in service now
    ``changing``  held while the version in service changes
    """

    def __init__(
        self,
        engine: _core.EngineDeploys,
        folder: str | os.PathLike[str],
        *,
        begin: Callable[[Life | None], None],
        running: Callable[[], bytes],
        promoted: Callable[[Version], None],
        changing: threading.RLock,
    ) -> None:
        self.folder = CheckedFolder(Path(folder).resolve())
        self.engine = engine
        self.begin, self.running, self.promoted, self.changing = begin, running, promoted, changing
        #: Changes an edge as the command line says.
        self.adapt: Callable[[Edge], Edge] = _same
        self.version: Version | None = None
        self.loading: Loading | None = None

    def start(self) -> None:
        """Takes orders until the engine stops."""
        self.engine.open()
        threading.Thread(target=self._run, name="edge-deploys", daemon=True).start()

    def close(self) -> None:
        """Closes the folder."""
        self.folder.close()

    def _run(self) -> None:
        while True:
            try:
                taken = self.engine.next_order()
            except RuntimeError:
                return
            if taken is None:
                continue
            number, text = taken
            status, answer = self._answer(json.loads(text))
            with contextlib.suppress(RuntimeError):
                self.engine.answer(number, status, json.dumps(answer) + "\n")

    def _answer(self, order: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        field: str | None = None
        try:
            if order["do"] == "promote":
                number, version = self.promote(order["id"])
                return 200, {"id": number, "version": version}
            return 201, {"id": self.deploy(order["order"], order["author"])}
        except _RefusedError as error:
            status, message = error.status, str(error)
        except LookupError as error:
            status, field, message = 409, "id", str(error.args[0])
        except EdgeError as error:
            status, field, message = 400, "file", str(error)
        except Exception as error:
            log.exception("an order could not be carried out")
            status, message = 500, f"{type(error).__name__}: {error}"
        return status, {"error": {"field": field, "message": message}}

    def deploy(self, order: Mapping[str, Any], author: str) -> int:
        """Loads a file and puts it beside the version in service; the id of the deploy."""
        under_way = self.engine.under_way
        if under_way is not None:
            raise _RefusedError(409, f"deploy {under_way} is under way: promote it or roll it back first")
        if self.loading is not None and self.loading.thread.is_alive():
            raise _RefusedError(409, "the import of the file of the deploy before has not ended yet")
        self.loading = None
        name, digest = order["file"], ""
        try:
            application = DeployedApplication(self.folder, name, self.adapt)
            self.loading = Loading(application)
            try:
                edge = self.loading.result()
            finally:
                digest = application.hash
            self.loading = None
            return self._put_beside(edge, application, order, author)
        except EdgeError as error:
            self.engine.refused(name, digest, author, str(error))
            log.warning("a deploy of %s by %s was refused: %s", name, author, error)
            raise

    def _put_beside(self, edge: Edge, application: DeployedApplication, order: Mapping[str, Any], author: str) -> int:
        life = edge.life()
        end = Ending(life, edge.release, lambda: self._over(edge))
        try:
            plan = edge.encode()
            self.begin(life)
            with self.changing:
                number = self.engine.begin(
                    plan,
                    edge.callables(),
                    end.ended,
                    self.running(),
                    hash=application.hash,
                    author=author,
                    **order,
                )
                self.version = Version(edge, life, plan, application)
        except ConfigError as error:
            end.end()
            raise edge.placed(error) from None
        except BaseException:
            end.end()
            raise
        log.info("deploy %d: %s by %s serves %g %% of the clients", number, order["file"], author, order["percent"])
        return number

    def _over(self, edge: Edge) -> None:
        """Drops a version whose last call is over."""
        with self.changing:
            if self.version is not None and self.version.edge is edge:
                self.version = None

    def promote(self, number: int | None) -> tuple[int | None, int]:
        """Puts the version of the deploy under way in service; the numbers of both."""
        with self.changing:
            if number is None:
                number = self.engine.under_way
            version = self.engine.promote(number)
            made, self.version = self.version, None
            if made is not None:
                self.promoted(made)
        log.info("a deploy was promoted: version %d is in service", version)
        return number, version


def _same(edge: Edge) -> Edge:
    return edge
