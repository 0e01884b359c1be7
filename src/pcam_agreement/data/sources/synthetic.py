"""Procedural H&E patches with tumour masks, in PCam's own files, for runs without PCam.

A slide is drawn as two stain loads a pixel and turned into colours by the Beer-Lambert law. Every tissue carries the
same load on average, so colour alone does not give a tumour away; the size and the shape of its nuclei do.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage, spatial

from pcam_agreement.core.patch import CENTRE, PATCH
from pcam_agreement.core.stains import EOSIN, HAEMATOXYLIN
from pcam_agreement.data import slides
from pcam_agreement.data.pcam import SPLITS
from pcam_agreement.data.slides import DrawnSlides as Settings
from pcam_agreement.data.slides import Key

SIDE = 1024  # pixels a side of a slide (S in the shapes below), of PCam's 0.97 µm each
MARGIN = 12  # no patch comes closer to the edge of a slide, where nuclei are missing
POSITIONS = SIDE - 2 * MARGIN - PATCH + 1  # places a side where a patch can lie
MOST_PATCHES = 4096  # a slide; more of them would be nearly copies of each other
LYMPHOID, STROMA, TUMOUR, FAT = range(4)

TITLE = "Synthetic H&E"
DESCRIPTION = "procedural H&E patches with their tumour masks"
SYNTHETIC = True


class Nuclei(NamedTuple):
    """One kind of nucleus and how it is sown; lengths in pixels."""

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
    Nuclei(STROMA, 3.1, 1.15, 0.06, 1.4, 0.1, 0, 2, 17.0, 0.6),  # lymphocytes on their way
    Nuclei(TUMOUR, 6.8, 1.3, 0.07, 0.55, 0.8, 2, 3, 15.5, 0.04),  # vesicular
)
TURNS = np.linspace(0, np.pi, 64, endpoint=False)  # the directions in which nuclei lie


def write(folder: Path, settings: Settings, seed: int) -> None:
    """Write train, valid and test into `folder` (which exists) in PCam's layout, tumour masks included.

    A slide belongs to one split, gives `patches_per_slide` patches and depends on the seed, its split and its number
    alone. Raises ValueError where a slide has no room for that many patches.
    """
    slides.write(folder, settings, seed, "synthetic", MOST_PATCHES, rows, patches, masks)


def patches(key: Key, n: int) -> np.ndarray:
    """The n patches of a slide, uint8 [n, 96, 96, 3]."""
    tissues, corners = plan(key, n)
    rng = _generator(key, "colours")
    return slides.crops(develop(rng, *stain(rng, tissues)), corners)


def masks(key: Key, n: int) -> np.ndarray:
    """Where the n patches of a slide show tumour, uint8 [n, 96, 96] of 0 and 1."""
    tissues, corners = plan(key, n)
    return slides.crops(tissues == TUMOUR, corners).astype(np.uint8)


def rows(key: Key, n: int) -> pd.DataFrame:
    """The rows of the meta file for the n patches of a slide; positive as in PCam: any tumour in the centre."""
    tissues, corners = plan(key, n)
    tumour = slides.crops(tissues == TUMOUR, corners)
    return pd.DataFrame(
        {
            "coord_y": corners[:, 0],
            "coord_x": corners[:, 1],
            "tumor_patch": tumour.any((1, 2)),
            "center_tumor_patch": tumour[:, CENTRE, CENTRE].any((1, 2)),
            "wsi": f"synthetic_{SPLITS[key[1]]}_{key[2]:03d}",
        }
    )


def plan(key: Key, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The tissues of a slide, uint8 [S, S], and where its n patches lie, [n, 2]."""
    tissues = tissue(_generator(key, "tissues"))
    return tissues, place(_generator(key, "places"), tissues == TUMOUR, n)


def place(rng: np.random.Generator, tumour: np.ndarray, n: int) -> np.ndarray:
    """Top left pixels [n, 2], no two the same: half positive, a fifth of the others with tumour off centre."""
    sums = np.pad(tumour.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32), ((1, 0), (1, 0)))  # above and left

    def shown(start: int, stop: int) -> np.ndarray:
        """Whether rows and columns start to stop of the patch at each position show tumour."""
        low, high = (slice(MARGIN + edge, MARGIN + edge + POSITIONS) for edge in (start, stop))
        return (sums[high, high] - sums[low, high] - sums[high, low] + sums[low, low]).ravel() > 0

    centre, anywhere = shown(CENTRE.start, CENTRE.stop), shown(0, PATCH)
    positive = (n + rng.integers(2)) // 2  # of an odd number either class may have one more
    off_centre = round((n - positive) / 5)
    wanted = ((centre, positive), (anywhere & ~centre, off_centre), (~anywhere, n - positive - off_centre))
    chosen = [rng.choice(np.flatnonzero(where), count, replace=False) for where, count in wanted]
    return np.stack(np.divmod(rng.permutation(np.concatenate(chosen)), POSITIONS), -1) + MARGIN


