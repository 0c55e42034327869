"""Identity: JSON Web Tokens verified at the edge, their claims forwarded to the origin.

The algorithm belongs to the key and never to the token (RFC 8725 §3.1). Verification itself is the core's; these
values only say with which keys and which demands.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, TypeAlias, TypedDict, Unpack, get_args

import msgspec

from edgerouter.cache import Duration
from edgerouter.checks import Check, Value, is_token, shown
from edgerouter.errors import ConfigError, Problem
from edgerouter.secrets import Secret, as_secret, text_or_file

__all__ = ["Algorithm", "Demands", "Jwt", "KeySource"]

Hmac: TypeAlias = Literal["HS256", "HS384", "HS512"]
Asymmetric: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Algorithm: TypeAlias = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]

FORWARD: Mapping[str, str] = {"userId": "X-User-ID", "role": "X-User-Role"}
"""Claims and the header that carries each; where ``userId`` is absent ``sub`` stands in for it."""


class Demands(TypedDict, total=False):
    """The options of a token whatever its keys; see ``Jwt``."""

    issuer: str | Collection[str]
    audience: str | Collection[str]
    leeway: Duration
    require: Collection[str]
    cookie: str | None
    invalid_status: Literal[401, 403]
    shared: bool
    forward: Mapping[str, str]
    optional: bool
    realm: str | None


class KeySource(Value, frozen=True, kw_only=True):
    """The source of verification keys; made by the constructors of ``Jwt``."""

    _secret: ClassVar[bool] = True
    _remedy: ClassVar[str] = "as Jwt.hs256, Jwt.pem and Jwt.jwks make it"

    kind: Literal["secret", "pem", "jwks", "jwks_url"]
    secret: Secret | None = None
    pem: Secret | None = None
    jwks: Secret | None = None
    algorithm: Algorithm | None = None
    url: str | None = None
    refresh: Duration = 300
    cooldown: Duration = 30
    max_stale: Duration = 86_400

    def _check(self, check: Check) -> None:
        check.seconds("refresh", "cooldown", positive=True)
        check.seconds("max_stale")
        if self.algorithm is not None:
            check.choice("algorithm", get_args(Hmac if self.kind == "secret" else Asymmetric))
        for field in ("secret", "pem", "jwks"):
            check.instance(field, Secret, optional=True)
        if self.kind == "jwks_url":
            url = self.url or ""
            if "@" in url.partition("://")[2].partition("/")[0]:
                check.fail_url("url", "must not hold a user name or password")
            elif not url.startswith(("http://", "https://")):
                check.fail_url("url", "must be an http or https URL")


class Jwt(Value, frozen=True, kw_only=True):
    """A route's demand for a verified token.

    Made by ``Jwt.hs256``, ``hs384``, ``hs512``, ``pem`` or ``jwks``.

    ``keys``  what verifies tokens; set by the constructors above
    ``issuer``, ``audience``  accepted values of ``iss`` and ``aud``; empty: not looked at
    ``leeway``  seconds of clock difference that ``exp`` and ``nbf`` allow
    ``require``  claims that must be present
    ``cookie``  take the token from this cookie when there is no Bearer header
    ``invalid_status``  403, or 401 with the error of RFC 6750, for a token that does not verify; absent is 401
    ``shared``  responses behind it do not depend on the client and may be stored for everybody
    ``forward``  claims and the request header that carries each to the origin; client-sent copies are removed
    ``optional``  a request without a token goes on, without identity; an invalid one is still refused
    ``realm``  of ``WWW-Authenticate``; the edge's name when ``None``
    ``algorithms``  with a key set: the algorithms accepted from it; ``None`` means each key's own
    """

    _secret: ClassVar[bool] = True
    _remedy: ClassVar[str] = 'write Jwt.hs256(env("JWT_SECRET")), or Jwt.pem or Jwt.jwks'

    keys: KeySource
    algorithms: Collection[Algorithm] | None = None
    issuer: Collection[str] = ()
    audience: Collection[str] = ()
    leeway: Duration = 0
    require: Collection[str] = ("exp",)
    cookie: str | None = None
    invalid_status: Literal[401, 403] = 403
    shared: bool = False
    forward: Mapping[str, str] = msgspec.field(default_factory=lambda: dict(FORWARD))
    optional: bool = False
    realm: str | None = None

    def _check(self, check: Check) -> None:
        check.instance("keys", KeySource)
        allowed = get_args(Algorithm)
        check.texts("algorithms", optional=True, test=allowed.__contains__, must="must be one of " + ", ".join(allowed))
        if self.algorithms is not None and not self.algorithms:
            check.fail("algorithms", "must name at least one algorithm, or be None")
        check.texts("issuer")
        check.texts("audience")
        check.texts("require")
        check.seconds("leeway", whole=True)
        check.token("cookie", optional=True)
        check.choice("invalid_status", (401, 403))
        check.flag("shared", "optional")
        check.text("realm", optional=True)
        check.pairs("forward")
        if isinstance(self.forward, Mapping):
            for claim, header in self.forward.items():
                if not is_token(header):
                    check.fail(f"forward[{claim!r}]", "must be a header name", value=header)

    @classmethod
    def hs256(cls, secret: Secret | str | bytes, **demands: Unpack[Demands]) -> Jwt:
        """Tokens signed with HMAC SHA-256 and this secret."""
        return cls(keys=KeySource(kind="secret", secret=as_secret(secret), algorithm="HS256"), **demands)

    @classmethod
    def hs384(cls, secret: Secret | str | bytes, **demands: Unpack[Demands]) -> Jwt:
        """Tokens signed with HMAC SHA-384 and this secret."""
        return cls(keys=KeySource(kind="secret", secret=as_secret(secret), algorithm="HS384"), **demands)

    @classmethod
    def hs512(cls, secret: Secret | str | bytes, **demands: Unpack[Demands]) -> Jwt:
        """Tokens signed with HMAC SHA-512 and this secret."""
        return cls(keys=KeySource(kind="secret", secret=as_secret(secret), algorithm="HS512"), **demands)

    @classmethod
    def pem(cls, key: Secret | str | os.PathLike[str], algorithm: Asymmetric, **demands: Unpack[Demands]) -> Jwt:
        """Tokens signed with the private half of this public key or certificate: PEM text, a path, or a secret."""
        return cls(keys=KeySource(kind="pem", pem=text_or_file(key, "-----BEGIN"), algorithm=algorithm), **demands)

    @classmethod
    def jwks(
        cls,
        url_or_file: Secret | str | os.PathLike[str],
        *,
        algorithms: Collection[Algorithm] | None = None,
        refresh: Duration = 300,
        cooldown: Duration = 30,
        max_stale: Duration = 86_400,
        **demands: Unpack[Demands],
    ) -> Jwt:
        """Tokens signed with one of a key set (RFC 7517): its URL, a file, its JSON text, or a secret.

        A URL is fetched by the engine: again every ``refresh`` seconds, on an unknown ``kid`` at most every
        ``cooldown`` seconds, and the last good set is kept for ``max_stale`` seconds while the issuer is down.
        """
        if isinstance(url_or_file, str) and url_or_file.startswith(("http://", "https://")):
            keys = KeySource(kind="jwks_url", url=url_or_file, refresh=refresh, cooldown=cooldown, max_stale=max_stale)
        else:
            for field, value, usual in (
                ("refresh", refresh, 300),
                ("cooldown", cooldown, 30),
                ("max_stale", max_stale, 86_400),
            ):
                if value != usual:
                    message = "is for a key set by URL; this one is read at the start and at each reload"
                    raise ConfigError([Problem(f"Jwt.jwks.{field}", shown(value), message)])
            keys = KeySource(kind="jwks", jwks=text_or_file(url_or_file, "{"))
        return cls(keys=keys, algorithms=algorithms, **demands)
