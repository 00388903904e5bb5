"""Draw people: heads beyond the sliders, and what goes with them, such as skin, hair and brows.

A person is what stays the same from picture to picture. People of one shard are drawn together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.pictures.assets import Library
from training.pictures.body import Body
from training.pictures.fields import Fields

# Linear colours of skin in daylight, from the fairest to the darkest.
SKIN_TONES = np.array([
    [0.72, 0.50, 0.40], [0.62, 0.40, 0.29], [0.52, 0.31, 0.20], [0.40, 0.22, 0.13],
    [0.27, 0.135, 0.075], [0.16, 0.078, 0.045], [0.085, 0.042, 0.027],
])  # fmt: skip
HAIR_TONES = np.array([
    [0.008, 0.007, 0.007], [0.022, 0.014, 0.010], [0.055, 0.030, 0.017],
    [0.13, 0.070, 0.034], [0.30, 0.19, 0.090], [0.17, 0.050, 0.018],
])  # fmt: skip
GREY = np.array([0.36, 0.35, 0.34])
# Tints such as blue, pink and green, for hair that is dyed.
_DYES = np.array([[0.05, 0.10, 0.35], [0.45, 0.08, 0.20], [0.06, 0.25, 0.12], [0.50, 0.45, 0.30]])
_LOCAL_PREFIXES = ("cheek", "chin", "ear", "eye", "eyebrows", "forehead", "head", "mouth", "neck", "nose")
# What a mixture may take from another head: x, y, z from the head's middle in the template, and radius.
_REGIONS = {
    "nose": (0.0, -0.015, 0.10, 0.032),
    "mouth": (0.0, -0.062, 0.09, 0.036),
    "jaw": (0.0, -0.085, 0.05, 0.055),
    "eyes": (0.0, 0.015, 0.085, 0.042),
    "brow": (0.0, 0.055, 0.07, 0.05),
    "skull": (0.0, 0.08, -0.03, 0.085),
}
_MIXED_SHARE, _BENT_SHARE = 0.35, 0.6
_BEND_CENTRES = 28


@dataclass(frozen=True)
class Person:
    """One person. Ids are names in the library, so that they can be looked up whatever the split."""

    neutral: np.ndarray  # [n,3] float32, the body without expression, metres
    age: float  # anny's scale: 0 a toddler, 1/3 a child, 2/3 a young adult, 1 old
    female: bool
    skins: tuple[str, str]
    skin_share: float  # of the second skin
    tone: np.ndarray  # [3] linear
    iris: str
    brows: str
    lashes: str
    hair_colour: np.ndarray  # [3] linear
    hair: str  # the usual hair: a name in the library, "shaved", "bald" or "curls"
    beard: float  # 0 none, below 0.5 stubble, above it longer hair
    seed: int


def draw(body: Body, fields: Fields, library: Library, count: int, rng: np.random.Generator) -> list[Person]:
    """Draw `count` people."""
    phenotypes = _phenotypes(body, 2 * count, rng)
    coefficients = body.coefficients(phenotypes, _changes(body, 2 * count, rng))
    shapes = (coefficients @ body.shapes).reshape(2 * count, -1, 3)
    neutral = body.template + beyond_sliders(body, fields, shapes, rng)
    return [_person(body, library, neutral[i], phenotypes[i], rng) for i in range(count)]


def _phenotypes(body: Body, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw phenotypes [count,P]: mostly adults, children in one of ten, and often one ancestry."""
    names = body.phenotype_names
    out = rng.uniform(0, 1, (count, len(names)))
    adult = rng.uniform(0.45, 1.0, count)
    out[:, names.index("age")] = np.where(rng.random(count) < 0.1, rng.uniform(0.2, 0.45, count), adult)
    out[:, names.index("height")] = rng.uniform(0.25, 0.75, count)
    out[:, names.index("gender")] = rng.beta(0.5, 0.5, count)
    sharp = rng.choice([1.0, 4.0], (count, 1))
    for name, weight in zip(
        ("african", "asian", "caucasian"), rng.random((count, 3)).T ** sharp.T, strict=True
    ):
        out[:, names.index(name)] = weight + 0.01
    return out