def tissue(rng: np.random.Generator) -> np.ndarray:
    """The tissue of every pixel of a slide, uint8 [S, S]: LYMPHOID, STROMA, TUMOUR or FAT."""
    lymphoid = noise(rng, 110) + 0.5 * noise(rng, 30)
    tissues = np.where(lymphoid > np.quantile(lymphoid, rng.uniform(0.4, 0.6)), LYMPHOID, STROMA).astype(np.uint8)
    tumour = noise(rng, 95) + 0.3 * noise(rng, 24)
    tissues[tumour > np.quantile(tumour, rng.uniform(0.62, 0.72))] = TUMOUR

    # Fat cells are Voronoi cells with thin walls and rounded corners; few of them lie in a tumour.
    centres = lattice(rng, rng.uniform(42, 60))
    at = tuple(centres.T)
    fat = noise(rng, 70)[at]
    fat = fat > np.quantile(fat, rng.uniform(0.8, 0.93))
    fat &= rng.random(len(centres)) < np.where(tissues[at] == TUMOUR, 0.3, 0.8)
    _, neighbours = spatial.cKDTree(centres).query(centres, 9)  # itself and eight more
    bend = 4 * np.stack([noise(rng, 22), noise(rng, 22)], -1)
    for cell in np.flatnonzero(fat):
        window = tuple(slice(max(c - 36, 0), min(c + 37, SIDE)) for c in centres[cell])
        offset = np.moveaxis(np.mgrid[window], 0, -1) + bend[window] - centres[cell]  # [h, w, 2]
        ways = centres[neighbours[cell, 1:]] - centres[cell]
        lengths = np.linalg.norm(ways, axis=1)
        beyond = [
            offset @ (ways / lengths[:, None]).T - lengths / 2 + 2,
            np.linalg.norm(offset, axis=-1)[..., None] - 32,
        ]
        tissues[window][np.exp(np.concatenate(beyond, -1) / 2.5).sum(-1) < 1] = FAT

    # Tumour with no room for its nuclei would make a label that nothing in the patch shows.
    pieces, _ = ndimage.label(tissues == TUMOUR)
    small = np.bincount(pieces.ravel()) < 1200
    small[0] = False  # what is not tumour
    tissues[small[pieces]] = STROMA
    return tissues


