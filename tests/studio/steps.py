"""What the studio's tests do with its page, and where they look."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import topos_rt

if TYPE_CHECKING:  # the test files ask whether what it needs is installed
    from tests.studio.browser import Page

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / "examples" / "astronaut.jpg"
STUDIO = "window.studio.studio"
HEAD = f"{STUDIO}.heads[0]"
CHECKED = range(0, 4538, 61)  # vertices that are compared
TOLERANCE = 2e-5  # metres; a GLB's shapes are float32, and the page adds them up in another order


def frame_of(head: topos_rt.HeadMesh) -> bytes:
    """Return a head from the front, a JPEG of 640 x 480 pixels."""
    views = Image.open(io.BytesIO(head.preview(480))).convert("RGB")
    wide = Image.new("RGB", (640, 480), views.getpixel((0, 0)))
    wide.paste(views.crop((0, 0, views.width // 3, 480)), (128, 0))
    file = io.BytesIO()
    wide.save(file, "jpeg", quality=92)
    return file.getvalue()


def use(page: Page, *files: Path) -> None:
    """Choose a picture and wait for its heads."""
    page.do(f"{STUDIO}.times = {{}}")
    page.upload("#file-picture", *files)
    page.wait(f"{STUDIO}.times.head")


def slide(page: Page, shape: str, weight: float) -> None:
    page.do(
        f"(() => {{ const e = document.querySelector('#shape-{shape}'); e.value = {weight};"
        " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def vertices(page: Page) -> np.ndarray:
    """Return the checked vertices of the skin as the page draws them, [n,3] metres."""
    page.wait(f"!{HEAD}.tick(performance.now())")
    return np.array(page.do(f"{json.dumps(list(CHECKED))}.map(number => {HEAD}.vertex(number))"))


def text(page: Page, selector: str) -> str:
    return str(page.do(f"document.querySelector({json.dumps(selector)}).textContent.trim()"))
