"""A guarded edge, and a browser."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..service_worker.browser import Browser

TOKEN = "a token that may change"
READER = "a token that may look"


@pytest.fixture(autouse=True)
def _silent_clients() -> Iterator[None]:
    """The clients of these tests are in the process of the edge, and log each request as functions do."""
    logger = logging.getLogger("httpx")
    before = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(before)


@pytest.fixture
def guarded() -> Iterator[Server]:
    edge = Edge("shop")
    edge.route("/*", respond="x")
    settings = Settings(
        listen="127.0.0.1:0", admin="127.0.0.1:0", admin_token=TOKEN, admin_reader_token=READER, workers=1
    )
    with Server.start(edge, settings) as server:
        yield server


@pytest.fixture
def page(guarded: Server) -> Iterator[httpx.Client]:
    """A client with the cookies of a browser and no others."""
    with httpx.Client(base_url=guarded.admin_url or "", timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(Path(tmp_path_factory.mktemp("profile")))
    yield made
    made.close()