def stain(rng: np.random.Generator, tissues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The haematoxylin and the eosin load of every pixel, two float32 [S, S]."""
    direction, fibres = fibre(rng)
    grain = 3 * ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE), np.float32), 0.9)
    # in the order LYMPHOID, STROMA, TUMOUR, FAT
    haematoxylin = np.choose(tissues, [0.2 + 0.15 * grain, 0.1 + 0.08 * fibres, 0.25 + 0.1 * grain, 0 * grain])
    eosin = np.choose(tissues, [0.4 + 0.35 * grain, 0.45 + 0.3 * fibres + 0.1 * grain, 0.5 + 0.15 * grain, 0 * grain])
    haematoxylin, eosin = np.maximum(haematoxylin, 0.01), np.maximum(eosin, 0.01)
    for kind in NUCLEI:
        alpha, load = bank(rng, kind)
        half = alpha.shape[1] // 2
        centres = sow(rng, tissues, kind, half)
        chosen = rng.integers(0, len(TURNS), len(centres))
        if kind.tissue == STROMA:  # along the fibres
            chosen = (direction[tuple(centres.T)] / np.pi * len(TURNS)).astype(int) % len(TURNS)
        for (y, x), one in zip(centres, chosen, strict=True):
            window = slice(y - half, y + half + 1), slice(x - half, x + half + 1)
            haematoxylin[window] += alpha[one] * (load[one] - haematoxylin[window])
            eosin[window] *= 1 - 0.6 * alpha[one]

    # Every tissue lets the same light through, and its light varies about as much as seen after the lens.
    for loads, mean, deviations in ((haematoxylin, 0.58, (0.24, 0.22, 0.255)), (eosin, 0.68, (0.13, 0.12, 0.14))):
        light = np.exp(-loads)
        for tissue_kind, deviation in zip((LYMPHOID, STROMA, TUMOUR), deviations, strict=True):
            where = tissues == tissue_kind
            light[where] = (light[where] - light[where].mean()) * (deviation / light[where].std())
        light = mean + light * np.exp(0.2 * noise(rng, 60))
        thickness = np.exp(0.2 * noise(rng, 60))
        loads[:] = -np.log(light.clip(0.04, 0.99)) * thickness
    return haematoxylin, eosin


def fibre(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Wavy fibres: their direction (radians from the x axis) and their texture (deviation 1), two [S, S]."""
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    across = np.cos(turn) * y - np.sin(turn) * x + 40 * noise(rng, 90) + 6 * noise(rng, 22)
    along = np.sin(turn) * y + np.cos(turn) * x + 40 * noise(rng, 90)
    down, right = np.gradient(across)
    grain = ndimage.gaussian_filter(rng.standard_normal((512, 512), np.float32), 1, mode="wrap")
    texture = ndimage.map_coordinates(grain, (across / 1.2, along / 14), order=1, mode="grid-wrap")
    return np.arctan2(-right, down), texture / texture.std()


def bank(rng: np.random.Generator, kind: Nuclei) -> tuple[np.ndarray, np.ndarray]:
    """A nucleus in each of TURNS, with a pale halo: opacity and haematoxylin load, two float32 [k, s, s]."""

    def vary(deviation: float) -> np.ndarray:
        return np.exp(deviation * rng.standard_normal((len(TURNS), 1, 1)))

    radius, stretch = kind.radius * rng.uniform(0.92, 1.08), (kind.elongation * rng.uniform(0.9, 1.1)) ** 0.5
    half = int(np.ceil(1.5 * radius * stretch)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    stretch = stretch * vary(0.08)
    sin, cos = np.sin(TURNS)[:, None, None], np.cos(TURNS)[:, None, None]
    u, v = (cos * x + sin * y) / stretch, (cos * y - sin * x) * stretch
    edge = radius * vary(0.12)
    for wave in (2, 3, 4):
        phase = rng.uniform(0, 2 * np.pi, (len(TURNS), 1, 1))
        edge = edge * (1 + np.log(vary(kind.roughness)) * np.cos(wave * np.arctan2(v, u) + phase) / wave**0.5)
    depth = edge - np.hypot(u, v)  # pixels inside the outline

    chromatin = ndimage.gaussian_filter(rng.standard_normal(depth.shape), (0, 1, 1))
    load = kind.load * rng.uniform(0.85, 1.15) * (vary(0.15) + 0.7 * chromatin) + kind.rim * np.exp(
        -((depth - 0.7) ** 2)
    )
    for _ in range(kind.nucleoli):
        dy, dx = radius * rng.uniform(-0.45, 0.45, (2, len(TURNS), 1, 1))
        load += 0.9 * np.exp(-((u - dx) ** 2 + (v - dy) ** 2) / 1.6)
    alpha = np.maximum(np.clip(depth + 0.5, 0, 1), 0.5 * np.exp(-((depth + 1.7) ** 2)))
    return alpha.astype(np.float32), np.where(depth > -0.5, load, 0.05).astype(np.float32)


def sow(rng: np.random.Generator, tissues: np.ndarray, kind: Nuclei, border: int) -> np.ndarray:
    """Where the nuclei of a kind lie, [m, 2]: inside their tissue and `border` pixels from the edge of the slide."""
    centres = lattice(rng, kind.spacing)
    centres = centres[((centres >= border) & (centres < SIDE - border)).all(1)]
    turns = np.arange(0, 2 * np.pi, np.pi / 4)
    ring = np.round(kind.clearance * np.stack([np.sin(turns), np.cos(turns)], -1)).astype(int)
    around = centres + np.pad(ring, ((1, 0), (0, 0)))[:, None]  # [9, m, 2]
    fits = (tissues[around[..., 0], around[..., 1]] == kind.tissue).all(0)
    missing = kind.missing * np.exp(0.6 * noise(rng, 40))[tuple(centres.T)]
    return centres[fits & (rng.random(len(centres)) > missing)]


def develop(rng: np.random.Generator, haematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """What a scanner sees of the loads, uint8 [S, S, 3]; stains, scanner and white point differ from slide to slide."""
    stains = np.array([HAEMATOXYLIN, EOSIN]) + 0.03 * rng.standard_normal((2, 3))
    stains += rng.random() * np.array([[0, 0.25, 0.25], [0.2, -0.2, 0.35]])  # from purple to brown
    stains = np.maximum(stains, 0.02) * rng.uniform(0.9, 1.1, (2, 1)) * rng.uniform(0.9, 1.1)
    white = rng.uniform(0.92, 0.98) + 0.01 * rng.standard_normal(3)
    light = white * np.exp(-np.stack([haematoxylin, eosin], -1) @ stains)
    light = ndimage.gaussian_filter(light, (0.45, 0.45, 0)) + 0.012 * rng.standard_normal(light.shape)
    return (255 * light.clip(0, 1)).round().astype(np.uint8)


def noise(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Smooth noise whose features are about `scale` pixels wide, mean 0 and deviation 1, float32 [S, S]."""
    knots = np.arange(-3, SIDE / scale + 3)
    weights = np.exp(-(((np.arange(SIDE)[:, None] / scale - knots) / 0.8) ** 2))
    weights = (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
    return weights @ rng.standard_normal((len(knots), len(knots)), np.float32) @ weights.T


def lattice(rng: np.random.Generator, spacing: float) -> np.ndarray:
    """Pixels [m, 2] about `spacing` apart: a hexagonal lattice, shaken."""
    y, x = np.meshgrid(np.arange(0, SIDE, spacing * 0.87), np.arange(0, SIDE, spacing), indexing="ij")
    x[1::2] += spacing / 2
    points = np.stack([y.ravel(), x.ravel()], -1)
    points += spacing * rng.uniform(-0.3, 0.3, points.shape)
    return points.round().astype(int).clip(0, SIDE - 1)


def _generator(key: Key, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose: how many another purpose draws does not matter."""
    stream = ("tissues", "places", "colours").index(purpose)
    return np.random.default_rng(np.random.SeedSequence(key, spawn_key=(stream,)))
