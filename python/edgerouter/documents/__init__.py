"""Documents: JSON objects by their keys, with versions, in a SQLite file, on a PostgreSQL server, or on a Redis server.

``Documents`` waits for the steps of an operation, and ``AsyncDocuments`` awaits them. The steps of SQL are in
``statements``, those of Redis in ``scripts``, and ``operations`` is what both share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgerouter.documents.operations import Collection, Document, DocumentPage, Operation, Scalar, T, merged
from edgerouter.documents.scripts import Scripts
from edgerouter.documents.statements import Statements
from edgerouter.errors import BindingError

if TYPE_CHECKING:
    from edgerouter._core import AsyncDatabase, AsyncDocumentServer, Database, DocumentServer

__all__ = ["AsyncDocuments", "Document", "DocumentPage", "Documents", "binding_below", "merged"]


def _collection(name: str, engine: str) -> Collection:
    return Scripts(name) if engine == "redis" else Statements(name, engine)


class Documents:
    """Documents, for callables that do not await. ``BindingError`` for what the engine refuses."""

    def __init__(self, binding: Database | DocumentServer) -> None:
        self._binding = binding
        self._collection = _collection(binding.name, binding.engine)

    def __repr__(self) -> str:
        return f"<Documents {self._collection.name}>"

    def _run(self, operation: Operation[T]) -> T:
        steps = self._collection.guarded(operation)
        try:
            step = next(steps)
            while True:
                try:
                    rows = step.rows(step.begin(self._binding))
                except (BindingError, ValueError) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(rows)
        except StopIteration as ended:
            value: T = ended.value
            return value

    def get(self, key: str) -> Document | None:
        """The document, or ``None``."""
        return self._run(self._collection.get(key))

    def put(
        self, key: str, value: Mapping[str, Any], *, if_absent: bool = False, if_version: int | None = None
    ) -> int | None:
        """Stores a whole document; its new version.

        ``None``: nothing was changed, as there is one already (``if_absent``) or it has another version
        (``if_version``).
        """
        return self._run(self._collection.put(key, value, if_absent, if_version))

    def patch(self, key: str, patch: Mapping[str, Any], *, if_version: int | None = None) -> Document | None:
        """Applies a merge patch (RFC 7396), in which ``None`` removes a field; the document as it is now.

        ``None``: nothing was changed, as there is no such document, or it has another version.
        """
        return self._run(self._collection.patch(key, patch, if_version))

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Removes a document; true if there was one, of this version if one is given."""
        return self._run(self._collection.delete(key, if_version))

    def find(
        self, where: Mapping[str, Scalar] | None = None, *, cursor: str | None = None, limit: int = 100
    ) -> DocumentPage:
        """The documents whose fields have these values: ``find({"user.name": "ann"})``."""
        return self._run(self._collection.find({} if where is None else where, cursor, limit))

    def index(self, field: str) -> None:
        """Makes ``find`` by a field fast, once for all; on PostgreSQL every field is. It reads all documents."""
        self._run(self._collection.index(field))


def binding_below(documents: AsyncDocuments) -> AsyncDatabase | AsyncDocumentServer:
    """The database or server that keeps documents."""
    return documents._binding


class AsyncDocuments:
    """``Documents``, to be awaited."""

    def __init__(self, binding: AsyncDatabase | AsyncDocumentServer) -> None:
        self._binding = binding
        self._collection = _collection(binding.name, binding.engine)

    def __repr__(self) -> str:
        return f"<AsyncDocuments {self._collection.name}>"

    async def _run(self, operation: Operation[T]) -> T:
        steps = self._collection.guarded(operation)
        try:
            step = next(steps)
            while True:
                try:
                    rows = step.rows(await step.begin(self._binding))
                except (BindingError, ValueError) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(rows)
        except StopIteration as ended:
            value: T = ended.value
            return value

    async def get(self, key: str) -> Document | None:
        """As ``Documents.get``."""
        return await self._run(self._collection.get(key))

    async def put(
        self, key: str, value: Mapping[str, Any], *, if_absent: bool = False, if_version: int | None = None
    ) -> int | None:
        """As ``Documents.put``."""
        return await self._run(self._collection.put(key, value, if_absent, if_version))

    async def patch(self, key: str, patch: Mapping[str, Any], *, if_version: int | None = None) -> Document | None:
        """As ``Documents.patch``."""
        return await self._run(self._collection.patch(key, patch, if_version))

    async def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """As ``Documents.delete``."""
        return await self._run(self._collection.delete(key, if_version))

    async def find(
        self, where: Mapping[str, Scalar] | None = None, *, cursor: str | None = None, limit: int = 100
    ) -> DocumentPage:
        """As ``Documents.find``."""
        return await self._run(self._collection.find({} if where is None else where, cursor, limit))

    async def index(self, field: str) -> None:
        """As ``Documents.index``."""
        await self._run(self._collection.index(field))
