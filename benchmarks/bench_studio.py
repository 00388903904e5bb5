"""Time the studio as a person sees it: a head's first estimate on the page, and the mirror's updates.

    python -m benchmarks.bench_studio --json FILE [--rounds 20] [--seconds 20]

A machine without a graphics card draws the page's 3D with its processor (SwiftShader), which then has little
time left for heads. So three ways are measured: the WebSockets alone, without a browser, the mirror's frames
sent one at a time; the page in a headless Chromium without WebGL, where nothing is drawn; and the page with
its 3D drawn by the processor. A graphics card brings people near the second.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from websockets.sync.client import connect

from benchmarks.report import report
from tests.studio.browser import NO_3D, SOFTWARE_3D, Page, browser, fake_camera
from tests.studio.servers import studio
from topos_rt.bench.machine import facts, load_average
from topos_rt.bench.stats import summary
from topos_rt.bench.work import model_facts
from topos_rt.errors import InputError, OptionError
from topos_rt.model.bundle import Bundle

PORTRAIT = Path(__file__).parents[1] / "examples" / "astronaut.jpg"
PRESET = "fast"
PAGES = {"page without 3D": NO_3D, "page": SOFTWARE_3D}
FRAME = (384, 288)  # pixels: what the page sends
_WARM_UP = 2  # rounds, and seconds of the mirror
_MOST_S = 300.0
_DONE = """window.studio.studio.times.head ? "done" : !document.querySelector("#alert").hidden
    && document.querySelector("#alert").textContent.trim()"""
# Keeps what every answer took, in the page: to ask for it meanwhile would take time from what is measured.
_SAMPLE = """window.samples = [];
{
    const measured = window.studio.mirror.measured;
    let answers = 0;
    Object.defineProperty(measured, "answers", {
        get: () => answers,
        set: (count) => { answers = count; window.samples.push([measured.latency, measured.server]); },
    });
}"""


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write the JSON. Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="heads (default: 20)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the mirror (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    return report(lambda: measure(arguments.rounds, arguments.seconds), arguments.json)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Return the JSON object. Raises OptionError, InputError where there is no Chromium."""
    if not 1 <= rounds <= 1000 or not 1 <= seconds <= 3600:
        raise OptionError(
            "--rounds, --seconds", got=f"{rounds}, {seconds}", expected="1 to 1000, and 1 to 3600"
        )
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise InputError("Chromium", got="nothing on the PATH", fix="install chromium")
    load = load_average()
    with studio() as address, tempfile.TemporaryDirectory() as folder:
        ways = {"service": {"head": _streamed(address, rounds), "mirror": _tracked(address, seconds)}}
        video = Path(folder, "camera.mjpeg")
        video.write_bytes(_frame((640, 480)) * 4)
        for name, flags in PAGES.items():
            with browser(program, *flags, *fake_camera(video)) as page:
                page.resize(1280, 800)
                page.open(address)
                page.wait("window.studio.studio.surface")
                ways[name] = {"head": _grown(page, rounds), "mirror": _mirrored(page, seconds)}
    for name, way in ways.items():
        spans = (way["head"]["first_ms"], way["head"]["done_ms"], way["mirror"]["delay_ms"])
        first, done, late = (span["p50"] for span in spans)
        print(f"{name:<16} first estimate after {first:.0f} ms, head after {done:.0f} ms (p50)")
        print(f"{'':<16} mirror {way['mirror']['per_second']:.1f} a second, {late:.0f} ms late")
    result: dict[str, Any] = {
        "format": "topos_rt.studio",
        "version": 1,
        "model": model_facts(Bundle.open("mini")),
        "preset": PRESET,
        "machine": facts() | {"load_average_before": load, "load_average_after": load_average()},
        "ways": ways,
    }
    return result


def _frame(size: tuple[int, int]) -> bytes:
    """Return the portrait in a wide frame, a JPEG."""
    width, height = size
    wide = Image.new("RGB", size, (120, 110, 100))
    wide.paste(Image.open(PORTRAIT).convert("RGB").resize((height, height)), ((width - height) // 2, 0))
    file = io.BytesIO()
    wide.save(file, "jpeg", quality=85)
    return file.getvalue()


def _streamed(address: str, rounds: int) -> dict[str, Any]:
    """Time heads over the WebSocket, from the connection to the first estimate and to the head."""
    first, done, picture = [], [], PORTRAIT.read_bytes()
    for turn in range(rounds + _WARM_UP):
        began = time.perf_counter()
        with connect(f"{address.replace('http', 'ws', 1)}/v1/heads/stream", max_size=None) as line:
            line.send(json.dumps({"options": {"preset": PRESET}, "seeds": [0]}))
            line.send(picture)
            seen, event = 0.0, ""
            while True:
                message = line.recv(timeout=120)
                if isinstance(message, str):
                    event = json.loads(message)["event"]
                elif event == "preview":
                    seen = seen or time.perf_counter() - began
                elif event == "head":
                    break
        if turn >= _WARM_UP:
            first.append(1e3 * seen)
            done.append(1e3 * (time.perf_counter() - began))
    return {"first_ms": summary(first), "done_ms": summary(done)}


def _tracked(address: str, seconds: float) -> dict[str, Any]:
    """Follow one face over the WebSocket, one frame at a time, without pauses."""
    frame, delays, server = _frame(FRAME), [], []
    with connect(f"{address.replace('http', 'ws', 1)}/v1/track") as line:
        began = time.perf_counter()
        while (sent := time.perf_counter()) - began < seconds + _WARM_UP:
            line.send(frame)
            told = json.loads(line.recv(timeout=60))
            if sent - began > _WARM_UP:
                delays.append(1e3 * (time.perf_counter() - sent))
                server.append(told["ms"])
    return {
        "per_second": len(delays) / seconds, "delay_ms": summary(delays), "server_ms": summary(server),
    }  # fmt: skip


def _grown(page: Page, rounds: int) -> dict[str, Any]:
    """Time heads on the page, from the choice of the picture on."""
    page.do(f"document.querySelector('#preset').value = '{PRESET}'")
    times = []
    for turn in range(rounds + _WARM_UP):
        page.do("window.studio.studio.times = {}")
        page.upload("#file-picture", PORTRAIT)
        found = page.wait(_DONE, seconds=_MOST_S)
        if found != "done":
            raise InputError("a head on the page", got=found)
        if turn >= _WARM_UP:
            times.append(page.do("window.studio.studio.times"))
    return {
        "first_ms": summary([each["preview"] for each in times]),
        "done_ms": summary([each["head"] for each in times]),
    }


def _mirrored(page: Page, seconds: float) -> dict[str, Any]:
    """Let a camera drive the head that is on the page."""
    page.do("document.querySelector('#tab-mirror').click(); document.querySelector('#mirror').click()")
    page.wait("window.studio.mirror.measured.answers")
    time.sleep(_WARM_UP)
    drawn, began = page.do(f"{_SAMPLE} window.studio.stage?.drawn ?? 0"), time.perf_counter()
    time.sleep(seconds)
    seen, spent = page.do("window.samples"), time.perf_counter() - began
    return {
        "per_second": len(seen) / spent,
        "drawn_per_second": (page.do("window.studio.stage?.drawn ?? 0") - drawn) / spent,
        "delay_ms": summary([delay for delay, _ in seen]),
        "server_ms": summary([server for _, server in seen]),
    }


if __name__ == "__main__":
    raise SystemExit(main())
