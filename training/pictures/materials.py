"""Give surfaces their colours, in numba: a function for each kind of them.

`Looks.rows` holds the parameters of a part. Colours in it are linear.

    SKIN, BARE, MOUTH  0 log tone (3), 3 detail, 4 share of the second skin, 5 its texture, 6 mean log colour
                       (3), 9 bump, 10 oil, 11 blotches, 12 stubble, 13 its colour (3), 16 lipstick, 17 its
                       colour (3), 20 freckles, 21 seed, 22 stubble of the scalp, 23 wrap
    EYE                0 brightness, 1 redness, 2 saturation of the iris
    TEETH              0 colour (3)
    CLOTH, SOLID       0 colour (3), 3 second colour (3), 6 pattern, 7 its scale, 8 seed, 9 gloss, 10 exponent
    HAIR               0 colour (3), 3 contrast, 4 gloss, 6 mean log colour (3), 9 crown in camera space (3)
    FUR                0 grains, 1 seed, 2 curl, 3 aspect (see `raster.covered`), 4 colour (3), 7 gloss
    THIN, LENS         0 colour (3), 3 opacity, 4 gloss
"""

from __future__ import annotations

import numpy as np

from training.pictures.compiled import inlined
from training.pictures.raster import Array, Looks, noise2
from training.pictures.textures import LINEAR, LOG_LINEAR, Textures, sample

ROW = 24


@inlined
def skin_colour(looks: Looks, p: int, uv: Array, f: Array, scratch: Array, out: Array) -> None:
    """Fill out [4] with the linear colour of skin, and with its height, which bumps come from."""
    row, textures = looks.rows[p], Textures(looks.texels, looks.table)
    u, v = uv[0], uv[1]
    sample(textures, looks.textures[p], u, v, LOG_LINEAR, scratch)
    share = row[4]
    c0, c1, c2 = scratch[0], scratch[1], scratch[2]
    if share > 0.01:
        sample(textures, int(row[5]), u, v, LOG_LINEAR, scratch)
        c0 += share * (scratch[0] - c0)
        c1 += share * (scratch[1] - c1)
        c2 += share * (scratch[2] - c2)
    out[3] = c1
    seed = int(row[21])
    blotch = row[11] * (noise2(u * 60, v * 60, seed) + noise2(u * 23, v * 23, seed + 1) - 1)
    grain = 0.05 * (noise2(u * 900, v * 900, seed + 2) - 0.5)
    out[0] = np.exp(row[0] + row[3] * (c0 - row[6]) + 0.25 * blotch + grain)
    out[1] = np.exp(row[1] + row[3] * (c1 - row[7]) - 0.35 * blotch + grain)
    out[2] = np.exp(row[2] + row[3] * (c2 - row[8]) - 0.35 * blotch + grain)
    if row[20] > 0:
        spot = noise2(u * 800, v * 800, seed + 3) * (0.5 + 0.5 * noise2(u * 30, v * 30, seed + 4))
        dark = 1 - row[20] * min(max((spot - 0.6) * 4, 0.0), 1.0)
        out[0] *= 0.4 + 0.6 * dark
        out[1] *= dark
        out[2] *= dark
    hairy = max(row[12] * f[1], row[22] * f[3])
    if hairy > 0.01:
        dots = 0.55 + 0.45 * noise2(u * 1500, v * 1500, seed + 5)
        patchy = 0.6 + 0.4 * noise2(u * 90, v * 90, seed + 6)
        cover = min(hairy * dots * patchy * 1.2, 0.95)
        for k in range(3):
            out[k] += cover * (row[13 + k] - out[k])
    paint = row[16] * f[2]
    if paint > 0.01:
        light = 0.6 + 0.4 * min(np.exp(c1 - row[7]), 1.5)
        for k in range(3):
            out[k] += paint * (row[17 + k] * light - out[k])


@inlined
def cloth_colour(row: Array, u: float, v: float, out: Array) -> None:
    """Fill out [3] with the colour of a plain, striped, checked, spotted or knitted cloth."""
    pattern, scale, seed = int(row[6]), row[7], int(row[8])
    x, y = u * scale, v * scale
    if pattern == 1:
        mix = 1.0 if (y % 1.0) > 0.5 else 0.0
    elif pattern == 2:
        mix = 0.5 * (1.0 if (x % 1.0) > 0.6 else 0.0) + 0.5 * (1.0 if (y % 1.0) > 0.6 else 0.0)
    elif pattern == 3:
        mix = 1.0 if noise2(x, y, seed) > 0.6 else 0.0
    elif pattern == 4:
        mix = 0.5 + 0.5 * np.sin(x * 6.28) * np.sin(y * 6.28)
    else:
        mix = 0.0
    weave = 0.85 + 0.3 * noise2(u * 700, v * 700, seed + 1) * (0.7 + 0.3 * noise2(u * 40, v * 40, seed + 2))
    for k in range(3):
        out[k] = (row[k] + mix * (row[3 + k] - row[k])) * weave


@inlined
def eye_colour(looks: Looks, p: int, uv: Array, scratch: Array, out: Array) -> None:
    """Fill out [3] with the colour of an eyeball."""
    row = looks.rows[p]
    sample(Textures(looks.texels, looks.table), looks.textures[p], uv[0], uv[1], LINEAR, scratch)
    grey = (scratch[0] + scratch[1] + scratch[2]) / 3
    spread = max(scratch[0], scratch[1], scratch[2]) - min(scratch[0], scratch[1], scratch[2])
    iris = min(max((0.42 - grey) * 8, 0.0), 1.0)
    keep = 1 + iris * (row[2] - 1)
    for k in range(3):
        out[k] = row[0] * (grey + keep * (scratch[k] - grey))
    veins = row[1] * (1 - iris) * (0.5 + spread)
    out[1] *= 1 - veins
    out[2] *= 1 - veins


@inlined
def teeth_colour(row: Array, f: Array, out: Array) -> None:
    """Fill out [3] with the colour of teeth: f[1] is the place along the arc, f[2] from gum to edge."""
    gap = abs((f[1] % 1.0) - 0.5) * 2
    shade = 1 - 0.55 * max(gap - 0.8, 0.0) * 5
    gum = min(max((0.3 - 0.12 * (1 - gap * gap) - f[2]) * 12, 0.0), 1.0)
    pink = (0.42, 0.13, 0.12)
    for k in range(3):
        out[k] = row[k] * shade * (1 - gum) + pink[k] * gum


@inlined
def hair_colour(looks: Looks, p: int, uv: Array, scratch: Array, out: Array) -> None:
    """Fill out [4] with the colour of hair, and its alpha."""
    row = looks.rows[p]
    sample(Textures(looks.texels, looks.table), looks.textures[p], uv[0], uv[1], LOG_LINEAR, scratch)
    for k in range(3):
        detail = 0.6 * (scratch[1] - row[7]) + 0.4 * (scratch[k] - row[6 + k])
        out[k] = row[k] * np.exp(row[3] * min(detail, 1.0))
    out[3] = scratch[3]


@inlined
def fur_colour(row: Array, uv: Array, f: Array, out: Array) -> None:
    """Fill out [3] with the colour of fur, which is darker near the skin: f[2] is the height in 0..1."""
    seed = int(row[1])
    grain = noise2(uv[0] * row[0], uv[1] * row[0] * row[3], seed + 11)
    lump = noise2(uv[0] * row[0] * 0.12, uv[1] * row[0] * 0.12, seed + 12)
    light = (0.45 + 0.55 * f[2]) * (0.5 + 0.7 * grain) * (0.6 + 0.7 * lump)
    for k in range(3):
        out[k] = row[4 + k] * light
