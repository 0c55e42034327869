"""Certificates that an edge obtains and renews by itself, by ACME (RFC 8555).

Values only. The engine speaks to issuers, by a thread of its own, and keeps what they issue in a folder.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import msgspec

from edgerouter.callables import is_async
from edgerouter.checks import Check, Value, listed, shown
from edgerouter.errors import Problem
from edgerouter.secrets import Secret, dicts, file_field

if TYPE_CHECKING:
    from edgerouter import _core

__all__ = ["Acme", "Challenge", "Issuer", "Records", "SetRecord", "named"]

_log = logging.getLogger("edgerouter.certificates")

SetRecord: TypeAlias = Callable[[str, str, bool], object]
"""Sets or removes a record of DNS."""
AllowName: TypeAlias = Callable[[str], bool]
"""True if a certificate may be obtained for a name."""

Challenge: TypeAlias = Literal["http-01", "tls-alpn-01", "dns-01"]
"""A way to prove that a name is the edge's."""

_NAME = re.compile(r"\w+(?:\.\w+)*:\w+(?:\.\w+)*")
_CHALLENGES: tuple[Challenge, ...] = ("http-01", "tls-alpn-01", "dns-01")
_LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class _Directory(Value, frozen=True):
    directory: str = _LETS_ENCRYPT


class Issuer(_Directory, frozen=True, kw_only=True):
    """An issuer of certificates that speaks ACME. Its use is an agreement to its terms of service.

    ``directory``  the URL of its directory, by https; Let's Encrypt's if none is given
    ``ca_file``  the authorities by which its server is verified, in PEM; ``None``: the system's
    ``profile``  the kind of certificate that is ordered, by the issuer's name for it, such as ``"shortlived"``;
        ``None``: the issuer's choice
    ``key_id``, ``hmac_key``  external account binding, as the issuer shows them: ``hmac_key`` in Base64, such as
        ``env("EAB_HMAC_KEY")``
    """

    ca_file: Secret | str | os.PathLike[str] | None = None
    profile: str | None = None
    key_id: str | None = None
    hmac_key: Secret | None = None

    def _check(self, check: Check) -> None:
        if isinstance(self.directory, str) and "@" in self.directory:
            must = "must have no user or password: an account at the issuer is given by key_id and hmac_key"
            check.fail_url("directory", must)
        elif not isinstance(self.directory, str) or not self.directory.startswith("https://"):
            check.fail("directory", f"must be the URL of a directory of ACME by https, such as {_LETS_ENCRYPT}")
        if self.ca_file is not None:
            file_field(check, "ca_file", "ca.pem")
        check.text("profile", optional=True)
        check.text("key_id", optional=True)
        if self.hmac_key is not None and not isinstance(self.hmac_key, Secret):
            check.fail_secretly("hmac_key", 'must be a secret such as env("EAB_HMAC_KEY")')
        elif (self.key_id is None) != (self.hmac_key is None):
            absent = "key_id" if self.key_id is None else "hmac_key"
            check.fail_secretly(absent, "must be given: an external account has both, key_id and hmac_key")


class _Names(Value, frozen=True):
    names: Collection[str] = ()


class Acme(_Names, frozen=True, kw_only=True):
    """Certificates by ACME: obtained when the edge starts, renewed ahead of time, and replaced while it serves.

    ``names``  DNS names, each of which gets a certificate of its own
    ``storage``  the folder of accounts, keys and certificates; several processes may share it
    ``email``  the address by which issuers reach the owner of the account
    ``issuers``  an ``Issuer``, or several, in the order in which they are tried; Let's Encrypt if none is given
    ``challenges``  the proofs that a name is this edge's, in the order in which they are tried: ``"http-01"``, which
        needs a listener in plain text on port 80, ``"tls-alpn-01"``, which needs one with TLS on port 443, and
        ``"dns-01"``, which needs ``dns`` and is the only one for wildcards; without any, all that can be shown
    ``dns``  sets and removes a record: ``dns(name, text, present)``, with the name and the text of a TXT
        record. It returns when servers of names have it. In a plan file ``"package.module:function"``
    ``on_demand``  ``True``: a certificate is ordered when a client first comes with its name. Or a function that is
        given a name and returns ``True`` where one may be obtained for it, beside ``names``; a no is kept for an hour
    """

    _example: ClassVar[str] = 'Acme(["www.example.com"], storage="/var/lib/edgerouter/acme")'

    storage: str | os.PathLike[str]
    email: str | None = None
    issuers: Issuer | Collection[Issuer] = (Issuer(),)
    challenges: Collection[Challenge] | None = None
    dns: SetRecord | str | None = None
    on_demand: AllowName | str | bool = False

    def _check(self, check: Check) -> None:
        check.texts("names")
        if not listed(check.get("names")) and isinstance(self.on_demand, bool):
            check.fail("names", 'must have at least one name such as "www.example.com"')
        storage = os.fspath(self.storage) if isinstance(self.storage, (str, os.PathLike)) else self.storage
        if not isinstance(storage, str) or not storage or "\0" in storage:
            check.fail("storage", "must be a folder such as /var/lib/edgerouter/acme")
        else:
            check.keep("storage", storage)
        check.text("email", optional=True)
        given = check.get("issuers")
        items = [given] if isinstance(given, Issuer) else listed(given)
        if items is None or not items or not all(isinstance(item, Issuer) for item in items):
            check.fail_secretly("issuers", "must be an Issuer, or a list of them")
        else:
            check.keep("issuers", tuple(items))
        check.choices("challenges", _CHALLENGES)
        if self.dns is not None and not isinstance(self.dns, str) and not callable(self.dns):
            check.fail("dns", "must be a callable that takes name, text and present")
        elif self.dns is not None and not isinstance(self.dns, str) and is_async(self.dns):
            check.fail_secretly("dns", "must be a plain def, not async: it runs on a thread of its own")
        if not isinstance(self.on_demand, (bool, str)) and not callable(self.on_demand):
            check.fail("on_demand", "must be True, False, or a function that is given a name and returns True for yes")
        elif not isinstance(self.on_demand, (bool, str)) and is_async(self.on_demand):
            check.fail_secretly("on_demand", "must be a plain def, not async: it runs on a thread of its own")


