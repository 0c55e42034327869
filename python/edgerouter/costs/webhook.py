"""An alarm as a signed request to a webhook.

The body is JSON, and ``X-Edgerouter-Signature: t=TIME,v1=HEX`` signs it: HMAC-SHA256 of ``TIME.BODY`` with the secret.
A receiver computes the same, compares in constant time, and refuses old times.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from edgerouter.errors import ConfigError, EdgeError, Problem

__all__ = ["SIGNATURE", "Webhook", "WebhookError", "retry_after", "signature"]

SIGNATURE = "X-Edgerouter-Signature"
TIMEOUT = 10.0
LEAST_SECRET = 16
LONGEST_PAUSE = 3_600.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class WebhookError(EdgeError):
    """A webhook did not take an event."""


def signature(secret: bytes, body: bytes, now: int) -> str:
    """The field that signs a body at a time."""
    return f"t={now},v1={hmac.new(secret, b'%d.%b' % (now, body), hashlib.sha256).hexdigest()}"


def retry_after(attempts: int, interval: float) -> float:
    """Seconds until the next attempt: twice as long after each one, at most an hour."""
    return float(min(interval * 2 ** min(attempts - 1, 20), LONGEST_PAUSE))


class Webhook:
    """A place for events: a URL with ``https``, or one of this machine. Its query is in no message."""

    def __init__(self, url: str, secret: bytes) -> None:
        try:
            parts = urlsplit(url)
            self.host, self.port = parts.hostname or "", parts.port
        except ValueError:
            parts, self.host, self.port = urlsplit(""), "", None
        self.secure = parts.scheme == "https"
        if not self.host or not (self.secure or (parts.scheme == "http" and self.host in _LOOPBACK)):
            rule = "must be a URL with https, or with http to this machine"
            raise ConfigError([Problem("--webhook", f"{parts.scheme}://{self.host}", rule)])
        if "@" in parts.netloc or not url.isascii() or not url.isprintable() or " " in url:
            raise ConfigError([Problem("--webhook", self.host, "must have no user, and only characters of a URL")])
        if len(secret) < LEAST_SECRET:
            rule = f"its value must have at least {LEAST_SECRET} bytes"
            raise ConfigError([Problem("--webhook-secret-env", None, rule)])
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret = secret

    def send(self, event: Mapping[str, Any], now: float) -> None:
        """Sends an event once; ``WebhookError`` unless the answer is a 2xx. Redirects are not followed."""
        body = json.dumps(event, separators=(",", ":"), sort_keys=True).encode()
        fields = {
            "Content-Type": "application/json",
            "User-Agent": "edgerouter",
            SIGNATURE: signature(self._secret, body, int(now)),
        }
        connection = (
            http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT, context=ssl.create_default_context())
            if self.secure
            else http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        )
        try:
            connection.request("POST", self._target, body, fields)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise WebhookError(
                f"the webhook at {self.host} gave no answer: {str(error) or type(error).__name__}"
            ) from None
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise WebhookError(f"the webhook at {self.host} answered {status}")
