"""Clients of functions and mounted applications."""

import httpx

from edgerouter.testing import Running

PATIENCE = 60.0
LARGE = 3 << 20


def client_of(served: Running) -> httpx.Client:
    return httpx.Client(base_url=served.url, timeout=PATIENCE)
