"""A certificate with its key, as listeners serve it and origins are shown it. Files are read by the engine."""

from __future__ import annotations

import os
from typing import ClassVar

from edgerouter.checks import Check, Value
from edgerouter.secrets import Secret, file_field

__all__ = ["Certificate"]


class _Pair(Value, frozen=True):
    chain: Secret | str | os.PathLike[str]
    key: Secret | str | os.PathLike[str]


class Certificate(_Pair, frozen=True):
    """A certificate and its key, in PEM. A text or a path is a file, read at the start and at every reload.

    ``chain``  the certificate, and after it those that issued it: ``"fullchain.pem"``
    ``key``  its private key, not encrypted: ``"privkey.pem"``, or ``env("NAME")``
    ``ocsp``  a response of OCSP in DER, which clients get with the certificate: ``"ocsp.der"``
    """

    _example: ClassVar[str] = 'Certificate("www.pem", "www.key")'

    ocsp: Secret | str | os.PathLike[str] | None = None

    def _check(self, check: Check) -> None:
        file_field(check, "chain", "fullchain.pem")
        file_field(check, "key", "privkey.pem")
        if self.ocsp is not None:
            file_field(check, "ocsp", "ocsp.der")
