"""The settings of a server: its addresses, its threads, its access log. Nothing here does I/O."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from functools import partial
from typing import Literal

from edgerouter.checks import Check, Value, address_problem
from edgerouter.secrets import Secret, as_secret, part
from edgerouter.secrets import keep as keep_secret

__all__ = ["Settings"]

_PATHS = ("admin_socket", "deploy_folder", "access_log", "experiments_file", "cost_report")
#: Bytes of the path of a unix socket, which ends with a null character.
_SOCKET_BYTES = 107


class Settings(Value, frozen=True, kw_only=True):
    """The addresses, threads and logs with which a plan is served.

    ``listen``  addresses ``HOST:PORT`` in plain text, besides those of ``Edge.listen``; port 0 takes a free one.
        ``None``: 127.0.0.1:8080, if the edge has no listeners of its own
    ``admin``  the address of the admin listener, ``None`` for none
    ``admin_token``  demanded as a Bearer token by the admin listener
    ``admin_reader_token``  another token, whose holder may read and change nothing; needs ``admin_token``
    ``admin_socket``  the path of a unix socket of the admin listener with mode 0600: processes of the same user need no
        token there
    ``deploy_folder``  the folder of files that a deploy may name; needs ``admin_token`` or ``admin_socket``
    ``admin_keys``  access keys of the CloudFront-compatible calls and their secrets
    ``workers``  threads that serve; one a core when ``None``
    ``access_log``  a file that gets a line for each request, ``"-"`` for standard output, ``None`` for none
    ``access_log_format``  ``"combined"`` as other servers write it and more fields, ``"json"``, or ``"short"``
    ``experiments_file``  a file that keeps the counts of experiments, so that they survive a restart
    ``cost_report``  the file in which ``edgerouter cost watch --report`` keeps its report, for the dashboard
    ``debug_errors``  the error pages of functions show the traceback to clients on this machine, wherever it listens;
        ``serve(watch=True)`` does so by itself where it listens on loopback addresses only

    Paths are strings or ``os.PathLike``; a relative one starts at the current folder.
    """

    listen: str | Collection[str] | None = None
    admin: str | None = None
    admin_token: Secret | str | None = None
    admin_reader_token: Secret | str | None = None
    admin_socket: str | os.PathLike[str] | None = None
    deploy_folder: str | os.PathLike[str] | None = None
    admin_keys: Mapping[str, Secret | str] = {}
    workers: int | None = None
    debug_errors: bool = False
    access_log: str | os.PathLike[str] | None = None
    access_log_format: Literal["combined", "json", "short"] = "combined"
    experiments_file: str | os.PathLike[str] | None = None
    cost_report: str | os.PathLike[str] | None = None

    def _check(self, check: Check) -> None:
        check.texts("listen", optional=True)
        if self.listen is not None and not self.listen:
            check.fail("listen", "must name at least one address such as 127.0.0.1:8080")
        with contextlib.suppress(TypeError):
            for address in self.listen or ():
                if isinstance(address, str) and (message := address_problem(address)):
                    check.fail("listen", message, value=address)
        if self.admin is not None and (message := address_problem(self.admin)):
            check.fail("admin", message)
        if self.admin_token is not None:
            keep_secret(check, "admin_token", self.admin_token)
        if self.admin_reader_token is not None:
            keep_secret(check, "admin_reader_token", self.admin_reader_token)
            if self.admin_token is None:
                check.fail_secretly("admin_reader_token", "needs admin_token: without one, everybody may change")
        self._check_paths(check)
        if self.deploy_folder is not None and not self.admin_socket and not (self.admin and self.admin_token):
            check.fail(
                "deploy_folder", "needs admin and admin_token, or admin_socket: deploys are for known callers only"
            )
        if not isinstance(self.admin_keys, Mapping) or not all(isinstance(k, str) and k for k in self.admin_keys):
            check.fail_secretly("admin_keys", "must be a mapping of access keys to secrets")
        else:
            keys = {
                key: part(check, f"admin_keys[{key!r}]", partial(as_secret, secret))
                for key, secret in self.admin_keys.items()
            }
            check.keep("admin_keys", keys)
        check.whole("workers", least=1, most=1024, optional=True)
        if self.cost_report is not None and self.admin is None:
            check.fail("cost_report", "needs admin: the dashboard shows it")
        check.choice("access_log_format", ("combined", "json", "short"))
        if self.access_log is None and self.access_log_format in ("json", "short"):
            check.fail("access_log_format", 'needs access_log, the file of the lines, or "-" for standard output')
        if self.admin is None and self.admin_socket is None and self.admin_keys:
            check.fail_secretly("admin_keys", "needs admin: CloudFront's calls are answered there")
        check.flag("debug_errors")

    def _check_paths(self, check: Check) -> None:
        """They are kept as text, whatever class of ``os.PathLike`` they are given in."""
        for field in _PATHS:
            given = check.get(field)
            if isinstance(given, os.PathLike):
                check.keep(field, given := os.fspath(given))
            if not isinstance(given, (str, type(None))):
                check.fail(field, "must be a path: a string, or an os.PathLike such as pathlib.Path")
                continue
            check.text(field, optional=True)
            if given is not None and "\0" in given:
                check.fail(field, "must not contain a null character")
        try:
            length = len(os.fsencode(check.get("admin_socket") or ""))
        except (TypeError, UnicodeEncodeError):
            # Refused above, or a name that no file system has.
            length = 0
        if length > _SOCKET_BYTES:
            check.fail("admin_socket", f"must be a path of at most {_SOCKET_BYTES} bytes, as unix(7) has it")
