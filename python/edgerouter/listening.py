"""Listeners: the addresses that an edge serves on by its plan, with TLS or in plain text.

Values only. Files of certificates and keys are read when the plan is compiled and at every reload; sockets and
handshakes are the engine's.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeAlias

from edgerouter.certificates import Certificate
from edgerouter.checks import Check, Value, address_problem, is_token, listed
from edgerouter.obtaining import Acme
from edgerouter.secrets import Secret, file_field

__all__ = ["Certificate", "Listener", "SecurityPolicy", "Tls"]

SecurityPolicy: TypeAlias = Literal["TLSv1.2_2021", "TLSv1.2_2025", "TLSv1.3_2025"]
"""Versions and cipher suites, by the names of CloudFront's security policies."""

_POLICIES: tuple[SecurityPolicy, ...] = ("TLSv1.2_2021", "TLSv1.2_2025", "TLSv1.3_2025")
_OUTDATED = ("SSLv3", "TLSv1", "TLSv1_2016", "TLSv1.1_2016", "TLSv1.2_2018", "TLSv1.2_2019")


_PROTOCOLS = ("h2", "http/1.1")
_FACTS = ("certificate", "fingerprint", "subject", "names", "serial")


class _Certified(Value, frozen=True):
    certificates: Certificate | Collection[Certificate] = ()


class Tls(_Certified, frozen=True):
    """A TLS policy: the terms of connections to the names of its certificates.

    ``certificates``  one, or several: by the name that the client gives (SNI), the exact one before a wildcard; a
        client without a name, or with one that none is for, gets the first that it can verify
    ``acme``  certificates that the edge obtains and renews by itself, beside those or in their place
    ``policy``  versions and cipher suites: ``"TLSv1.2_2021"``, ``"TLSv1.2_2025"`` or ``"TLSv1.3_2025"``
    ``client_ca``  clients show a certificate (mutual TLS) that one of these authorities has issued: a PEM file
    ``client_certificates``  ``"required"``: without one there is no connection; ``"optional"``: without one a client is
        served, and the fields of ``client_fields`` are absent
    ``client_fields``  request fields that say who the client is: ``certificate`` (RFC 9440), ``fingerprint``,
        ``subject``, ``names``, ``serial``, each with the name of its field. Clients' own copies are removed
    """

    acme: Acme | None = None
    policy: SecurityPolicy = "TLSv1.2_2021"
    client_ca: Secret | str | os.PathLike[str] | None = None
    client_certificates: Literal["required", "optional"] | None = None
    client_fields: Mapping[str, str] = {}

    def _check(self, check: Check) -> None:
        kept = certificates(check.get("certificates"))
        if kept is None:
            check.fail_secretly(
                "certificates", 'must be Certificate("fullchain.pem", "privkey.pem"), or a list of them'
            )
        elif not kept and self.acme is None:
            check.fail_secretly("certificates", "must have at least one certificate, unless acme obtains some")
        else:
            check.keep("certificates", kept)
        check.instance("acme", Acme, optional=True)
        if self.client_ca is not None:
            file_field(check, "client_ca", "clients.pem")
        for field in ("client_certificates", "client_fields"):
            if self.client_ca is None and check.get(field):
                check.fail(
                    field, "has no effect; give client_ca, the authorities that issue the certificates of clients"
                )
        check.choice("client_certificates", (None, "required", "optional"))
        check.pairs("client_fields")
        if isinstance(self.client_fields, Mapping):
            for fact, name in self.client_fields.items():
                if fact not in _FACTS:
                    check.fail("client_fields", f"must be one of {', '.join(_FACTS)}", value=fact)
                elif not is_token(name):
                    check.fail("client_fields", "must be the name of a request field", value=name)
        if self.policy in _OUTDATED:
            check.fail("policy", f"is no longer secure; the nearest policy is {_POLICIES[0]}")
        else:
            check.choice("policy", _POLICIES)


def certificates(given: object) -> tuple[Any, ...] | None:
    """The certificates of a policy; ``None`` if one is something else."""
    items = [given] if isinstance(given, Certificate) else listed(given)
    if items is None or not all(isinstance(item, Certificate) for item in items):
        return None
    return tuple(items)


class _Address(Value, frozen=True):
    address: str


class Listener(_Address, frozen=True, kw_only=True):
    """An address for clients.

    ``address``  ``IP:PORT``, ``[IPv6]:PORT`` or ``:PORT``; ``[::]`` serves IPv4, too; port 0 takes a free one. Or a
        unix socket, ``unix:/run/edge.sock``
    ``tls``  the TLS policy of its connections, or several, which the names of their certificates select; a client that
        names no host of any gets the first. Without one, plain text
    ``http``  the protocols that are offered, by preference: ``"h2"``, ``"http/1.1"``. ``None``: both with TLS, and only
        ``"http/1.1"`` in plain text, where clients of ``"h2"`` need to know it beforehand
    ``proxy_protocol``  networks of proxies, such as ``"10.0.0.0/8"``, that begin each connection with a header of the
        PROXY protocol, version 1 or 2; connections without one, or from other peers, are closed
    """

    tls: Tls | Collection[Tls] = ()
    http: Collection[str] | None = None
    proxy_protocol: Collection[str] = ()

    def _check(self, check: Check) -> None:
        if isinstance(self.address, str) and self.address.startswith("unix:"):
            if not self.address.startswith("unix:/") or len(os.fsencode(self.address)) > 112:
                check.fail("address", "must be unix: and an absolute path of at most 107 bytes")
        elif message := address_problem(self.address):
            check.fail("address", message)
        given = check.get("tls")
        items = [given] if isinstance(given, Tls) else listed(given)
        if items is None or not all(isinstance(item, Tls) for item in items):
            check.fail_secretly("tls", "must be a Tls, or a list of them")
        else:
            check.keep("tls", tuple(items))
        check.texts("proxy_protocol")
        if self.http is None:
            return
        check.texts("http")
        if not listed(self.http):
            check.fail("http", 'must name at least one protocol: "h2" or "http/1.1"')
        for item in listed(self.http) or ():
            if isinstance(item, str) and item not in _PROTOCOLS:
                check.fail("http", 'must be "h2" or "http/1.1"', value=item)
