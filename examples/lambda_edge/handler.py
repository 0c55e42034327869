"""A handler as it would be uploaded to Lambda: nothing in it knows edgerouter."""

from __future__ import annotations

import random
from http.cookies import SimpleCookie
from typing import Any


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    request: dict[str, Any] = event["Records"][0]["cf"]["request"]
    headers = request["headers"]
    headers["x-edge-function"] = [{"key": "x-edge-function", "value": "processed"}]
    cookies = SimpleCookie("; ".join(line["value"] for line in headers.get("cookie", [])))
    if "variant" not in cookies:
        variant = random.choice("ab")
        return {
            "status": "302",
            "headers": {
                "location": [{"key": "location", "value": request["uri"]}],
                "set-cookie": [{"key": "set-cookie", "value": f"variant={variant}; Path=/; Max-Age=2592000"}],
            },
        }
    headers["x-variant"] = [{"key": "x-variant", "value": cookies["variant"].value}]
    return request
