"""Secrets: named in the configuration, read when the plan is compiled, never shown.

``env("NAME")`` and ``secret_file(path)`` read nothing by themselves; ``Edge.compile`` and every reload do, so a
rotated secret takes effect with a reload. A secret that cannot be read becomes a problem of the plan that names the
variable or the file, never the value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, ClassVar

from edgerouter import regular
from edgerouter.checks import Check, Value, is_no_text
from edgerouter.errors import ConfigError, Problem

__all__ = ["Secret", "env", "secret_file"]

_LARGEST = 1 << 20
_SENDABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_NAMED = ("chain", "key", "ocsp", "client_ca", "ca_file")


class Secret(Value, frozen=True, kw_only=True):
    """A secret by reference: made with ``env``, ``secret_file`` or ``Secret.literal``. Its ``repr`` hides the value.

    ``env``, ``file``  the variable or the file that holds it
    ``value``, ``base64``  the secret itself, as text or as bytes in Base64
    """

    _secret: ClassVar[bool] = True

    value: str | None = None
    base64: str | None = None
    env: str | None = None
    file: str | None = None

    @classmethod
    def literal(cls, value: str | bytes) -> Secret:
        """A secret that stands in the program itself: for tests and examples."""
        if isinstance(value, bytes):
            return cls(**_carried(value))
        return cls(value=value)

    def _check(self, check: Check) -> None:
        given = [field for field in ("value", "base64", "env", "file") if check.get(field) is not None]
        if len(given) != 1:
            check.fail_secretly("value", "must be given by exactly one of value, base64, env or file")
        for field in given:
            value = check.get(field)
            if not isinstance(value, str) or not value:
                check.fail_secretly(field, "must be a non-empty string")
            elif is_no_text(value):
                check.fail_secretly(field, "must be text that UTF-8 has")
            elif field in ("env", "file") and "\0" in value:
                check.fail_secretly(field, "must not contain a null character")

    def __repr__(self) -> str:
        if self.env is not None:
            return f"env({self.env!r})"
        if self.file is not None:
            return f"secret_file({self.file!r})"
        return "Secret(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in (("env", self.env), ("file", self.file)) if value is not None]


def env(name: str) -> Secret:
    """The secret in the environment variable ``name``, read at start and at every reload."""
    return Secret(env=name)


def secret_file(path: str | os.PathLike[str]) -> Secret:
    """The secret in a file, read at start and at every reload; one line break at the end is not part of it.

    A relative path is relative to the current directory, in a plan file to that file's directory.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigError([Problem("secret_file", None, "must be given the path of a file, a str or a Path")])
    return Secret(file=os.fspath(path))


def as_secret(value: Secret | str | bytes) -> Secret:
    """A literal becomes a ``Secret``, so that no ``repr`` shows it from here on."""
    if value is None:
        # As ``os.environ.get`` gives for a variable that is not set.
        message = 'is None; write env("NAME") for a variable: if it is not set, that is said with its name'
        raise ConfigError([Problem("Secret", None, message)])
    return value if isinstance(value, Secret) else Secret.literal(value)


def text_or_file(source: Secret | str | os.PathLike[str], start: str) -> Secret:
    """Distinguishes key material from the name of its file by its first characters."""
    if isinstance(source, Secret):
        return source
    if isinstance(source, str) and source.lstrip().startswith(start):
        return Secret.literal(source)
    return secret_file(os.fspath(source))


def reveal(secret: Secret, place: str) -> str:
    """The text of a secret that is not part of a plan. Raises ``ConfigError`` that names ``place``."""
    found = {"value": secret.value, "base64": secret.base64}
    if secret.env is not None:
        found = {**_read_env(secret.env, os.environ)}
    elif secret.file is not None:
        found = {**_read_file(secret.file)}
    if problem := found.get("problem"):
        source = f"environment variable {secret.env}" if secret.env is not None else f"file {secret.file}"
        raise ConfigError([Problem(place, None, f"{source}: {problem}")])
    value = found.get("value")
    if value is None:
        raise ConfigError([Problem(place, None, "must be text")])
    return value


def bearer(text: str, place: str) -> str:
    """A token as it stands behind ``Bearer``. Raises ``ConfigError`` without it if no field of a request can hold it.

    A variable often ends in the line break of the file that it came from.
    """
    if not _SENDABLE.fullmatch(text):
        message = "must be printable ASCII, without a line break or a space at either end (RFC 9110 §5.5)"
        raise ConfigError([Problem(place, None, message)])
    return text


def part(check: Check, field: str, make: Callable[[], Secret]) -> Secret | None:
    """A secret that is part of a value, whose problems are reported as those of its field."""
    try:
        return make()
    except ConfigError as error:
        for problem in error.problems:
            check.fail_secretly(field, problem.message)
        return None


def keep(check: Check, field: str, secret: Any) -> None:
    """Stores a secret in place of the text that a field was given."""
    if (made := part(check, field, lambda: as_secret(secret))) is not None:
        check.keep(field, made)


def file_field(check: Check, field: str, example: str) -> None:
    """A field that holds a secret; a text or a path is the name of its file."""
    given = check.get(field)
    if not isinstance(given, (str, os.PathLike)):
        check.instance(field, Secret)
        return
    path = os.fspath(given)
    if not isinstance(path, str) or not path or "\0" in path:
        check.fail_secretly(field, f"must be the name of a file such as {example}")
    elif "-----BEGIN" in path:
        check.fail_secretly(field, "must be the name of a file; give PEM itself as Secret.literal(text)")
    else:
        if (made := part(check, field, lambda: secret_file(path))) is not None:
            check.keep(field, made)


