"""The studio's page in Chromium, with the service behind it. All tests share one of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import topos_rt
from tests import needs
from tests.formats.three_js import browser as chromium
from tests.studio.steps import HEAD, PORTRAIT, STUDIO, frame_of, use

if TYPE_CHECKING:  # the test files ask whether what it needs is installed
    from tests.studio.browser import Page

FRAMES = 40  # of each picture that the camera shows
SIZE = (960, 640, 0.5)  # few pixels: to draw them in software takes most of the time


@pytest.fixture(scope="session")
def program() -> str:
    from topos_rt.server import page as built

    needs.tool("the studio's page", built.is_built(built.FOLDER), "make page")
    return needs.tool("Chromium", chromium(), "install it, or name it in TOPOS_RT_CHROMIUM")


@pytest.fixture(scope="session")
def address(program: str) -> Iterator[str]:
    from tests.studio.servers import studio

    with studio() as found:
        yield found


@pytest.fixture(scope="session")
def same_head() -> topos_rt.HeadMesh:
    """The head that the page has, made without it."""
    return topos_rt.generate(PORTRAIT, seed=0, preset="fast")


@pytest.fixture(scope="session")
def video(same_head: topos_rt.HeadMesh, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the camera shows: a person who opens and closes the mouth."""
    frames = [frame_of(same_head.posed({"jawOpen": weight})) for weight in (0.0, 1.0)]
    path = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    path.write_bytes(b"".join(frame * FRAMES for frame in frames))
    return path


@pytest.fixture(scope="session")
def opened(program: str, address: str, video: Path) -> Iterator[Page]:
    from tests.studio.browser import SOFTWARE_3D, browser, fake_camera

    with browser(program, *SOFTWARE_3D, *fake_camera(video)) as page:
        page.resize(*SIZE)
        page.open(address)
        page.wait(f"{STUDIO}.surface")
        page.do("document.querySelector('#preset').value = 'fast'")
        yield page


@pytest.fixture
def page(opened: Page) -> Iterator[Page]:
    """The page, without complaints before and after a test."""
    opened.do("document.querySelector('#tab-portrait').click()")
    opened.complaints.clear()
    yield opened
    assert opened.complaints == []


@pytest.fixture
def portrait(page: Page) -> Page:
    """The page with the head of the portrait, neutral, in all detail and seen from the front."""
    if not page.do(f"{HEAD} && {HEAD} === window.ofPortrait"):
        use(page, PORTRAIT)
        page.do(f"window.ofPortrait = {HEAD}; undefined")
    page.do(f"{STUDIO}.expression.set({{}}, true); {STUDIO}.stage.home()")
    return page
