"""Finding and running the file that makes the edge.

``app.py``, ``app.py:name``, ``package.module:name``, ``site.toml`` or ``site.json``, a folder of files, or the URL of a
server. A name may be that of an ASGI or WSGI application, or of a function that makes one, and the module may be a
package, in this folder or wherever Python imports it from. Each load runs the Python file in a fresh module, with the
modules beside it imported anew, so a reload sees what is on the disk. A failed load puts the old modules back.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import TYPE_CHECKING

from edgerouter import regular
from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.misspelt import habits, remedy
from edgerouter.places import current_folder
from edgerouter.serving import Application, while_loading
from edgerouter.signals import Stopping
from edgerouter.unfinished import watched

if TYPE_CHECKING:
    import traceback

__all__ = ["AppError", "FileApplication"]

_PACKAGE = Path(__file__).resolve().parent
_MOST_FRAMES = 20


class AppError(EdgeError):
    """The application file raised; ``problems`` has each mistake, with the user's own line."""

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or (Problem("", None, message.splitlines()[0] if message else ""),)


class FileApplication(Application):
    """The application named on the command line."""

    #: An edge that would answer every request with 404 is refused.
    _serves = True

    def __init__(self, spec: str, *, folder: Path | None = None, serves: bool = True) -> None:
        self._serves = serves
        self._folder = (folder or current_folder()).resolve()
        self._spec = spec
        self._attribute: str | None = None
        self._plan_file: Path | None = None
        self._served: Path | None = None
        #: The URL of the server that is the whole application.
        self._origin: str | None = None
        self._tried: frozenset[Path] = frozenset()
        self._pages: frozenset[Path] = frozenset()
        #: The file as it was named, and behind links.
        self._path: Path
        self._file: Path
        self._name: str
        self._module: str
        self._root: Path
        #: The package that the module belongs to, or would, if it is not in the folder.
        self._elsewhere: Path | None = None
        try:
            self._find()
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}; its folders must be open to this user"
            raise ConfigError([Problem("", spec, message)]) from None

    def load(self) -> Edge:
        edge = self._loaded()
        self._pages = frozenset(edge.pages())
        return edge

    def _loaded(self) -> Edge:
        if self._served is not None:
            files = {"pattern": "/*", "files": {"folder": str(self._served)}}
            return Edge.from_dict({"version": 1, "name": "files", "routes": [files]})
        if self._origin is not None:
            origin, route = {"name": "site", "url": self._origin}, {"pattern": "/*", "to": "site"}
            return Edge.from_dict({"version": 1, "name": "site", "origins": [origin], "routes": [route]})
        if self._plan_file is not None:
            return self._served_edge(Edge.from_file(self._plan_file), self._plan_file.name)
        before = dict(self._own_modules())
        for name in before:
            del sys.modules[name]
        last, file = str(self._root), self._file
        self._follow()
        root = str(self._root)
        if root != last:
            sys.path[:] = [entry for entry in sys.path if entry != last]
        if root not in sys.path:
            sys.path.insert(0, root)
        importlib.invalidate_caches()
        self._tried = frozenset()
        try:
            with while_loading():
                return self._watched()
        except BaseException as error:
            # A mistake may be in any of them, or in the lack of one: a change of each is worth another try.
            imported = {Path(m.__file__) for _, m in self._own_modules() if m.__file__}
            self._tried = frozenset(imported | _lacking(error, self._root))
            for name in [name for name, _ in self._own_modules()]:
                del sys.modules[name]
            sys.modules.update(before)
            if root != last:
                # The version in service still imports from there.
                sys.path[:] = [last if entry == root else entry for entry in sys.path]
                self._tried |= {self._file}
                self._file = file
                self._module, self._root = self._named(self._name)
            raise

    @property
    def folder(self) -> Path:
        """The folder of the application's file."""
        if self._origin is not None:
            return self._folder
        return self._served or (self._plan_file or self._file).parent

    def files(self) -> set[Path]:
        """The plan file, or the application's file and the modules beside it that it imported; the error pages.

        A folder that is served has none: its files are opened for each request. Neither has the URL of a server.
        """
        if self._served is not None or self._origin is not None:
            return set()
        if self._plan_file is not None:
            return {self._plan_file, *self._pages}
        found = {Path(module.__file__).resolve() for _, module in self._own_modules() if module.__file__}
        return {self._path, self._file, *found, *self._tried, *self._pages}

    # -- which file ------------------------------------------------------------------------------------------------

    def _find(self) -> None:
        if self._spec.startswith(("http://", "https://")):
            self._origin = self._spec
            return
        name, _, attribute = self._spec.partition(":") if not Path(self._spec).exists() else (self._spec, "", "")
        self._attribute = attribute or None
        path = self._folder / name
        if path.is_dir():
            if (path / "app.py").is_file():
                path = path / "app.py"
            elif self._attribute and _dotted(name) and (path / "__init__.py").is_file():
                # A package, as Flask's tutorial has one.
                path = path / "__init__.py"
            else:
                self._serve_folder(path)
                return
        if path.suffix.lower() in (".toml", ".json"):
            if self._attribute:
                raise ConfigError([Problem("", self._spec, "a plan file has no names in it; leave out what follows :")])
            if not path.is_file():
                raise ConfigError([Problem("", name, "no such file; edgerouter init makes a starter project")])
            self._plan_file = path
            return
        if path.suffix.lower() in (".yaml", ".yml"):
            raise ConfigError([Problem("", name, "a plan file is TOML or JSON, by its name: site.toml or site.json")])
        if path.suffix != ".py" and not path.exists():
            with_suffix = path.with_name(path.name + ".py")
            dotted = self._folder.joinpath(*name.split(".")).with_suffix(".py") if _dotted(name) else with_suffix
            package = dotted.with_suffix("") / "__init__.py"
            path = next((file for file in (with_suffix, dotted, package) if file.is_file()), dotted)
            if self._attribute and not path.is_file() and (found := _importable(name)):
                self._folder, path = found
                self._elsewhere = self._folder / name.partition(".")[0]
        if not path.is_file():
            missing = "no such file or module" if self._attribute and _dotted(name) else "no such file"
            raise ConfigError([Problem("", name, f"{missing}; edgerouter init makes a starter project")])
        self._path, self._name = path.absolute(), name
        self._follow()

    def _follow(self) -> None:
        """Finds the file behind links, which may lead to another release since the last load."""
        try:
            self._file = self._path.resolve()
        except RuntimeError:
            raise ConfigError([Problem("", self._name, "is a link to itself; name a file")]) from None
        self._module, self._root = self._named(self._name)

    def _serve_folder(self, folder: Path) -> None:
        """The application is a folder of files, unless it looks like one of Python code: that would be shown."""
        if any(name.suffix == ".py" for name in folder.iterdir()):
            message = "is a folder with Python files and no app.py; name the file, as in site.py"
            raise ConfigError([Problem("", self._spec if self._spec.strip(":") else ".", message)])
        self._served = folder

    def _named(self, name: str) -> tuple[str, Path]:
        """The module's name and the folder that is its import root."""
        package = self._file.name == "__init__.py"
        if _dotted(name) and not name.endswith(".py") and (package or "." in name):
            return name, self._folder
        stem = self._file.stem
        taken = sys.modules.get(stem)
        known = taken is not None or stem in sys.builtin_module_names or stem in sys.stdlib_module_names
        return (f"_edgerouter_{stem}" if known or not stem.isidentifier() else stem), self._file.parent

    def _own_modules(self) -> Iterator[tuple[str, ModuleType]]:
        """The modules imported from beside the application, environments inside that folder excepted."""
        beside = str(self._elsewhere or self._root).rstrip(os.sep) + os.sep
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name == "__main__" or not isinstance(file, str):
                continue
            if name == self._module:
                yield name, module
                continue
            if not file.startswith(beside):
                continue
            path = Path(file)
            if not path.is_relative_to(_PACKAGE):
                inside = path.relative_to(self._root).parts
                if not any(part in ("site-packages", "dist-packages") or part.startswith(".") for part in inside):
                    yield name, module

    # -- running it ------------------------------------------------------------------------------------------------

    def _watched(self) -> Edge:
        """The edge of the file, which is interrupted if it serves by itself."""
        with watched(self._line_of, _report) as watch:
            try:
                edge = self._edge_of(self._run())
            except BaseException:
                if watch.server is None:
                    raise
                edge = None
        if watch.server is not None or edge is None:
            message = (
                f"starts a server of its own ({watch.server}) while edgerouter loads this file, and edgerouter serves "
                'the application itself; put the call under if __name__ == "__main__":'
            )
            problem = Problem("", None, message, watch.place or self._shown())
            raise AppError(str(problem), [problem])
        return edge

    def _line_of(self, frame: FrameType) -> str | None:
        file = frame.f_code.co_filename
        return f"{self._near(file)}:{frame.f_lineno}" if self._is_users(file) else None

    def _run(self) -> ModuleType:
        if "." in self._module:
            try:
                importlib.import_module(self._module.rpartition(".")[0])
            except (KeyboardInterrupt, Stopping):
                raise
            except BaseException as error:  # noqa: BLE001  # whatever the user's file raises
                raise self._explained(error) from None
        loader = _FreshLoader(self._module, str(self._file), self._content())
        spec = importlib.util.spec_from_loader(self._module, loader, origin=str(self._file))
        if spec is None:
            raise ConfigError([Problem("", str(self._file), "cannot be loaded as a Python file")])
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(self._file.parent))
        module = importlib.util.module_from_spec(spec)
        sys.modules[self._module] = module
        try:
            loader.exec_module(module)
        except SystemExit as error:
            frames = self._frames(error)
            place = f"{self._near(frames[-1].filename)}:{frames[-1].lineno}" if frames else self._shown()
            problem = Problem("", None, f"ended itself with SystemExit({error.code!r})", place)
            raise AppError("\n".join([str(problem), *self._way(frames, str(problem))]), [problem]) from None
        except (ConfigError, TypeError) as error:
            raise self._all(error, importlib.util.module_from_spec(spec)) from None
        except (KeyboardInterrupt, Stopping):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever the user's file raises
            raise self._explained(error) from None
        return module

    def _content(self) -> bytes:
        """The application's file, which may be something else since the last load: a pipe would be waited for."""
        try:
            with regular.opened(self._file) as file:
                return file.read()
        except OSError as error:
            problem = Problem("", None, f"cannot be read: {error.strerror or error}", self._shown())
            raise AppError(str(problem), [problem]) from None

    def _all(self, first: Exception, module: ModuleType) -> EdgeError:
        """Every mistake of the file; ``module`` is a fresh one to find them in."""
        from edgerouter import mistakes

        sys.modules[self._module] = module
        try:
            refused = list(mistakes.statements(self._file, module))
        except Stopping:
            raise
        except BaseException:  # noqa: BLE001  # the second run is for more messages, and may bring none
            refused = []
        if not refused:
            return self._explained(first)
        explained = [self._explained(error) for error, _ in refused]
        texts = [str(error) for error in explained]
        problems = [problem for error in explained for problem in error.problems]
        wanted = getattr(module, self._attribute or "edge", None)
        if isinstance(wanted, Edge) and (rest := mistakes.whole(wanted, refused)):
            texts.append(str(rest))
            problems += rest.problems
        return AppError("\n".join(dict.fromkeys(texts)), dict.fromkeys(problems))

    def _edge_of(self, module: ModuleType) -> Edge:
        wanted = self._attribute or "edge"
        found: object = getattr(module, wanted, None)
        if found is None and self._attribute is None:
            edges = [value for value in vars(module).values() if isinstance(value, Edge)]
            edges = list({id(edge): edge for edge in edges}.values())
            found = edges[0] if len(edges) == 1 else None
            if len(edges) > 1:
                names = [name for name, value in vars(module).items() if isinstance(value, Edge)]
                message = (
                    f"there are {len(edges)} edges: {', '.join(names)}; say which one, as in {self._shown()}:{names[0]}"
                )
                raise ConfigError([Problem(self._shown(), None, message)])
        if self._attribute is not None and (mounted := _mounted(found, wanted)):
            return mounted
        if callable(found) and not isinstance(found, Edge):
            self._takes_nothing(found, wanted)
            try:
                found = found()
            except (KeyboardInterrupt, Stopping):
                raise
            except BaseException as error:  # noqa: BLE001  # whatever the user's file raises
                raise self._explained(error) from None
            if self._attribute is not None:
                # A factory of an application, as Flask's tutorial has one.
                found = _mounted(found, wanted) or found
        if not isinstance(found, Edge):
            got = f"its type is {type(found).__name__}"
            if found is None:
                got = f"{wanted} is None" if hasattr(module, wanted) else "there is no such name"
            if inspect.iscoroutine(found):
                found.close()
            others = [
                name for name, value in vars(module).items() if not name.startswith("_") and _makes(value, module)
            ]
            other = others[0] if found is None and len(others) == 1 else "NAME"
            message = (
                f"must be an Edge, or an ASGI or WSGI application ({got}); "
                f'write {wanted} = Edge("site"), or name another with {self._shown()}:{other}'
            )
            if found is None:
                message += "".join(f"; {habit}" for habit in habits(vars(module)))
            raise ConfigError([Problem(f"{self._shown()}:{wanted}", None, message)])
        return self._served_edge(found, self._shown())

    def _takes_nothing(self, factory: Callable[..., object], wanted: str) -> None:
        """Refuses a class or a function that cannot be called to make the edge."""
        try:
            inspect.signature(factory).bind()
        except TypeError as error:
            message = f"must be an Edge or a function without arguments that returns one: {error}"
            if isinstance(factory, type) and issubclass(factory, Edge):
                message = f'is the class itself; call it, as in {wanted} = Edge("site")'
            raise ConfigError([Problem(f"{self._shown()}:{wanted}", None, message)]) from None
        except ValueError:
            return

    def _served_edge(self, edge: Edge, place: str) -> Edge:
        if self._serves and not edge.count("routes") and not edge.count("service_workers"):
            message = 'there are none, so nothing would be served; declare one, as in edge.route("/*", to=...)'
            raise ConfigError([Problem("routes", None, message, place)])
        return edge

    def _shown(self) -> str:
        with_folder = self._file
        return str(with_folder.relative_to(self._folder) if with_folder.is_relative_to(self._folder) else with_folder)

    def refusal(self, error: BaseException) -> str:
        if not isinstance(error, EdgeError):
            with contextlib.suppress(Exception):
                return str(self._explained(error))
        return super().refusal(error)

    def _explained(self, error: BaseException) -> AppError:
        """The error at the user's own lines: no frames of this library, of the import machinery or of others."""
        frames = self._frames(error)
        if isinstance(error, SyntaxError) and error.filename:
            # An unknown encoding has line 0.
            place = f"{self._near(error.filename)}:{error.lineno or 1}"
            problem = Problem("", None, f"{type(error).__name__}: {error.msg}{remedy(error)}", place)
            from edgerouter import source_line

            line = source_line.of_syntax_error(error)
            way = [*self._way(frames, str(problem), ended=False), *([f"    {line}"] if line else [])]
            return AppError("\n".join([str(problem), *way]), [problem])
        where = f"{self._near(frames[-1].filename)}:{frames[-1].lineno}" if frames else self._shown()
        if isinstance(error, EdgeError):
            lines = [f"{where}: {line}" for line in str(error).splitlines()]
        else:
            first, *rest = self._described(error).splitlines()
            lines = [f"{where}: {first}", *(f"    {line}" for line in rest)]
        lines += self._way(frames, "\n".join(lines))
        given = error.problems if isinstance(error, ConfigError) else [Problem("", None, self._described(error))]
        return AppError("\n".join(lines), (problem._replace(place=problem.place or where) for problem in given))

    def _frames(self, error: BaseException) -> list[traceback.FrameSummary]:
        """The user's own frames, from the application's file to the line that raised."""
        import traceback

        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if self._is_users(frame.filename)]
        # A recursion without an end has a thousand of them.
        return [frame for at, frame in enumerate(frames) if at == 0 or frame != frames[at - 1]][-_MOST_FRAMES:]

    def _way(self, frames: list[traceback.FrameSummary], said: str, *, ended: bool = True) -> Iterator[str]:
        """The lines that led to an error, which is ``said``. That has the place of the last one if it ``ended`` there.

        They are shown without their texts: one of them may be a secret, and a refused reload is in the log.
        """
        from edgerouter import source_line

        for frame in frames:
            place = "" if ended and frame is frames[-1] else f"  ({self._near(frame.filename)}:{frame.lineno})"
            yield f"    {source_line.shown(frame.filename, frame.lineno, said)}{place}"

    def _described(self, error: BaseException) -> str:
        """An error of the user's file with the name that was probably meant, and those that a group holds."""
        text = super().refusal(error) + remedy(error)
        if isinstance(error, BaseExceptionGroup):
            text += "".join(f"\n{self._described(one)}" for one in error.exceptions)
        return text

    def _is_users(self, filename: str) -> bool:
        path = Path(filename)
        return (
            path.is_relative_to(self._root) and not path.is_relative_to(_PACKAGE) and "site-packages" not in path.parts
        )

    def _near(self, filename: str) -> str:
        path = Path(filename)
        return str(path.relative_to(self._folder)) if path.is_relative_to(self._folder) else filename


