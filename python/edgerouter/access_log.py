"""The access log's view of requests. Where it goes is said when the edge is served (``--access-log``)."""

from __future__ import annotations

from edgerouter.cache import Selection, check_selection
from edgerouter.checks import Check, Value

__all__ = ["AccessLog"]


class AccessLog(Value, frozen=True, kw_only=True):
    """The parts of a request that a line of the access log shows. Cookies and ``Authorization`` are never written.

    ``query``  query parameters whose values are shown, in the URL and in ``Referer``; others are ``***``.
        ``None``: all but those that carry secrets by habit, such as ``token``, ``code``, ``key`` and ``password``
    ``user``  whether the ``sub`` of a verified token is shown
    """

    query: Selection | None = None
    user: bool = False

    def _check(self, check: Check) -> None:
        check_selection(check, "query", optional=True)
        check.flag("user")
