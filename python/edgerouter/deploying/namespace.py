"""Modules of one version under names of their own, beside those of other versions.

``app.py`` and the modules beside it become ``_edgerouter_deploy_3.app`` and so on. Their ``import`` statements find the
modules of the same version, also those inside of functions that run later: a module's import statements call the
``__import__`` of its own builtins. Everything else is imported as usual and shared.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.util
import itertools
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from edgerouter.deploying.checked import CheckedFolder
from edgerouter.deploying.names import PREFIX

__all__ = ["Namespace"]

_numbers = itertools.count(1)


class Namespace(importlib.abc.MetaPathFinder):
    """The modules of one version, read from a folder that it closes when it is forgotten."""

    def __init__(self, folder: CheckedFolder) -> None:
        self.folder = folder
        self.name = f"{PREFIX}{next(_numbers)}"
        self.builtins: dict[str, Any] = {**vars(builtins), "__import__": self._import}
        self._hashes: dict[str, str] = {}
        self._own: dict[str, bool] = {}
        self._lock = threading.Lock()
        self._is_over = False
        root = ModuleType(self.name, "The modules of a version.")
        root.__path__ = []
        sys.modules[self.name] = root
        sys.meta_path.insert(0, self)

    def hash(self) -> str:
        """SHA-256 of the names and contents of all modules that were imported until now; empty where there is none."""
        if not self._hashes:
            return ""
        lines = sorted(f"{name} {digest}\n" for name, digest in dict(self._hashes).items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def forget(self) -> None:
        """Removes the modules. A second time does nothing."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            self.folder.close()
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name == self.name or name.startswith(f"{self.name}.")]:
            sys.modules.pop(name, None)

    def read(self, parts: Sequence[str]) -> bytes:
        """The content of a file of the folder, which then counts for the hash."""
        with self._lock:
            if self._is_over:
                raise ImportError("this version of the application is out of service")
            content = self.folder.read(parts)
        self._hashes["/".join(parts)] = hashlib.sha256(content).hexdigest()
        return content

    # -- importing -------------------------------------------------------------------------------------------------

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module of this version; ``None`` for all others."""
        if not fullname.startswith(f"{self.name}.") or self._is_over:
            return None
        parts = fullname.split(".")[1:]
        init, file = [*parts, "__init__.py"], [*parts[:-1], f"{parts[-1]}.py"]
        source = init if self.folder.has(init) else file if self.folder.has(file) else None
        if source is None and not self.folder.has(parts, folder=True):
            return None
        is_package = source is not file
        origin = None if source is None else str(self.folder.path.joinpath(*source))
        spec = ModuleSpec(fullname, _Loader(self, source), origin=origin, is_package=is_package)
        spec.has_location = origin is not None
        if is_package:
            spec.submodule_search_locations = [str(self.folder.path.joinpath(*parts))]
        return spec

    def owns(self, name: str) -> bool:
        """True if a name at the top is a module of this version. A folder without code gives way to installed ones."""
        known = self._own.get(name)
        if known is None:
            known = name != "edgerouter" and self._has(name)
            self._own[name] = known
        return known

    def _has(self, name: str) -> bool:
        if self._is_over:
            return False
        if self.folder.has([name, "__init__.py"]) or self.folder.has([f"{name}.py"]):
            return True
        if not self.folder.has([name], folder=True) or name in sys.builtin_module_names:
            return False
        try:
            return importlib.util.find_spec(name) is None
        except (ImportError, ValueError):
            return False

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  # the names of ``__import__``
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or not self.owns(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if fromlist:
            return builtins.__import__(f"{self.name}.{name}", globals, locals, fromlist, 0)
        importlib.import_module(f"{self.name}.{name}")
        return sys.modules[f"{self.name}.{top}"]


class _Loader(importlib.abc.Loader):
    """Runs the content that the namespace gives: no compiled file, and nothing that was not checked."""

    def __init__(self, namespace: Namespace, source: Sequence[str] | None) -> None:
        self.namespace = namespace
        self.source = source

    def exec_module(self, module: ModuleType) -> None:
        if self.source is None:
            return
        content = self.namespace.read(self.source)
        code = compile(content, str(module.__file__), "exec", dont_inherit=True)
        module.__dict__["__builtins__"] = self.namespace.builtins
        exec(code, module.__dict__)  # noqa: S102  # the code that the operator deploys
