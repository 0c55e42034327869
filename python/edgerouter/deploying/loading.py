"""An edge of a file that is deployed, made in bounded time."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from edgerouter.application import AppError, FileApplication
from edgerouter.deploying.checked import CheckedFolder, parts_of, refused
from edgerouter.deploying.namespace import Namespace
from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.functions import TimeLimit
from edgerouter.functions.threads import call_off, interrupt
from edgerouter.serving import while_loading
from edgerouter.signals import Stopping

__all__ = ["DeployedApplication", "Loading"]

#: Seconds for the import of a file, and more seconds until a thread that ignores its end is abandoned.
PATIENCE, GRACE = 20.0, 1.0


class DeployedApplication(FileApplication):
    """A file below the folder for deploys. Each load is a version with modules of its own."""

    def __init__(self, folder: CheckedFolder, name: str, adapt: Callable[[Edge], Edge]) -> None:
        file, _, attribute = name.partition(":")
        self._parts = parts_of(file)
        stem, dot, suffix = self._parts[-1].rpartition(".")
        if not dot or suffix != "py" or not stem or "." in stem:
            raise refused(name, "must be a Python file, such as app.py or app.py:edge")
        self._checked = folder
        self._adapt = adapt
        # All that the methods of a file's application read.
        self._folder = folder.path
        self._spec = file
        self._attribute = attribute or None
        self._plan_file = self._served = None
        self._tried = self._pages = frozenset()
        self._file = folder.path.joinpath(*self._parts)
        self._root = self._file.parent
        self._module = ""
        #: SHA-256 of the code of the last load.
        self.hash = ""

    def load(self) -> Edge:
        """The edge of a new version; its ``release`` forgets the modules."""
        folder = self._checked.folder(self._parts[:-1])
        if not folder.has(self._parts[-1:]):
            folder.close()
            raise refused(self._spec, f"is no file below the folder for deploys, {self._checked.path}")
        namespace = Namespace(folder)
        self._module = f"{namespace.name}.{self._parts[-1].removesuffix('.py')}"
        try:
            with while_loading():
                edge = self._adapt(self._edge_of(self._run()))
            if edge.count("processes"):
                message = 'a file that is deployed has no functions with isolation="process": restart the edge with it'
                raise ConfigError([Problem("isolation", None, message)])
        except BaseException:
            namespace.forget()
            raise
        finally:
            self.hash = namespace.hash()
        edge.release = namespace.forget
        return edge

    def files(self) -> set[Path]:
        return {self._file}

    def _run(self) -> ModuleType:
        try:
            return importlib.import_module(self._module)
        except SystemExit as error:
            raise AppError(f"{self._shown()}: ended itself with SystemExit({error.code!r})") from None
        except (KeyboardInterrupt, Stopping, TimeLimit):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever the user's file raises
            raise self._explained(error) from None


class Loading:
    """A load on a thread of its own, which may be given up."""

    def __init__(self, application: DeployedApplication) -> None:
        self.application = application
        self.edge: Edge | None = None
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._is_given_up = False
        self.thread = threading.Thread(target=self._run, name="edge-deploy-load", daemon=True)

    def result(self) -> Edge:
        """The edge; ``EdgeError`` when there is none in time."""
        self.thread.start()
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            interrupt(self.thread.ident or 0)
            self.thread.join(GRACE)
        with self._lock:
            if self.edge is not None:
                return self.edge
            self._is_given_up = self.error is None
        if self.error is None or isinstance(self.error, TimeLimit):
            raise EdgeError(f"the import of the file did not end within {PATIENCE:g} s")
        if isinstance(self.error, EdgeError):
            raise self.error
        raise EdgeError(self.application.refusal(self.error))

    def _run(self) -> None:
        edge, error = None, None
        try:
            edge = self.application.load()
        except BaseException as raised:  # noqa: BLE001  # whatever the user's file raises
            error = raised
        with contextlib.suppress(TimeLimit):
            call_off(threading.get_ident())
        with self._lock:
            self.edge, self.error = edge, error
            late = edge if self._is_given_up else None
        if late is not None and late.release is not None:
            late.release()
