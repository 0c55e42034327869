"""An alarm as a signed request to a webhook.

The body is JSON, and ``X-Edgerouter-Signature: t=TIME,v1=HEX`` signs it: HMAC-SHA256 of ``TIME.BODY`` with the secret.
A receiver computes the same, compares in constant time, and refuses old times.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from edgerouter.errors import ConfigError, EdgeError, Problem

__all__ = ["SIGNATURE", "Webhook", "WebhookError", "retry_after", "signature"]

SIGNATURE = "X-Edgerouter-Signature"
#: Seconds for each step, and for all of them together once there is a connection.
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
            connection.connect()
            with _limited(connection):
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


@contextmanager
def _limited(connection: http.client.HTTPConnection) -> Iterator[None]:
    """Ends a connection after a time, however slowly its peer sends; ``TimeoutError`` then."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(OSError):
            # A failure of TLS would have the reader fail in a way of its own.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(TIMEOUT, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # Half an answer may look like a whole one.
        if late.is_set():
            raise TimeoutError("it took too long")
