"""``Set-Cookie`` lines as RFC 6265 §4.1 has servers write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

__all__ = ["line"]

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z")
_VALUE = re.compile(r"[\x21\x23-\x2B\x2D-\x3A\x3C-\x5B\x5D-\x7E]*\Z")
_ATTRIBUTE = re.compile(r"[\x20-\x3A\x3C-\x7E]*\Z")
_SAME_SITE = {"strict": "Strict", "lax": "Lax", "none": "None"}
#: Bytes of name and value, and of an attribute, beyond which clients ignore them (RFC 6265bis §5.6, §5.7).
_LONGEST, _LONGEST_ATTRIBUTE = 4096, 1024


def line(
    name: str,
    value: str = "",
    *,
    max_age: int | timedelta | None = None,
    expires: datetime | None = None,
    path: str | None = "/",
    domain: str | None = None,
    secure: bool = False,
    httponly: bool = False,
    samesite: Literal["strict", "lax", "none"] | None = "lax",
    partitioned: bool = False,
) -> str:
    """The value of the field; ``ValueError`` for what a client would take for something else, or ignore."""

    def refuse(field: str, given: object, must: str) -> ValueError:
        return ValueError(f"set_cookie: {field} {given!r} {must}")

    if not isinstance(name, str) or not _NAME.match(name):
        raise refuse("name", name, "must be letters, digits or !#$%&'*+-.^_`|~")
    if not isinstance(value, str) or not _VALUE.match(value):
        raise refuse(
            "value",
            value[:40] if isinstance(value, str) else value,
            "must be ASCII without spaces, quotes, commas, "
            "semicolons and backslashes; encode it, as by urllib.parse.quote",
        )
    if (size := len(name) + len(value)) > _LONGEST:
        message = f"set_cookie: name and value of {name[:40]!r} have {size} bytes: clients ignore more than {_LONGEST}"
        raise ValueError(message)
    found = [f"{name}={value}"]
    if max_age is not None:
        seconds = max_age.total_seconds() if isinstance(max_age, timedelta) else max_age
        # Neither infinity nor NaN leaves a rest of 0.
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds % 1 != 0:
            raise refuse("max_age", max_age, "must be whole seconds")
        found.append(f"Max-Age={int(seconds)}")
    if expires is not None:
        if not isinstance(expires, datetime) or expires.tzinfo is None:
            raise refuse("expires", expires, "must be a datetime with a time zone")
        found.append(f"Expires={format_datetime(expires.astimezone(UTC), usegmt=True)}")
    for field, text in (("Path", path), ("Domain", domain)):
        if text is None:
            continue
        if not isinstance(text, str) or not text or not _ATTRIBUTE.match(text):
            raise refuse(field.lower(), text, "must be ASCII without semicolons and control characters")
        if len(text) > _LONGEST_ATTRIBUTE:
            raise refuse(
                field.lower(), text[:40], f"has {len(text)} bytes: clients ignore more than {_LONGEST_ATTRIBUTE}"
            )
        found.append(f"{field}={text}")
    if path is not None and not path.startswith("/"):
        raise refuse("path", path, "must start with /")
    site = None if samesite is None else _SAME_SITE.get(str(samesite).lower())
    if samesite is not None and site is None:
        raise refuse("samesite", samesite, "must be strict, lax or none")
    # Clients compare prefixes in any case (RFC 6265bis §5.7).
    prefix = name.lower()
    if not secure and (site == "None" or partitioned or prefix.startswith(("__secure-", "__host-", "__http-"))):
        what = "samesite 'none'" if site == "None" else "partitioned" if partitioned else f"the name {name!r}"
        raise ValueError(f"set_cookie: {what} needs secure=True: clients ignore the cookie otherwise")
    if prefix.startswith("__host-") and (domain is not None or path != "/"):
        raise ValueError(
            f"set_cookie: the name {name!r} needs path='/' and no domain: clients ignore the cookie otherwise"
        )
    if prefix.startswith(("__http-", "__host-http-")) and not httponly:
        raise ValueError(f"set_cookie: the name {name!r} needs httponly=True: clients ignore the cookie otherwise")
    if secure:
        found.append("Secure")
    if httponly:
        found.append("HttpOnly")
    if site is not None:
        found.append(f"SameSite={site}")
    if partitioned:
        found.append("Partitioned")
    return "; ".join(found)
