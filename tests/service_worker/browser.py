"""A real Chromium, driven by WebDriver through Debian's chromedriver."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class BrowserError(Exception):
    """The driver's message about a failure."""


def started(driver: str) -> tuple[subprocess.Popen[str], int]:
    """A running driver and its port.

    The driver takes a free port of 127.0.0.1 and then the same number of ::1, which another program may hold: it ends
    then, and the next one takes another port.
    """
    for _ in range(10):
        process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                return process, int(found[1])
        process.wait(60)
        process.stdout.close()
    raise AssertionError("chromedriver did not start in ten attempts: its standard error says why")


class Browser:
    """One window with a profile of its own. ``arguments``: more of them for Chromium."""

    def __init__(self, profile: Path, *arguments: str) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            raise AssertionError("chromium and chromedriver are needed for this test: run scripts/install-packages")
        self._process, port = started(driver)
        try:
            self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120.0, trust_env=False)
            options = {"binary": chromium, "args": [*ARGUMENTS, f"--user-data-dir={profile}", *arguments]}
            wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
            self._session = ""
            self._session = "/session/" + self._call("POST", "/session", {"capabilities": wanted})["sessionId"]
            self._call("POST", "/timeouts", {"script": 60_000, "pageLoad": 60_000})
        except BaseException:
            self.close()
            raise

    def _call(self, method: str, path: str, data: dict[str, Any] | None = None) -> Any:
        response = self._http.request(method, self._session + path, json=data)
        value = response.json()["value"]
        if response.status_code != 200:
            raise BrowserError(value["message"])
        return value

    def go(self, url: str) -> str:
        """Navigates, and gives the text of the page that came."""
        self._call("POST", "/url", {"url": url})
        return self.text

    @property
    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def run(self, script: str) -> Any:
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def wait(self, promise: str) -> Any:
        """The value of a promise in the page; its rejection is an error here."""
        script = (
            f"const done = arguments[0]; ({promise}).then((value) => done([value]), (error) => done(String(error)))"
        )
        value = self._call("POST", "/execute/async", {"script": script, "args": []})
        if not isinstance(value, list):
            raise BrowserError(str(value))
        return value[0]

    def resize(self, width: int, height: int) -> None:
        """Gives the page this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        given = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self._call("POST", "/goog/cdp/execute", given)

    def close(self) -> None:
        try:
            if getattr(self, "_session", ""):
                self._call("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait(60)
            if self._process.stdout is not None:
                self._process.stdout.close()