def _report(line: str) -> None:
    with contextlib.suppress(Exception):
        print(f"warning: {line}", file=sys.stderr, flush=True)


def _lacking(error: BaseException | None, root: Path) -> set[Path]:
    """The files beneath ``root`` that would be the modules whose absence is, or led to, the error."""
    found = set()
    while error is not None:
        if isinstance(error, ImportError) and error.name:
            attribute = re.match(r"cannot import name '(\w+)'", error.msg)
            place = root.joinpath(*error.name.split("."), *(attribute.groups() if attribute else ()))
            # A package needs no file of its own.
            found |= {place, place.with_name(f"{place.name}.py"), place / "__init__.py"}
        error = error.__context__
    return found


def _makes(value: object, module: ModuleType) -> bool:
    """True for an application of another framework, and for a function of the module that makes one or an edge, by its
    name: ``create_app``, ``make_edge``."""
    from edgerouter.mounting import interface_of

    try:
        if inspect.isfunction(value):
            is_own = value.__module__ == module.__name__ and not inspect.signature(value).parameters
            return is_own and not {"edge", "app"}.isdisjoint(value.__name__.split("_"))
        return not isinstance(value, type) and interface_of(value) is not None
    except Exception:  # noqa: BLE001  # an object of the user's may raise anything
        return False


def _mounted(app: object, name: str) -> Edge | None:
    """An edge around an application of another framework; ``None`` where it is none."""
    if not callable(app) or isinstance(app, Edge):
        return None
    from edgerouter.mounting import interface_of

    if interface_of(app) is None:
        return None
    edge = Edge(name)
    edge.mount("/", app)
    return edge


class _FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles what is on the disk: a cached ``.pyc`` may be as old as the last second."""

    def __init__(self, fullname: str, path: str, content: bytes) -> None:
        super().__init__(fullname, path)
        self._content = content

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._content, self.path)


def _dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _importable(name: str) -> tuple[Path, Path] | None:
    """The file of a module that Python would import, and the folder of its package; found without running anything."""
    top, *rest = name.split(".")
    if not _dotted(name) or top in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    files = [Path(spec.origin)] if spec.origin and not rest else []
    for place in spec.submodule_search_locations or ():
        module = Path(place).joinpath(*rest)
        files += [module / "__init__.py", *([module.with_suffix(".py")] if rest else [])]
    file = next((file.resolve() for file in files if file.suffix == ".py" and file.is_file()), None)
    if file is None:
        return None
    levels = len(rest) + (file.name == "__init__.py")
    return file.parents[levels], file
