"""One training picture from beginning to end: `Studio.take`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from training.pictures import backdrops, figure, film, fur, lights, occluders, views, wear
from training.pictures.camera import Camera
from training.pictures.figure import Posed, Stage
from training.pictures.lighting import Lights
from training.pictures.people import Person, usual_hair
from training.pictures.raster import Looks, Mesh
from training.pictures.scene import Canvas, Part, assemble, cast_shadows, find_visible, light_up, sort
from training.pictures.shading import resolve, spread_out

SIZE = 256  # pixels along a side
_SAMPLES = 2  # along a side of a pixel; `shading` counts on two
_VISIBLE_DEPTH = 0.005  # metres that a vertex may lie behind what is drawn over it and still count as seen
_SPECTACLES, _HAT, _OCCLUDER = 0.22, 0.10, 0.15


@dataclass(frozen=True)
class Picture:
    """A picture and all that is known of it."""

    jpeg: bytes
    weights: np.ndarray  # [52] float32, the facial actions
    camera: Camera
    visible: np.ndarray  # [V] bool: the head's vertices that are seen
    hair: str
    worn: tuple[str, ...]  # such as "spectacles", "cap", "beard" or "hand"


@dataclass
class Studio:
    """Takes pictures of people; its buffers and its table of times are used again and again."""

    stage: Stage
    canvas: Canvas = field(default_factory=lambda: Canvas(SIZE * _SAMPLES))
    seconds: dict[str, float] = field(default_factory=dict)

    def take(self, person: Person, rng: np.random.Generator) -> Picture:
        """Take a picture of a person, [SIZE,SIZE]: all else is drawn from `rng`."""
        started = time.process_time()
        body = self.stage.body
        weights = views.expression(body.action_names, rng)
        points = body.moved(person.neutral, weights)
        points = views.turn_shoulders(points, self.stage.fields.below_neck, rng)
        posed = figure.pose(self.stage, points)
        camera = views.camera(person.neutral[body.head_ids], SIZE, rng)
        setting = lights.draw(rng)
        parts, hair, worn = self._dress(person, posed, rng)
        mesh, looks = assemble(parts, camera, self.stage.library)
        mesh = sort(mesh, camera.screen(mesh.points))
        started = self._lap("surfaces", started)
        drawn = self.canvas.buffers
        spread_out(backdrops.draw(SIZE, rng), drawn.image)
        started = self._lap("backdrop", started)
        lit = cast_shadows(mesh, looks, setting, self.canvas)
        started = self._lap("shadows", started)
        self.light(mesh, looks, lit, camera)
        image = np.empty((SIZE, SIZE, 3), np.float32)
        started = time.process_time()
        resolve(drawn.image, image)
        screen = camera.project(points[body.head_ids])
        cover = np.zeros((SIZE, SIZE), np.float32)
        if rng.random() < _OCCLUDER:
            low, high = screen[:, :2].min(0), screen[:, :2].max(0)
            circle = np.array([*(low + high) / 2, (high - low).min() / 2])
            colour, cover, kind = occluders.draw(SIZE, circle, person.tone, setting, rng)
            image += cover[..., None] * (colour - image)
            worn = (*worn, kind)
        visible = _seen(screen, drawn.inverse, drawn.veil, cover)
        started = self._lap("occluders", started)
        triangle = drawn.ids[::_SAMPLES, ::_SAMPLES]
        # the head's skin is the first part
        face = (triangle >= 0) & (mesh.part[triangle] == 0) & (cover < 0.5)
        pixels = film.develop(image, face, rng)
        started = self._lap("film", started)
        jpeg = film.encode(pixels, rng)
        self._lap("jpeg", started)
        return Picture(jpeg, weights, camera, visible, hair, worn)

    def light(self, mesh: Mesh, looks: Looks, lights: Lights, camera: Camera) -> None:
        """Draw a mesh, sorted from near to far, over the image of the canvas."""
        started = time.process_time()
        screen = camera.screen(mesh.points, _SAMPLES)
        find_visible(mesh, looks, screen, self.canvas)
        started = self._lap("visibility", started)
        light_up(mesh, looks, screen, lights, camera.distance, self.canvas)
        self._lap("light", started)

    def _lap(self, name: str, started: float) -> float:
        now = time.process_time()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - started
        return now

    def _dress(
        self, person: Person, posed: Posed, rng: np.random.Generator
    ) -> tuple[list[Part], str, tuple[str, ...]]:
        """Return all parts, the name of the hair, and what is worn."""
        stage, worn = self.stage, []
        hair = person.hair
        if hair in stage.library.hair and rng.random() < 0.3:
            hair = usual_hair(stage.library, person.female, rng)
        parts = figure.skin(stage, person, posed, hair, rng) + figure.teeth(stage, person, posed)
        parts += figure.eyes(stage, person, posed, rng) + figure.clothes(stage, posed, rng)
        beard = fur.beard(stage, person, posed)
        parts += beard
        worn += ["beard"] * bool(beard)
        hat = str(rng.choice(wear.HATS)) if rng.random() < _HAT else ""
        plane = None
        if hat:
            made, plane, above = wear.hat(stage, posed, hat, rng)
            if hat in ("hood", "scarf"):
                parts[0] = wear.tuck(parts[0], above)
            parts += made
            worn.append(hat)
        if hair == "curls" and not hat:
            parts += fur.curls(stage, person, posed)
        elif hair in stage.library.hair and hat not in ("hood", "scarf"):
            for part in figure.hair(stage, person, posed, hair, rng):
                parts.append(part if plane is None else wear.press_down(part, plane, posed, stage))
        if rng.random() < _SPECTACLES:
            made, dark = wear.spectacles(stage, posed, rng)
            parts += made
            worn.append("sunglasses" if dark else "spectacles")
        return parts, hair, tuple(worn)


def _seen(screen: np.ndarray, inverse: np.ndarray, veil: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Return which vertices [V,3] (pixels and depth) lie in the picture with nothing before them."""
    x, y = screen[:, 0], screen[:, 1]
    inside = (x >= 0) & (y >= 0) & (x < SIZE) & (y < SIZE)
    column, row = np.clip(x, 0, SIZE - 1), np.clip(y, 0, SIZE - 1)
    fine = (row * _SAMPLES).astype(int), (column * _SAMPLES).astype(int)
    nearest = 1 / inverse[fine]
    clear = (veil[fine] < 0.5) & (cover[row.astype(int), column.astype(int)] < 0.5)
    return inside & clear & (screen[:, 2] < nearest + _VISIBLE_DEPTH)
