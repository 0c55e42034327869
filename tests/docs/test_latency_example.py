"""The example runs, and does what it says."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from edgerouter.testing import running

from ..metrics import metric
from ..origins import wait_until
from ..responses import status_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "latency"


def test_the_example_answers_from_the_cache_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = subprocess.Popen(
        [sys.executable, str(EXAMPLE / "origin.py"), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert origin.stdout is not None
    try:
        monkeypatch.setenv("LATENCY_ORIGIN", origin.stdout.readline().strip())
        with running(runpy.run_path(str(EXAMPLE / "app.py"))["edge"]) as edge:
            stored = '{source="list",result="stored"}'
            wait_until(lambda: metric(edge, "edgerouter_prefetches_total", stored) == 3, what="the prefetched list")
            popular = httpx.get(f"{edge}/api/popular", headers={"Host": "127.0.0.1:8080"})
            assert popular.json() == ["one", "two", "three"] and status_of(popular).startswith("edgerouter; hit")
            assert "/offline.html" in httpx.get(f"{edge}/sw.js").text
            assert "serviceWorker" in httpx.get(f"{edge}/").text
    finally:
        origin.kill()
        origin.wait(10)
        origin.stdout.close()
