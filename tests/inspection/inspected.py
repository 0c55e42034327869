"""The endpoints of `edgerouter cache`."""

from __future__ import annotations

from typing import Any

import httpx

from edgerouter.testing import Running


def asked(served: Running, path: str, **query: Any) -> Any:
    response = httpx.get(f"{served.admin_url}/v1/cache/{path}", params=query)
    assert response.status_code == 200, response.text
    return response.json()
