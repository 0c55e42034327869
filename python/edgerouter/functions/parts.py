"""Parts of a request as functions see them: dictionaries that say what a request lacks."""

from __future__ import annotations

from typing import NoReturn

from edgerouter.errors import MissingError

__all__ = ["Cookies", "Query"]


class Query(dict[str, str]):
    """Parameters of the query."""

    __slots__ = ()

    def __missing__(self, name: object) -> NoReturn:
        raise MissingError(str(name), "query parameter")


class Cookies(dict[str, str]):
    """Cookies of a request."""

    __slots__ = ()

    def __missing__(self, name: object) -> NoReturn:
        raise MissingError(str(name), "cookie")
