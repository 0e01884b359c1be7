"""Procedural H&E slides: regions of tissue, their nuclei, two stain loads a pixel, and the colours that a scanner sees.

Colours follow from the stain loads by the Beer-Lambert law. Every tissue carries the same load on average, so colour
alone does not give a tumour away; the size and the shape of its nuclei do.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage, spatial

from pcam_agreement.core.stains import EOSIN, HAEMATOXYLIN

SIDE = 1024  # pixels a side of a slide (S in the shapes below), of PCam's 0.97 µm each
# To two digits, as all synthetic slides so far were drawn.
STAINS = np.floor(100 * np.array([HAEMATOXYLIN, EOSIN]) + 0.5) / 100
MARGIN = 12  # no patch comes closer to the edge of a slide, where nuclei are missing
LYMPHOID, STROMA, TUMOUR, FAT = range(4)


class Nuclei(NamedTuple):
    """A kind of nucleus and where it lies; lengths in pixels."""

    tissue: int
    radius: float
    elongation: float
    roughness: float  # of the outline
    load: float  # of haematoxylin
    rim: float  # added to the load at the membrane
    nucleoli: int
    clearance: float  # to the next tissue
    spacing: float
    missing: float  # share of places left empty


NUCLEI = (
    Nuclei(LYMPHOID, 3.1, 1.15, 0.06, 1.4, 0.1, 0, 2, 7.2, 0.1),
    Nuclei(STROMA, 2.7, 2.8, 0.08, 1.4, 0.1, 0, 1, 11.0, 0.3),  # spindles
    Nuclei(STROMA, 3.1, 1.15, 0.06, 1.4, 0.1, 0, 2, 17.0, 0.6),  # stray lymphocytes
    Nuclei(TUMOUR, 6.8, 1.3, 0.07, 0.55, 0.8, 2, 3, 15.5, 0.04),  # vesicular
)
ANGLES = np.linspace(0, np.pi, 64, endpoint=False)  # the directions in which nuclei lie


def draw_tissues(rng: np.random.Generator) -> np.ndarray:
    """The tissue of every pixel of a slide, uint8 [S, S]: LYMPHOID, STROMA, TUMOUR or FAT."""
    lymphoid = smooth_noise(rng, 110) + 0.5 * smooth_noise(rng, 30)
    tissues = np.where(lymphoid > np.quantile(lymphoid, rng.uniform(0.4, 0.6)), LYMPHOID, STROMA).astype(np.uint8)
    tumour = smooth_noise(rng, 95) + 0.3 * smooth_noise(rng, 24)
    tissues[tumour > np.quantile(tumour, rng.uniform(0.62, 0.72))] = TUMOUR
    _add_fat(rng, tissues)

    # Tumour with no room for its nuclei would make a label that nothing in the patch shows.
    regions, _ = ndimage.label(tissues == TUMOUR)
    too_small = np.bincount(regions.ravel()) < 1200
    too_small[0] = False  # what is not tumour
    tissues[too_small[regions]] = STROMA
    return tissues


def draw_stains(rng: np.random.Generator, tissues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The haematoxylin and the eosin load of every pixel, two float32 [S, S]."""
    direction, fibres = _fibres(rng)
    grain = 3 * ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE), np.float32), 0.9)
    # in the order LYMPHOID, STROMA, TUMOUR, FAT
    haematoxylin = np.choose(tissues, [0.2 + 0.15 * grain, 0.1 + 0.08 * fibres, 0.25 + 0.1 * grain, 0 * grain])
    eosin = np.choose(tissues, [0.4 + 0.35 * grain, 0.45 + 0.3 * fibres + 0.1 * grain, 0.5 + 0.15 * grain, 0 * grain])
    haematoxylin, eosin = np.maximum(haematoxylin, 0.01), np.maximum(eosin, 0.01)
    for kind in NUCLEI:
        opacity, load = _nuclei(rng, kind)
        half = opacity.shape[1] // 2
        centres = _centres(rng, tissues, kind, half)
        angles = rng.integers(0, len(ANGLES), len(centres))
        if kind.tissue == STROMA:  # along the fibres
            angles = (direction[tuple(centres.T)] / np.pi * len(ANGLES)).astype(int) % len(ANGLES)
        for (y, x), angle in zip(centres, angles, strict=True):
            window = slice(y - half, y + half + 1), slice(x - half, x + half + 1)
            haematoxylin[window] += opacity[angle] * (load[angle] - haematoxylin[window])
            eosin[window] *= 1 - 0.6 * opacity[angle]

    # Every tissue transmits the same mean light, with deviations that become about equal once the lens blurs it.
    for loads, mean, deviations in ((haematoxylin, 0.58, (0.24, 0.22, 0.255)), (eosin, 0.68, (0.13, 0.12, 0.14))):
        light = np.exp(-loads)
        for tissue, deviation in zip((LYMPHOID, STROMA, TUMOUR), deviations, strict=True):
            inside = tissues == tissue
            light[inside] = (light[inside] - light[inside].mean()) * (deviation / light[inside].std())
        light = mean + light * np.exp(0.2 * smooth_noise(rng, 60))
        thickness = np.exp(0.2 * smooth_noise(rng, 60))
        loads[:] = -np.log(light.clip(0.04, 0.99)) * thickness
    return haematoxylin, eosin


