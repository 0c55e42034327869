"""Certificates that an edge obtains and renews by itself, by ACME (RFC 8555).

Values only. The engine speaks to issuers, by a thread of its own, and keeps what they issue in a folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Literal, TypeAlias

from edgerouter.checks import Check, Value, listed
from edgerouter.secrets import Secret, file_field

__all__ = ["Acme", "Challenge", "Issuer"]

Challenge: TypeAlias = Literal["http-01"]
"""A way to prove that a name is the edge's."""

_CHALLENGES: tuple[Challenge, ...] = ("http-01",)
_LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class _Directory(Value, frozen=True):
    directory: str = _LETS_ENCRYPT


class Issuer(_Directory, frozen=True, kw_only=True):
    """An issuer of certificates that speaks ACME. Its use is an agreement to its terms of service.

    ``directory``  the URL of its directory, by https; Let's Encrypt's if none is given
    ``ca_file``  the authorities by which its server is verified, in PEM; ``None``: the system's
    ``key_id``, ``hmac_key``  external account binding, as the issuer shows them: ``hmac_key`` in Base64, such as
        ``env("EAB_HMAC_KEY")``
    """

    ca_file: Secret | str | os.PathLike[str] | None = None
    key_id: str | None = None
    hmac_key: Secret | None = None

    def _check(self, check: Check) -> None:
        if not isinstance(self.directory, str) or not self.directory.startswith("https://"):
            check.fail("directory", f"must be the URL of a directory of ACME by https, such as {_LETS_ENCRYPT}")
        if self.ca_file is not None:
            file_field(check, "ca_file", "ca.pem")
        check.text("key_id", optional=True)
        if self.hmac_key is not None and not isinstance(self.hmac_key, Secret):
            check.fail_secretly("hmac_key", 'must be a secret such as env("EAB_HMAC_KEY")')
        elif (self.key_id is None) != (self.hmac_key is None):
            absent = "key_id" if self.key_id is None else "hmac_key"
            check.fail_secretly(absent, "must be given: an external account has both, key_id and hmac_key")


class _Names(Value, frozen=True):
    names: Collection[str]


class Acme(_Names, frozen=True, kw_only=True):
    """Certificates by ACME: obtained when the edge starts, renewed ahead of time, and replaced while it serves.

    ``names``  DNS names, each of which gets a certificate of its own
    ``storage``  the folder of accounts, keys and certificates; several processes may share it
    ``email``  the address by which issuers reach the owner of the account
    ``issuers``  an ``Issuer``, or several, in the order in which they are tried; Let's Encrypt if none is given
    ``challenges``  the proofs that a name is this edge's, in the order in which they are tried: ``"http-01"``, which
        needs a listener in plain text on port 80
    """

    storage: str | os.PathLike[str]
    email: str | None = None
    issuers: Issuer | Collection[Issuer] = (Issuer(),)
    challenges: Collection[Challenge] = _CHALLENGES

    def _check(self, check: Check) -> None:
        check.texts("names")
        if not listed(check.get("names")):
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
        check.texts(
            "challenges", test=lambda kind: kind in _CHALLENGES, must="must be one of " + ", ".join(_CHALLENGES)
        )
        if not listed(check.get("challenges")):
            check.fail("challenges", "must have at least one of " + ", ".join(_CHALLENGES))
