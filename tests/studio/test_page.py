"""The studio's page in Chromium, with the service behind it: what people do, and what can go wrong."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import needs
from tests.formats.three_js import JS

needs.module("fastapi")
needs.module("websockets")

import topos_rt
from tests.studio.browser import NO_3D, Page, browser
from tests.studio.steps import CHECKED, HEAD, PORTRAIT, ROOT, STUDIO, TOLERANCE, slide, text, use, vertices
from topos_rt.head.normals import vertex_normals


def test_a_portrait_becomes_a_head_from_the_first_step_on(page: Page, same_head: topos_rt.HeadMesh) -> None:
    page.do(
        "const status = document.querySelector('#status'); window.steps = [];"
        "new MutationObserver(() => window.steps.push(status.textContent)).observe(status, {childList: true})"
    )
    use(page, PORTRAIT)
    times = page.do(f"{STUDIO}.times")
    assert 0 < times["preview"] < times["head"]
    seen = [line for line in page.do("window.steps") if line.startswith("Step")]
    assert seen and int(seen[0].split()[1]) < 8, "a slow page may miss some, but not all of the steps before"
    assert page.do("document.querySelectorAll('#marks rect.chosen').length") == 1
    assert page.do("document.querySelectorAll('#marks circle').length") == 478
    assert set(page.do(f"{HEAD}.shapeNames")) == set(same_head.rig.shape_names)  # type: ignore[union-attr]
    assert page.do(f"Boolean({HEAD}.picture)"), "the skin has a texture"
    np.testing.assert_allclose(vertices(page), same_head.positions[CHECKED], atol=TOLERANCE)


GROWN = """(positions => {
    const {surface} = window.studio.studio, head = new window.studio.studio.heads[0].constructor(0, true);
    head.grow(new Float32Array(positions), surface, 0);
    return [...head.root.children[0].geometry.getAttribute("normal").array];
})"""


def test_estimates_are_lit_by_normals_of_their_own(portrait: Page, same_head: topos_rt.HeadMesh) -> None:
    found = portrait.do(f"{GROWN}({json.dumps(same_head.positions.ravel().tolist())})")
    ours = vertex_normals(same_head.positions, same_head.triangles)
    np.testing.assert_allclose(np.reshape(found, (-1, 3)), ours, atol=1e-4)


def test_sliders_move_the_right_vertices(portrait: Page, same_head: topos_rt.HeadMesh) -> None:
    slide(portrait, "jawOpen", 0.8)
    slide(portrait, "mouthSmileLeft", 0.5)  # and the right one with it
    posed = same_head.posed({"jawOpen": 0.8, "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5})
    moved = np.abs(posed.positions - same_head.positions)[CHECKED].max()
    assert moved > 0.005
    np.testing.assert_allclose(vertices(portrait), posed.positions[CHECKED], atol=TOLERANCE)


def test_a_slider_answers_to_keys_and_the_other_side_may_rest(portrait: Page) -> None:
    portrait.do(
        "document.querySelector('#both').checked = false;"
        " document.querySelector('#shape-eyeBlinkLeft').focus()"
    )
    for _ in range(3):
        portrait.key("ArrowRight")
    portrait.do("document.querySelector('#both').checked = true")
    weights = portrait.do(f"{HEAD}.influences()")
    assert weights["eyeBlinkLeft"] == pytest.approx(0.03) and weights["eyeBlinkRight"] == 0


def test_ready_expressions_and_that_of_the_photograph(portrait: Page, same_head: topos_rt.HeadMesh) -> None:
    portrait.click("#presets button:nth-child(3)")  # surprise
    portrait.wait(f"{HEAD}.influences().jawOpen === 0.5")
    portrait.click("#presets .photograph")
    portrait.wait(f"!{HEAD}.tick(performance.now())")
    weights = portrait.do(f"{HEAD}.influences()")
    for name, weight in same_head.expression.items():
        assert weights[name] == pytest.approx(weight, abs=0.006), name  # sliders have steps of 0.01
    portrait.key("n")
    portrait.wait(f"{HEAD}.influences().mouthSmileLeft === 0")


def test_the_mouse_the_keys_and_the_light(portrait: Page) -> None:
    where = f"{STUDIO}.stage.camera.position.toArray()"
    front = portrait.do(where)
    x, y, width, height = portrait.box("#view")
    middle = (x + width / 2, y + height / 2)
    portrait.drag(middle, (middle[0] + 120, middle[1]))
    portrait.wait(f"Math.abs({where}[0]) > 0.1")
    portrait.do("document.querySelector('#view').focus()")
    portrait.key("0")
    portrait.wait(f"Math.abs({where}[0]) < 1e-3")
    portrait.key("ArrowLeft")
    portrait.wait(f"Math.abs({where}[0]) > 0.05")
    portrait.key("0")
    np.testing.assert_allclose(portrait.do(where), front, atol=1e-4)
    portrait.key("]")
    assert portrait.do(f"{STUDIO}.stage.lamps.rotation.y") == pytest.approx(np.radians(15))
    portrait.key("[")


def test_nothing_jumps_while_a_head_is_made(page: Page) -> None:
    page.do(
        "window.shifts = []; new PerformanceObserver(list => window.shifts.push(...list.getEntries()"
        ".map(shift => shift.value))).observe({type: 'layout-shift', buffered: false})"
    )
    use(page, PORTRAIT)
    page.upload("#file-picture", ROOT / "pyproject.toml")  # an error is told above the head
    page.wait("!document.querySelector('#alert').hidden")
    page.key("Escape")
    assert sum(page.do("window.shifts")) < 0.002  # the share of the window that moved; 0.1 is called good


def test_looks_and_levels_of_detail(portrait: Page, same_head: topos_rt.HeadMesh) -> None:
    drawn = portrait.do(f"{HEAD}.triangles")
    portrait.key("3")
    assert portrait.do(f"{HEAD}.wires[0].visible")
    portrait.key("4")
    colours = portrait.do(
        "[...document.querySelector('#uv').getContext('2d').getImageData(0, 0, 200, 200).data]"
    )
    assert not portrait.do("document.querySelector('#flat').hidden") and len(set(colours)) > 20
    portrait.key("1")
    assert portrait.do("document.querySelector('#flat').hidden")
    for level in (1, 0):
        portrait.do(
            f"(() => {{ const e = document.querySelector('#lod'); e.value = {level};"
            " e.dispatchEvent(new Event('change')); })()"
        )
        portrait.wait(f"{HEAD}.level === {level}")
        removed = len(same_head.triangles) - len(same_head.lod(level).triangles)
        assert portrait.do(f"{HEAD}.triangles") == drawn - removed


def test_a_download_is_a_valid_glb(portrait: Page, tmp_path: Path) -> None:
    node = needs.node_package("gltf-validator")
    portrait.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    portrait.click("#downloads a")
    file = tmp_path / "head0.glb"
    ends = time.monotonic() + 60
    while not file.exists() and time.monotonic() < ends:
        time.sleep(0.05)
    done = subprocess.run(
        [node, str(JS / "validate.js"), str(file)], capture_output=True, text=True, check=True
    )
    (report,) = json.loads(done.stdout)
    assert report["issues"]["numErrors"] == 0
    assert report["info"]["totalVertexCount"] > 4538 and report["info"]["maxUVs"] == 1
    assert {link.rsplit(".", 1)[1] for link in portrait.do(f"Object.values({HEAD}.info.links)")} >= {
        "glb",
        "usd",
        "obj",
    }


GIVEN = """(async (kind, picture) => {
    const bytes = Uint8Array.from(atob(picture), letter => letter.charCodeAt(0)), data = new DataTransfer();
    data.items.add(new File([bytes], "portrait.jpg", {type: "image/jpeg"}));
    document.body.dispatchEvent(kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
        : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
})"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_is_dropped_or_pasted(page: Page, kind: str) -> None:
    page.do(f"{STUDIO}.times = {{}}; document.querySelector('#tab-scan').click()")
    page.do(f"{GIVEN}({kind!r}, {base64.b64encode(PORTRAIT.read_bytes()).decode()!r})")
    assert page.do("document.body.dataset.mode") == "portrait", "pictures belong there"
    page.wait(f"{STUDIO}.times.head")
    assert page.do(f"{HEAD}.ready") and text(page, "#faces-note").startswith("One face was found.")


def test_seeds_stand_side_by_side(page: Page) -> None:
    page.do("document.querySelector('#seeds').value = '2'")
    use(page, PORTRAIT)
    page.do("document.querySelector('#seeds').value = '1'")
    assert page.do(f"{STUDIO}.heads.map(head => head.seed)") == [0, 1]
    assert page.do(f"{STUDIO}.heads.every(head => head.ready)")
    assert page.do(f"{STUDIO}.stage.grid") == {"columns": 2, "rows": 1}
    page.click("#cells button:nth-child(2)")
    assert page.do("document.querySelector('#downloads a').download") == "head1.glb"
    one, other = (np.array(page.do(f"{STUDIO}.heads[{number}].vertex(100)")) for number in (0, 1))
    assert np.abs(one - other).max() > 1e-6


def test_one_of_several_faces_is_chosen(page: Page, tmp_path: Path) -> None:
    left, right = (Image.open(ROOT / "examples" / name).convert("RGB").resize((300, 300)) for name in FACES)
    both = Image.new("RGB", (600, 300))
    both.paste(left, (0, 0))
    both.paste(right, (300, 0))
    both.save(tmp_path / "both.png")
    use(page, tmp_path / "both.png")
    assert page.do("document.querySelectorAll('#face-buttons button').length") == 2
    chosen = page.do("document.querySelector('#marks rect.chosen').x.baseVal.value")
    page.do(f"{STUDIO}.times = {{}}")
    page.click("#face-buttons button[aria-pressed=false]")
    page.wait(f"{STUDIO}.times.head")
    other = page.do("document.querySelector('#marks rect.chosen').x.baseVal.value")
    assert (chosen < 300) != (other < 300)


FACES = ("astronaut.jpg", "hopper.jpg")


MIRRORED = f"""(() => {{
    const head = {HEAD}, shapes = head.influences();
    head.setPose({{yaw: 0, pitch: 0, roll: 0}});
    return {{shapes, points: {json.dumps(list(CHECKED))}.map(number => head.vertex(number))}};
}})()"""


def test_the_mirror_moves_the_jaw(portrait: Page, same_head: topos_rt.HeadMesh) -> None:
    portrait.click("#tab-mirror")
    portrait.click("#mirror")
    jaw = f"{HEAD}.influences().jawOpen"
    portrait.wait(f"window.studio.mirror.measured.answers > 2 && {jaw} > 0.5")
    seen = portrait.do(MIRRORED)
    posed = same_head.posed(seen["shapes"]).positions
    np.testing.assert_allclose(seen["points"], posed[CHECKED], atol=TOLERANCE)
    portrait.wait(f"{jaw} < 0.2")
    portrait.wait("Number(document.querySelector('#rate').textContent) > 0 || null")
    assert float(text(portrait, "#latency")) > 0
    portrait.click("#mirror")
    portrait.wait(f"{HEAD}.influences().mouthSmileLeft === 0")
    assert not portrait.do("document.querySelector('#video').srcObject"), "the camera is off again"


def test_a_turn_before_the_mirror_is_a_turn_of_the_head(portrait: Page) -> None:
    rest = vertices(portrait)
    portrait.do(f"{STUDIO}.act({{}}, true, {{yaw: 30, pitch: 0, roll: 0}})")
    turned = vertices(portrait)
    front = np.argmax(rest[:, 2])  # the tip of the nose, or near it
    assert turned[front, 0] - rest[front, 0] > 0.02, (
        "a positive yaw turns the face to the right of the picture"
    )
    portrait.do(f"{STUDIO}.rest()")
    np.testing.assert_allclose(vertices(portrait), rest, atol=TOLERANCE)


def test_the_camera_takes_the_picture(page: Page) -> None:
    page.click("#camera")
    page.wait("document.querySelector('#video').videoWidth")
    page.do(f"{STUDIO}.times = {{}}")
    page.click("#camera")
    page.wait(f"{STUDIO}.times.head")
    assert text(page, "#faces-note").startswith("One face was found.")
    assert not page.do("document.querySelector('#video').srcObject")


def test_a_scan_gets_the_topology(page: Page, same_head: topos_rt.HeadMesh, tmp_path: Path) -> None:
    same_head.save(tmp_path / "scan.ply")
    page.do(f"{STUDIO}.heads[0]?.clear()")
    page.upload("#file-scan", tmp_path / "scan.ply")
    page.wait(f"{HEAD}?.info?.seed === null && {HEAD}.ready")
    assert page.do("document.body.dataset.mode") == "scan"
    assert np.abs(vertices(page) - same_head.positions[CHECKED]).mean() < 0.004
    assert len(page.do(f"{HEAD}.shapeNames")) == 52


def test_a_picture_of_nobody_says_what_to_do(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (90, 120, 90)).save(tmp_path / "nobody.png")
    page.upload("#file-picture", tmp_path / "nobody.png")
    page.wait("!document.querySelector('#alert').hidden")
    assert text(page, "#alert-title") == "No face that can be used"
    assert "no face was found" in text(page, "#alert-detail") and "se another picture" in text(
        page, "#alert-fix"
    )
    assert "face check" in text(page, "#alert-fix") and "--" not in text(page, "#alert-fix")
    page.key("Escape")
    assert page.do("document.querySelector('#alert').hidden")
    page.do("document.querySelector('#face-check').checked = false")
    use(page, tmp_path / "nobody.png")
    page.do("document.querySelector('#face-check').checked = true")
    assert page.do(f"{HEAD}.ready")


def test_what_is_no_picture_is_refused(page: Page, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("these are words")
    page.upload("#file-picture", tmp_path / "words.png")
    page.wait("!document.querySelector('#alert').hidden")
    assert "cannot" in text(page, "#alert-detail").lower()
    page.click("#alert-close")
    page.complaints.clear()


def test_a_service_that_is_gone(portrait: Page) -> None:
    online = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    portrait.send("Network.emulateNetworkConditions", **online | {"offline": True})
    portrait.click("#downloads a")
    portrait.wait("!document.querySelector('#alert').hidden")
    portrait.send("Network.emulateNetworkConditions", **online)
    assert text(portrait, "#alert-title") == "The studio does not answer"
    assert "still runs in its terminal" in text(portrait, "#alert-fix")
    portrait.key("Escape")
    portrait.complaints.clear()


OUTSIDE = """(width => [...document.querySelectorAll("button, select, input, a, output")].filter(element => {
    const box = element.getBoundingClientRect();
    return box.width && (box.right > width + 1 || box.left < -1);
}).map(element => element.outerHTML))"""


@pytest.mark.parametrize("size", [(390, 844), (320, 568), (844, 390)], ids=["phone", "small", "on its side"])
def test_a_phone_scrolls_down_alone(portrait: Page, size: tuple[int, int]) -> None:
    portrait.resize(*size, scale=0.5, phone=True)
    for sheet in ("expression", "files", "source"):
        portrait.do(f"document.querySelector('.sheets [data-sheet={sheet}]').click()")
        assert portrait.do("document.documentElement.scrollWidth") <= size[0]
        wide = portrait.do(f"{OUTSIDE}({size[0]})")
        assert wide == []
    assert portrait.do("document.querySelector('#canvas').clientHeight") > 120
    portrait.resize(960, 640, 0.5)


def test_every_control_has_a_name(portrait: Page) -> None:
    nodes = portrait.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "slider", "checkbox", "combobox", "tab", "link"}
    controls = [node for node in nodes if node.get("role", {}).get("value") in roles]
    assert len(controls) > 70
    assert [node for node in controls if not node.get("name", {}).get("value")] == []


def test_dark_and_light(portrait: Page) -> None:
    grounds = []
    for scheme in ("dark", "light"):
        portrait.scheme(scheme)
        portrait.wait(f"document.documentElement.dataset.theme === '{scheme}'")
        grounds.append(portrait.do("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]


def test_nothing_is_asked_of_anybody_else(portrait: Page, address: str) -> None:
    elsewhere = [
        asked
        for asked in portrait.requested
        if not asked.removeprefix("blob:").startswith((address, "data:"))
    ]
    assert portrait.requested and elsewhere == []


def test_without_a_camera_and_without_webgl(program: str, address: str) -> None:
    with browser(program, *NO_3D, "--use-fake-ui-for-media-stream") as page:
        page.open(address)
        page.wait(f"{STUDIO}.surface")
        assert text(page, "#blocked").startswith("WebGL is missing") and "hardware acceleration" in text(
            page, "#blocked"
        )
        page.do("document.querySelector('#preset').value = 'fast'")
        use(page, PORTRAIT)  # heads can be made all the same
        assert page.do("document.querySelector('#downloads a').getAttribute('href') !== null")
        page.click("#tab-mirror")
        page.click("#mirror")
        page.wait("!document.querySelector('#alert').hidden")
        assert (
            text(page, "#alert-title") == "No camera was found"
            and "connect one" in text(page, "#alert-fix").lower()
        )