def resolve(plan: MutableMapping[str, Any], *, environ: Mapping[str, str] | None = None) -> None:
    """Reads every secret of a plan's data in place.

    One that cannot be read keeps its reference and gains a ``problem``, which the compiler reports at its path.
    """
    environment = os.environ if environ is None else environ
    known: dict[tuple[str, str], dict[str, str]] = {}
    for holder, field in places(plan):
        secret = holder[field]
        for kind in ("env", "file"):
            name = secret.get(kind)
            if isinstance(name, str):
                key = (kind, name)
                if key not in known:
                    known[key] = _read_env(name, environment) if kind == "env" else _read_file(name)
                # Its file is named in what is said about its content.
                is_named = kind == "file" and field in _NAMED
                holder[field] = {**known[key], "file": name} if is_named else known[key]


def rebase(plan: MutableMapping[str, Any], folder: Path) -> None:
    """Makes the relative secret files of a plan file relative to ``folder``."""
    for holder, field in places(plan):
        file = holder[field].get("file")
        if isinstance(file, str):
            holder[field] = {**holder[field], "file": str(folder / file)}


_OF_BINDINGS = ("url", "bookmark_key", "auth_token")


def places(plan: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The places of a plan that may hold secrets. Anything of another shape is left for the compiler to refuse."""
    for listener in dicts(plan.get("listeners")):
        for policy in dicts(listener.get("tls")):
            if isinstance(policy.get("client_ca"), dict):
                yield policy, "client_ca"
            acme = policy.get("acme")
            for issuer in dicts(acme.get("issuers") if isinstance(acme, dict) else None):
                yield from ((issuer, field) for field in ("ca_file", "hmac_key") if isinstance(issuer.get(field), dict))
            for certificate in dicts(policy.get("certificates")):
                yield from _of_certificate(certificate)
    for origin in dicts(plan.get("origins")):
        if isinstance(origin.get("tls_ca"), dict):
            yield origin, "tls_ca"
        yield from _of_certificate(origin.get("tls_certificate"))
        yield from _held(origin.get("headers"))
    tracing = plan.get("tracing")
    if isinstance(tracing, dict):
        if isinstance(tracing.get("debug_token"), dict):
            yield tracing, "debug_token"
        yield from _held(tracing.get("headers"))
    for binding in dicts(plan.get("bindings")):
        yield from ((binding, field) for field in _OF_BINDINGS if isinstance(binding.get(field), dict))
        if isinstance(urls := binding.get("replicas"), (list, tuple)):
            binding["replicas"] = replicas = list(urls)
            yield from ((replicas, at) for at, url in enumerate(replicas) if isinstance(url, dict))
    yield from _of_security(plan)
    for route in dicts(plan.get("routes")):
        yield from _of_security(route)
        auth = route.get("auth")
        keys = auth.get("keys") if isinstance(auth, dict) else None
        if isinstance(keys, dict):
            for field in ("secret", "pem", "jwks"):
                if isinstance(keys.get(field), dict):
                    yield keys, field
        basic = route.get("basic")
        if isinstance(basic, dict) and isinstance(basic.get("users"), dict):
            yield basic, "users"
        signed = route.get("signed")
        for keys in dicts([signed.get("keys"), signed.get("secrets")] if isinstance(signed, dict) else None):
            yield from ((keys, name) for name, key in keys.items() if isinstance(key, dict))


def _of_security(holder: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The place of the text that pages of a site or a route have for a nonce."""
    security = holder.get("security")
    if isinstance(security, dict) and isinstance(security.get("nonce"), dict):
        yield security, "nonce"


def _of_certificate(certificate: object) -> Iterator[tuple[Any, Any]]:
    """The places of a certificate's files."""
    if isinstance(certificate, dict):
        yield from (
            (certificate, field) for field in ("chain", "key", "ocsp") if isinstance(certificate.get(field), dict)
        )


def _held(headers: object) -> Iterator[tuple[Any, Any]]:
    """The places of header values that are secrets."""
    for values in dicts([headers]):
        for name, value in values.items():
            if isinstance(value, dict):
                yield values, name
            elif isinstance(value, (list, tuple)):
                values[name] = items = list(value)
                yield from ((items, at) for at, item in enumerate(items) if isinstance(item, dict))


def dicts(value: object) -> Iterator[dict[str, Any]]:
    """The tables in a list of a plan's data, which may have anything in its place."""
    if isinstance(value, (list, tuple)):
        yield from (item for item in value if isinstance(item, dict))


def _read_env(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    value = environ.get(name)
    if value is None:
        return {"env": name, "problem": "is not set"}
    if not value:
        return {"env": name, "problem": "is empty"}
    return {"value": value}


def _read_file(name: str) -> dict[str, str]:
    try:
        with regular.opened(name) as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        where = ""
        if isinstance(error, FileNotFoundError) and not Path(name).is_absolute():
            where = f"; a relative path starts at the current folder, {_current_folder()}"
        return {"file": name, "problem": f"cannot be read: {error.strerror or error}{where}"}
    if len(data) > _LARGEST:
        return {"file": name, "problem": f"is larger than {_LARGEST} bytes"}
    if not data.strip():
        return {"file": name, "problem": "is empty"}
    return _carried(data, trim=True)


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "which was removed"


def _carried(data: bytes, *, trim: bool = False) -> dict[str, str]:
    """Bytes as they travel in JSON."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(data).decode()}
    if trim:
        text = text.removesuffix("\n").removesuffix("\r")
    return {"value": text}