def named(acme: Acme, known: dict[str, Callable[..., object]]) -> Acme:
    """The terms as a plan has them: with the names of callables, which ``known`` then has."""
    changes = {}
    for field in ("dns", "on_demand"):
        function = getattr(acme, field)
        if not callable(function):
            continue
        module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", type(function).__name__)
        unique, number = f"{module}.{name}", 1
        while known.get(unique, function) != function:
            number += 1
            unique = f"{module}.{name}#{number}"
        known[unique] = function
        changes[field] = unique
    return msgspec.structs.replace(acme, **changes) if changes else acme


def problems(data: Mapping[str, Any], known: Collection[str]) -> list[Problem]:
    """The mistakes in callables that a plan names, as in ``"package.module:function"``, and that are none of ``known``.

    They are imported: an edge that found out at the next renewal would be without a certificate.
    """
    found = []
    for at, listener in enumerate(dicts(data.get("listeners"))):
        for number, policy in enumerate(dicts(listener.get("tls"))):
            acme = policy.get("acme")
            for field in ("dns", "on_demand"):
                name = acme.get(field) if isinstance(acme, dict) else None
                if isinstance(name, str) and name not in known:
                    try:
                        _imported(name)
                    except ValueError as error:
                        path = f"listeners[{at}].tls[{number}].acme.{field}"
                        found.append(Problem(path, shown(name), str(error)))
    return found


def _imported(name: str) -> Callable[..., object]:
    """A callable by its name in a plan. Raises ``ValueError`` with what must hold."""
    module, _, attribute = name.partition(":")
    if not _NAME.fullmatch(name):
        raise ValueError('must be a function, or its name as in "package.module:function"')
    try:
        found: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no module {error.name}; its folder must be in PYTHONPATH") from None
    except Exception as error:  # noqa: BLE001  # the owner's code may raise anything
        raise ValueError(f"could not be imported: {type(error).__name__}: {error}") from None
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise ValueError(f"{module} has no {attribute}") from None
    if not callable(found):
        raise ValueError(f"must be a function, but is of type {type(found).__name__}")
    if is_async(found):
        raise ValueError("must be a plain def, not async: it runs on a thread of its own")
    return found


class Records:
    """The thread that calls the callables for certificates, as the engine needs them."""

    def __init__(self, engine: _core.Engine) -> None:
        self._engine = engine
        self._known: dict[str, Callable[..., object]] = {}
        self._thread: threading.Thread | None = None

    def serve(self, known: Mapping[str, Callable[..., object]], data: Mapping[str, Any]) -> None:
        """Uses the callables of a plan, too. Those of plans before it finish what they began."""
        self._known.update(known)
        wanted = any(
            isinstance((policy.get("acme") or {}).get(field), str)
            for listener in data.get("listeners", ())
            for policy in listener.get("tls", ())
            for field in ("dns", "on_demand")
        )
        if wanted and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="edge-dns", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                call = self._engine.next_record()
            except RuntimeError:
                return
            if call is None:
                continue
            number, name, purpose, subject, text = call
            fault, result = None, False
            try:
                function = self._function(name)
                if purpose == "allow":
                    result = function(subject) is True
                else:
                    function(subject, text, purpose == "set")
            except BaseException as error:  # noqa: BLE001  # the owner's code may raise anything, an exit too
                fault = f"{name}: {type(error).__name__}: {error}"
                _log.warning("could not %s %s: %s", purpose, subject, fault)
            with contextlib.suppress(RuntimeError):
                self._engine.record_ended(number, result, fault)

    def _function(self, name: str) -> Callable[..., object]:
        known = self._known.get(name)
        if known is not None:
            return known
        return _imported(name)
