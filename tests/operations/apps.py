"""An application in a file, and its next version."""

from __future__ import annotations

from pathlib import Path

APP = """
from edgerouter import Edge

edge = Edge("test")
edge.route("/*", to=edge.origin("first", "{url}"), headers={{"response": {{"set": {{"X-Version": "{version}"}}}}}})
"""


def write_app(path: Path, url: str, version: int) -> None:
    path.write_text(APP.format(url=url, version=version))
