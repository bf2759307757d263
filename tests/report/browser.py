"""A headless Chromium, spoken to over a pair of pipes: no driver, no port, no further package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")

_FLAGS = (
    "--headless",
    "--no-sandbox",  # tests may run as root; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",  # commands come in on descriptor 3, answers go out on 4
)


class Browser:
    """One tab. Everything is done as a person does it: by the mouse and the keyboard.

    Attributes:
        complaints: what the console said of errors, and every request that left the page.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self.complaints: list[str] = []
        self._commands = commands
        self._answers = os.fdopen(answers, "rb", buffering=0)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self._send(f"{domain}.enable")

    def open(self, page: Path, *, width: int = 1280, scripts: bool = True, **media: str) -> None:
        """Show a page; ``media`` are features such as ``prefers_color_scheme="dark"``."""
        self._send("Emulation.setScriptExecutionDisabled", value=not scripts)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._send("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": k.replace("_", "-"), "value": v} for k, v in media.items()]
        self._send("Emulation.setEmulatedMedia", features=features)
        self._send("Page.navigate", url=page.as_uri())
        self._wait_for("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript comes to in the page."""
        reply = self._send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def wait_until(self, expression: str, seconds: float = 60) -> None:
        """Wait for an expression to become true, which it must in time."""
        end = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < end, f"never true: {expression}"

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of the first element that matches."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{place}.scrollIntoView({{block: 'center'}})")
        box = self.value(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"({place}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            at = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self._send("Input.dispatchMouseEvent", type=kind, **at)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key by its name and its code, e.g. ``press("Tab", 9)``."""
        for kind in ("keyDown", "keyUp"):
            what = {"key": key, "windowsVirtualKeyCode": code}
            self._send(
                "Input.dispatchKeyEvent",
                type=kind,
                **what,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def write(self, text: str) -> None:
        """Type into what has the focus."""
        self._send("Input.insertText", text=text)

    def picture(self, path: Path, selector: str | None = None) -> None:
        """A PNG of the whole page, or of one element."""
        place = (
            "document.documentElement"
            if selector is None
            else (f"document.querySelector({json.dumps(selector)})")
        )
        x, y, w, h = self.value(
            f"(({{x, y, width, height}}) => [x + scrollX, y + scrollY, width, height])"
            f"({place}.getBoundingClientRect())"
        )
        clip = {"x": x, "y": y, "width": w, "height": h, "scale": 1}
        reply = self._send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(reply["data"]))

    def paper(self, path: Path) -> None:
        """The page as a PDF."""
        reply = self._send(
            "Page.printToPDF", printBackground=False, paperWidth=8.27, paperHeight=11.69
        )
        path.write_bytes(base64.b64decode(reply["data"]))

    def download_to(self, folder: Path) -> None:
        """Let what is downloaded from now on lie in ``folder``."""
        self._send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def downloaded(self, path: Path, seconds: float = 60) -> str:
        """The text of a download, once it is there."""
        end = time.monotonic() + seconds
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.05)
        return path.read_text(encoding="utf-8")

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._next()
            if reply.get("id") == self._number:
                assert "error" not in reply, reply["error"]
                return reply["result"]

    def _wait_for(self, event: str) -> None:
        while self._next().get("method") != event:
            pass

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = self._answers.read(1 << 16)
            assert read, "the browser is gone"
            self._buffer += read
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._listen(message.get("method"), message.get("params", {}))
        return message

    def _listen(self, event: str | None, told: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif event == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                self.complaints.append(f"asked for {url}")


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser that keeps what it remembers in ``profile``, a folder."""
    to_it, commands = os.pipe()
    answers, from_it = os.pipe()
    # The shell puts the pipes where the browser looks for them.
    start = f'exec "$0" "$@" 3<&{to_it} 4>&{from_it}'
    process = subprocess.Popen(
        ["bash", "-c", start, str(PROGRAM), *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(to_it, from_it),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_it)
    os.close(from_it)
    try:
        yield Browser(commands, answers)
    finally:
        os.close(commands)  # the browser ends when nobody speaks to it any more
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