def _changes(body: Body, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw local changes [count,L] of the head; their spread and asymmetry differ from head to head."""
    names = body.change_names
    out = np.zeros((count, len(names)))
    spread = rng.uniform(0.12, 0.42, count)
    uneven = rng.choice([0.03, 0.07, 0.16], count, p=[0.5, 0.35, 0.15])
    shared: dict[str, np.ndarray] = {}
    for i, label in enumerate(names):
        name = label[2:] if label[:2] in ("l-", "r-") else label
        if name.split("-")[0] not in _LOCAL_PREFIXES:
            continue
        if name not in shared:
            shared[name] = rng.normal(0, 1, count) * spread
        own = rng.normal(0, 1, count) * uneven if name != label else 0.0
        out[:, i] = np.clip(shared[name] + own, -1, 1)
    return out


def beyond_sliders(body: Body, fields: Fields, shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return offsets [count,n,3] of heads that no sliders give, from twice as many that they do give.

    Some heads take regions, or one side, from another head; most are bent by smooth random fields (Gaussian
    radial basis functions, 25 to 60 mm wide), which are mirrored for the greater part.
    """
    count = len(shapes) // 2
    head = body.template[body.head_ids]
    t = body.template - (head.min(0) + head.max(0)) / 2
    out = shapes[:count].copy()
    for i in range(count):
        if rng.random() < _MIXED_SHARE:
            other = shapes[count + i] - shapes[i]
            other -= other[body.head_ids].mean(0)  # bodies differ in height
            out[i] += _mask(t, rng)[:, None] * other
        if rng.random() < _BENT_SHARE:
            out[i] += _bend(t, fields, rng)
    return out.astype(np.float32)


def _mask(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw which share [n] of a head comes from another head."""
    if rng.random() < 0.12:
        # half of the way to the other head on one side
        return 0.5 / (1 + np.exp(-t[:, 0] * rng.choice([-1, 1]) / 0.025))
    mask = np.zeros(len(t))
    for name in rng.choice(list(_REGIONS), rng.integers(1, 4), replace=False):
        x, y, z, radius = _REGIONS[name]
        distance = np.linalg.norm((t - [x, y, z]) * [0.75, 1, 0.8], axis=1)
        mask = np.maximum(mask, 1 / (1 + np.exp((distance - radius) / (0.18 * radius))))
    return mask


def _bend(t: np.ndarray, fields: Fields, rng: np.random.Generator) -> np.ndarray:
    centres = rng.uniform(-1, 1, (_BEND_CENTRES, 3)) * [0.075, 0.115, 0.09] + [0, 0, 0.01]
    width = rng.uniform(0.025, 0.06, _BEND_CENTRES)
    size = np.abs(rng.normal(0, 0.0016)) + 0.0005
    weights = rng.normal(0, size, (_BEND_CENTRES, 3))
    square = ((t[:, None] - centres) ** 2).sum(-1)
    field = np.exp(-square / (2 * width**2)) @ weights
    mirrored = field[fields.mirror] * [-1, 1, 1]
    uneven = rng.choice([0.1, 0.35], p=[0.75, 0.25])
    even = (field + mirrored) / 2
    return even + uneven * (field - mirrored) / 2


def _person(
    body: Body, library: Library, neutral: np.ndarray, phenotype: np.ndarray, rng: np.random.Generator
) -> Person:
    value = dict(zip(body.phenotype_names, phenotype, strict=True))
    female = bool(value["gender"] > 0.5) if rng.random() < 0.9 else bool(rng.random() < 0.5)
    age = float(value["age"])
    skins = _skins(library, value, rng)
    dark = (value["african"] * 0.95 + value["asian"] * 0.35 + value["caucasian"] * 0.15) / (
        value["african"] + value["asian"] + value["caucasian"]
    )
    if rng.random() < 0.35:
        dark = rng.random()
    tone = _between(SKIN_TONES, np.clip(dark + rng.normal(0, 0.13), 0, 1))
    tone = tone * np.exp(rng.normal(0, 0.06) + rng.normal(0, [0.05, 0.03, 0.06]))
    light_hair = rng.random() < 0.65 * (1 - dark)
    hair_colour = HAIR_TONES[rng.integers(2, 6)] if light_hair else HAIR_TONES[rng.integers(0, 3)]
    hair_colour = hair_colour * np.exp(rng.normal(0, 0.25))
    grey = np.clip((age - 0.82) * 5 + rng.normal(0, 0.25), 0, 1) if rng.random() < 0.9 else rng.random()
    hair_colour = hair_colour + grey * (GREY * rng.uniform(0.5, 1.4) - hair_colour)
    if rng.random() < 0.015:
        hair_colour = _DYES[rng.integers(len(_DYES))] * rng.uniform(0.5, 1.5)
    hairless = rng.random() < (0.10 if female else 0.28)
    shorn = ["shaved", "bald", "curls"]
    bearded = rng.random() < (0.02 if female or age < 0.6 else 0.55)
    brown_eyes = rng.random() < 0.4 + 0.55 * dark
    brown = [n for n in library.irises if n.startswith("brown")] or list(library.irises)
    return Person(
        neutral=neutral,
        age=age,
        female=female,
        skins=skins,
        skin_share=float(rng.choice([0.0, rng.uniform(0.1, 0.6)], p=[0.4, 0.6])),
        tone=tone,
        iris=str(rng.choice(brown if brown_eyes else list(library.irises))),
        brows=str(rng.choice(list(library.eyebrows))),
        lashes=str(rng.choice(list(library.eyelashes))),
        hair_colour=hair_colour,
        hair=str(rng.choice(shorn)) if hairless else usual_hair(library, female, rng),
        beard=float(rng.choice([rng.uniform(0.05, 0.5), rng.uniform(0.5, 1.0)])) if bearded else 0.0,
        seed=int(rng.integers(1, 2**20)),
    )


def usual_hair(library: Library, female: bool, rng: np.random.Generator) -> str:
    """Draw one of the library's hairs; long ones mostly for women."""
    names = list(library.hair)
    weight = np.array([_hair_weight(name, female) for name in names])
    return str(rng.choice(names, p=weight / weight.sum()))


def _hair_weight(name: str, female: bool) -> float:
    long = not name.startswith(("short0", "afro")) or name == "short03"
    common = 0.35 if name in ("bob01", "short03") else 1.0  # these hide an eye
    return common if long == female else 0.2 * common


def _skins(library: Library, value: dict[str, float], rng: np.random.Generator) -> tuple[str, str]:
    """Draw two skins, the first by sex and age in six of ten cases, so that every skin meets every head."""
    names = list(library.skins)
    first = str(rng.choice(names))
    if rng.random() < 0.6:
        sex = "female" if value["gender"] > 0.5 else "_male"
        fitting = [n for n in names if sex in n] or names
        first = str(rng.choice(fitting))
    return first, str(rng.choice(names))


def _between(table: np.ndarray, share: float) -> np.ndarray:
    """Return the row of a table at a share 0..1 of its length, between rows by their logarithms."""
    at = share * (len(table) - 1)
    low = min(int(at), len(table) - 2)
    return np.exp(np.log(table[low]) * (low + 1 - at) + np.log(table[low + 1]) * (at - low))
