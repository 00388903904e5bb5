"""A headless Chromium that a test steers over the DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0",
    "--hide-scrollbars",
)  # fmt: skip
SOFTWARE_3D = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_3D = ("--disable-gpu", "--disable-3d-apis")
_BOX = """(() => {
    const element = document.querySelector(%s);
    element.scrollIntoView({block: "nearest"});
    const {x, y, width, height} = element.getBoundingClientRect();
    return [x, y, width, height];
})()"""
_START_S = 60.0
_POLL_S = 0.05


def fake_camera(video: Path) -> tuple[str, ...]:
    """Return the flags for a camera that shows a video, .mjpeg or .y4m, and asks nobody."""
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    )


class Page:
    """One page. Methods raise RuntimeError with what the page raised, or what was not there in time."""

    def __init__(self, line: ClientConnection) -> None:
        self._line = line
        self._numbers = itertools.count(1)
        self.complaints: list[
            str
        ] = []  # errors of the page's scripts, and requests that were refused by its policy
        self.requested: list[str] = []  # every address that was asked for
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._line.recv(timeout=120))
            self._note(message)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"])[:2000])
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requested.append(told["request"]["url"])

    def do(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; a promise is waited for."""
        told = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in told:
            details = told["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return told["result"].get("value")

    def wait(self, expression: str, seconds: float = 90) -> Any:
        """Return the value of an expression once it is true."""
        ends = time.monotonic() + seconds
        while not (value := self.do(expression)):
            if time.monotonic() > ends:
                raise RuntimeError(
                    f"not within {seconds:.0f} s: {expression}; the page complains: {self.complaints}"
                )
            time.sleep(_POLL_S)
        return value

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        x, y, width, height = self.box(selector)
        x, y = x + width / 2, y + height / 2
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Scroll to an element; return its x, y, width and height."""
        left, top, width, height = self.do(_BOX % json.dumps(selector))
        return left, top, width, height

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def key(self, key: str, text: str | None = None) -> None:
        """Press a key; text is what it types."""
        typed = {"text": text} if text else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **typed)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def upload(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in files])

    def resize(self, width: int, height: int, scale: float = 1, phone: bool = False) -> None:
        """Give the page a size in CSS pixels, each of scale x scale of the screen's."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        self.send("Emulation.setDeviceMetricsOverride", **size, mobile=phone)

    def scheme(self, name: str) -> None:
        """Let the system be "dark" or "light"."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path, kind: str = "png") -> None:
        """Save what is seen."""
        quality = {"quality": 85} if kind == "jpeg" else {}
        data = self.send("Page.captureScreenshot", format=kind, **quality)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browser(program: str, *flags: str) -> Iterator[Page]:
    """Start Chromium and yield its page, which is empty."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _port(Path(profile, "DevToolsActivePort"), running)
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                pages = [target for target in json.load(answer) if target["type"] == "page"]
            with connect(pages[0]["webSocketDebuggerUrl"], max_size=None) as line:
                yield Page(line)
        finally:
            running.terminate()
            running.wait(30)


def _port(told: Path, running: subprocess.Popen[bytes]) -> int:
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends and running.poll() is None:
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            return int(told.read_text().splitlines()[0])
        time.sleep(_POLL_S)
    raise RuntimeError(f"Chromium did not start within {_START_S:.0f} s")