def scan(rng: np.random.Generator, haematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """What a scanner sees of the loads, uint8 [S, S, 3]; stains, scanner and white point differ from slide to slide."""
    stains = STAINS + 0.03 * rng.standard_normal((2, 3))
    stains += rng.random() * np.array([[0, 0.25, 0.25], [0.2, -0.2, 0.35]])  # from purple to brown
    stains = np.maximum(stains, 0.02) * rng.uniform(0.9, 1.1, (2, 1)) * rng.uniform(0.9, 1.1)
    white = rng.uniform(0.92, 0.98) + 0.01 * rng.standard_normal(3)
    light = white * np.exp(-np.stack([haematoxylin, eosin], -1) @ stains)
    light = ndimage.gaussian_filter(light, (0.45, 0.45, 0)) + 0.012 * rng.standard_normal(light.shape)
    return (255 * light.clip(0, 1)).round().astype(np.uint8)


def smooth_noise(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Noise whose features are about `scale` pixels wide, mean 0 and deviation 1, float32 [S, S]."""
    knots = np.arange(-3, SIDE / scale + 3)
    weights = np.exp(-(((np.arange(SIDE)[:, None] / scale - knots) / 0.8) ** 2))
    weights = (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
    return weights @ rng.standard_normal((len(knots), len(knots)), np.float32) @ weights.T


def _add_fat(rng: np.random.Generator, tissues: np.ndarray) -> None:
    """Fat cells are Voronoi cells with thin walls and rounded corners; few of them lie in a tumour."""
    centres = _lattice(rng, rng.uniform(42, 60))
    at_centres = tuple(centres.T)
    fat = smooth_noise(rng, 70)[at_centres]
    fat = fat > np.quantile(fat, rng.uniform(0.8, 0.93))
    fat &= rng.random(len(centres)) < np.where(tissues[at_centres] == TUMOUR, 0.3, 0.8)
    _, neighbours = spatial.cKDTree(centres).query(centres, 9)  # itself and eight more
    bend = 4 * np.stack([smooth_noise(rng, 22), smooth_noise(rng, 22)], -1)
    for cell in np.flatnonzero(fat):
        window = tuple(slice(max(c - 36, 0), min(c + 37, SIDE)) for c in centres[cell])
        offset = np.moveaxis(np.mgrid[window], 0, -1) + bend[window] - centres[cell]  # [h, w, 2]
        to_neighbours = centres[neighbours[cell, 1:]] - centres[cell]
        lengths = np.linalg.norm(to_neighbours, axis=1)
        beyond = [
            offset @ (to_neighbours / lengths[:, None]).T - lengths / 2 + 2,
            np.linalg.norm(offset, axis=-1)[..., None] - 32,
        ]
        tissues[window][np.exp(np.concatenate(beyond, -1) / 2.5).sum(-1) < 1] = FAT


def _fibres(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Wavy fibres: their direction (radians from the x axis) and their texture (deviation 1), two [S, S]."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    across = np.cos(angle) * y - np.sin(angle) * x + 40 * smooth_noise(rng, 90) + 6 * smooth_noise(rng, 22)
    along = np.sin(angle) * y + np.cos(angle) * x + 40 * smooth_noise(rng, 90)
    down, right = np.gradient(across)
    grain = ndimage.gaussian_filter(rng.standard_normal((512, 512), np.float32), 1, mode="wrap")
    texture = ndimage.map_coordinates(grain, (across / 1.2, along / 14), order=1, mode="grid-wrap")
    return np.arctan2(-right, down), texture / texture.std()


def _nuclei(rng: np.random.Generator, kind: Nuclei) -> tuple[np.ndarray, np.ndarray]:
    """A nucleus at each of the k ANGLES, with a pale halo: opacity and haematoxylin load, two float32 [k, s, s]."""

    def vary(deviation: float) -> np.ndarray:
        return np.exp(deviation * rng.standard_normal((len(ANGLES), 1, 1)))

    radius, stretch = kind.radius * rng.uniform(0.92, 1.08), (kind.elongation * rng.uniform(0.9, 1.1)) ** 0.5
    half = int(np.ceil(1.5 * radius * stretch)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    stretch = stretch * vary(0.08)
    sin, cos = np.sin(ANGLES)[:, None, None], np.cos(ANGLES)[:, None, None]
    u, v = (cos * x + sin * y) / stretch, (cos * y - sin * x) * stretch
    edge = radius * vary(0.12)
    for wave in (2, 3, 4):
        phase = rng.uniform(0, 2 * np.pi, (len(ANGLES), 1, 1))
        edge = edge * (1 + np.log(vary(kind.roughness)) * np.cos(wave * np.arctan2(v, u) + phase) / wave**0.5)
    depth = edge - np.hypot(u, v)  # pixels inside the outline

    chromatin = ndimage.gaussian_filter(rng.standard_normal(depth.shape), (0, 1, 1))
    load = kind.load * rng.uniform(0.85, 1.15) * (vary(0.15) + 0.7 * chromatin) + kind.rim * np.exp(
        -((depth - 0.7) ** 2)
    )
    for _ in range(kind.nucleoli):
        dy, dx = radius * rng.uniform(-0.45, 0.45, (2, len(ANGLES), 1, 1))
        load += 0.9 * np.exp(-((u - dx) ** 2 + (v - dy) ** 2) / 1.6)
    opacity = np.maximum(np.clip(depth + 0.5, 0, 1), 0.5 * np.exp(-((depth + 1.7) ** 2)))
    return opacity.astype(np.float32), np.where(depth > -0.5, load, 0.05).astype(np.float32)


def _centres(rng: np.random.Generator, tissues: np.ndarray, kind: Nuclei, border: int) -> np.ndarray:
    """Where the nuclei of a kind lie, [m, 2]: inside their tissue and `border` pixels from the edge of the slide."""
    centres = _lattice(rng, kind.spacing)
    centres = centres[((centres >= border) & (centres < SIDE - border)).all(1)]
    angles = np.arange(0, 2 * np.pi, np.pi / 4)
    ring = np.round(kind.clearance * np.stack([np.sin(angles), np.cos(angles)], -1)).astype(int)
    around = centres + np.pad(ring, ((1, 0), (0, 0)))[:, None]  # [9, m, 2]
    fits = (tissues[around[..., 0], around[..., 1]] == kind.tissue).all(0)
    missing = kind.missing * np.exp(0.6 * smooth_noise(rng, 40))[tuple(centres.T)]
    return centres[fits & (rng.random(len(centres)) > missing)]


def _lattice(rng: np.random.Generator, spacing: float) -> np.ndarray:
    """Pixels [m, 2] about `spacing` apart: a hexagonal lattice, jittered."""
    y, x = np.meshgrid(np.arange(0, SIDE, spacing * 0.87), np.arange(0, SIDE, spacing), indexing="ij")
    x[1::2] += spacing / 2
    points = np.stack([y.ravel(), x.ravel()], -1)
    points += spacing * rng.uniform(-0.3, 0.3, points.shape)
    return points.round().astype(int).clip(0, SIDE - 1)
