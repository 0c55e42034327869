"""Hooks and edge functions: what they see (``Request``, ``Response``, ``Context``) and the threads that run them.

The values are views on the core's own. ``runtime`` is the Python side of the queue between workers and callables; it
uses ``event_loop`` for async callables and ``threads`` for plain ones.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from edgerouter._core import (
    AsyncCache,
    AsyncContext,
    AsyncDatabase,
    AsyncKv,
    AsyncStatement,
    Cache,
    Context,
    Database,
    Env,
    Headers,
    Kv,
    KvEntry,
    KvKeys,
    Request,
    Response,
    SqlResult,
    SqlScript,
    Statement,
)
from edgerouter.documents import AsyncDocuments, Document, DocumentPage, Documents

__all__ = [
    "AsyncCache",
    "AsyncContext",
    "AsyncDatabase",
    "AsyncDocuments",
    "AsyncKv",
    "AsyncStatement",
    "Cache",
    "Context",
    "Database",
    "Document",
    "DocumentPage",
    "Documents",
    "Env",
    "Headers",
    "Kv",
    "KvEntry",
    "KvKeys",
    "Request",
    "Response",
    "SqlResult",
    "SqlScript",
    "Statement",
    "TimeLimit",
]

MutableMapping.register(Headers)


class TimeLimit(BaseException):
    """Raised in a callable that has used up its time. Not an ``Exception``: a broad ``except`` must not swallow it."""
