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
    found = [f"{name}={value}"]
    if max_age is not None:
        seconds = max_age.total_seconds() if isinstance(max_age, timedelta) else max_age
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds != int(seconds):
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
        found.append(f"{field}={text}")
    if path is not None and not path.startswith("/"):
        raise refuse("path", path, "must start with /")
    if samesite is not None and samesite not in _SAME_SITE:
        raise refuse("samesite", samesite, "must be strict, lax or none")
    if not secure and (samesite == "none" or partitioned or name.startswith(("__Secure-", "__Host-"))):
        what = "samesite 'none'" if samesite == "none" else "partitioned" if partitioned else f"the name {name!r}"
        raise ValueError(f"set_cookie: {what} needs secure=True: clients ignore the cookie otherwise")
    if name.startswith("__Host-") and (domain is not None or path != "/"):
        raise ValueError(
            f"set_cookie: the name {name!r} needs path='/' and no domain: clients ignore the cookie otherwise"
        )
    if secure:
        found.append("Secure")
    if httponly:
        found.append("HttpOnly")
    if samesite is not None:
        found.append(f"SameSite={_SAME_SITE[samesite]}")
    if partitioned:
        found.append("Partitioned")
    return "; ".join(found)
