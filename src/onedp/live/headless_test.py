"""A real browser without a window, driven through its DevTools protocol: no driver and no library is needed."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

BROWSERS = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "google-chrome-stable")
LONGEST_WAIT_S = 60.0


class Page:
    """One page of a running browser."""

    def __init__(self, socket: ClientConnection):
        self._socket = socket
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        """Exceptions and errors on the page's console."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=LONGEST_WAIT_S))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems.append(json.dumps(answer["params"]))

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript on the page."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of JavaScript on the page as soon as it is true."""
        deadline = time.monotonic() + LONGEST_WAIT_S
        while time.monotonic() < deadline:
            value = self.evaluate(expression)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true on the page: {expression}; problems: {self.problems}")

    def open(self, url: str, width: int, height: int, dark: bool = False) -> None:
        """Load a page into a window of this size."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=url)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A mouse event of the system: mousePressed, mouseMoved, mouseReleased, mouseWheel."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """What the window shows, or the whole page, as PNG."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def headless_page(profile: Path) -> Iterator[Page]:
    """A page of a fresh browser; skips the test when none is installed."""
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)}; apt-get install chromium")
    command = [found[0], "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run"]
    command += ["--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--mute-audio"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # root cannot have one
    log = profile / "browser.log"
    profile.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        # Debian's command is a script that starts the browser: a group of its own, so that both can be ended.
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True)
    try:
        with connect(_devtools(log, process), max_size=None, open_timeout=LONGEST_WAIT_S) as socket:
            yield Page(socket)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it has nothing to save
        process.wait(timeout=LONGEST_WAIT_S)


def _devtools(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Address that the browser says it listens on."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < deadline:
        found = re.search(r"listening on (ws://\S+)", log.read_text(errors="replace"))
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the browser did not start: {log.read_text(errors='replace')[-2000:]}")
