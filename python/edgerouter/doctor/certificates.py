"""The end of a certificate's validity, read from its file (RFC 5280 §4.1)."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime

__all__ = ["valid_until"]

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def valid_until(pem: bytes) -> datetime | None:
    """The time at which the first certificate of a chain expires; ``None`` if it cannot be read."""
    found = _BLOCK.search(pem)
    if found is None:
        return None
    try:
        _, certificate, _ = _element(base64.b64decode(b"".join(found[1].split()), validate=True))
        _, rest, _ = _element(certificate)
        tag, _, behind = _element(rest)
        if tag == _VERSION:
            rest = behind
        for _ in ("serial", "signature", "issuer"):
            _, _, rest = _element(rest)
        tag, validity, _ = _element(rest)
        if tag != _SEQUENCE:
            return None
        _, _, rest = _element(validity)
        tag, text, _ = _element(rest)
        return _time(tag, text.decode("ascii"))
    except (ValueError, IndexError, binascii.Error):
        return None


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element of DER, and the bytes behind it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise ValueError("a length of DER has one to four bytes here")
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    end = start + length
    if end > len(data):
        raise ValueError("the element is cut off")
    return tag, data[start:end], data[end:]


def _time(tag: int, text: str) -> datetime | None:
    """RFC 5280 §4.1.2.5: two digits of a year below 50 are those of this century."""
    if tag == _UTC_TIME:
        text = f"{'20' if int(text[:2]) < 50 else '19'}{text}"
    elif tag != _GENERALIZED_TIME:
        return None
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
