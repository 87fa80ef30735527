"""Headless Chromium, spoken to by its own protocol over two pipes (`--remote-debugging-pipe`).

Rules: one browser with a profile of its own, which goes with it; nothing is asked of the network. A
test that has no Chromium skips by name, and fails where CI=true.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


def need_chromium() -> None:
    if PROGRAM is None:
        why = "chromium is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)


class Chromium:
    """One browser with one page. `faults` are what the page has complained of on its console."""

    def __init__(self, profile: Path) -> None:
        need_chromium()
        theirs, self._to = os.pipe()
        self._from, answers = os.pipe()
        command = f'exec "$0" "$@" 3<&{theirs} 4>&{answers}'
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                command,
                str(PROGRAM),
                *_FLAGS,
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            pass_fds=(theirs, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(answers)
        self._rest, self._last, self._session = b"", 0, ""
        self.faults: list[str] = []
        self.requests: list[str] = []
        pages = self._ask("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in pages if one["type"] == "page")
        asked = {"targetId": page, "flatten": True}
        self._session = self._ask("Target.attachToTarget", **asked)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        self._ask("Performance.enable", timeDomain="threadTicks")  # not by the clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)

    def open(self, url: str) -> None:
        """Load a page, and wait until its scripts have run."""
        self.faults.clear()
        self.requests.clear()
        self._loaded = False
        self._ask("Page.navigate", url=url)
        while not self._loaded:
            self._hear(self._read())

    def run(self, script: str) -> Any:
        """What an expression is in the page; a promise is waited for."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        asked["allowUnsafeEvalBlockedByCSP"] = False
        answer = self._ask("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        assert self.run(f"""new Promise(done => {{
            const end = Date.now() + 30000;
            const look = () => {{
                const is = {condition};
                if (is || Date.now() > end) done(Boolean(is)); else setTimeout(look, 20);
            }};
            look();
        }})"""), condition

    def busy(self) -> float:
        """For how many seconds of processor time the page's thread was at work."""
        metrics = self._ask("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    def press(self, key: str, code: int = 0) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self._ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def show_as(
        self, width: int, height: int, *, scheme: str = "light", media: str = "screen"
    ) -> None:
        """The size of the window, and what the system prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._ask("Emulation.setEmulatedMedia", media=media, features=[feature])

    def shot(self, *, whole: bool = False) -> bytes:
        """A picture, in PNG: of the window, or of the `whole` page."""
        asked = {"format": "png", "captureBeyondViewport": whole}
        return base64.b64decode(self._ask("Page.captureScreenshot", **asked)["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self._ask("Page.printToPDF", printBackground=False)["data"])

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        said = {"id": self._last, "method": method, "params": params}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._to, json.dumps(said).encode() + b"\0")
        while (answer := self._read()).get("id") != self._last:
            self._hear(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    def _hear(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.faults.append(json.dumps(params["exceptionDetails"]))
            case "Log.entryAdded":
                self.faults.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._from, 1 << 20)
            assert more, f"Chromium has ended: {self._process.poll()}"
            self._rest += more
        found, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(found))
