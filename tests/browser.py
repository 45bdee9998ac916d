"""A browser without a window, by the DevTools protocol on two pipes: it opens files, runs scripts, takes pictures."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One tab, offline. `size` in pixels."""

    def __init__(self, profile: Path, size: tuple[int, int] = (1280, 800), dark: bool = False) -> None:
        (theirs, self._to), (self._from, answers) = os.pipe(), os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --remote-debugging-pipe"
        line = f'exec "$0" {flags} --user-data-dir="$1" 3<&{theirs} 4>&{answers}'
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(
            ["bash", "-c", line, str(CHROMIUM), str(profile)], pass_fds=(theirs, answers), **quiet
        )
        for end in (theirs, answers):
            os.close(end)
        self._buffer, self._number, self._session = b"", 0, ""
        self.console: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self._call("Network.emulateNetworkConditions", **offline)
        if dark:
            scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
            self._call("Emulation.setEmulatedMedia", features=scheme)
        self.resize(*size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        for end in (self._to, self._from):
            os.close(end)

    def resize(self, width: int, height: int) -> None:
        scale = {"deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, **scale)

    def open(self, address: str, before: str = "") -> None:
        """`before` is a script that runs before the page's own."""
        self._call("Page.addScriptToEvaluateOnNewDocument", source=before)
        self._call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """Value of an expression; of what a promise becomes. Raises ValueError where it throws."""
        told = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise ValueError(told["exceptionDetails"].get("exception", {}).get("description", told["exceptionDetails"]))
        return told["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.console.append(json.dumps(answer["params"]))
        if "error" in answer:
            raise ValueError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = os.read(self._from, 1 << 20)
            if not read:
                raise ValueError("the browser is gone")
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38, "End": 35, "Home": 36, "Tab": 9}
