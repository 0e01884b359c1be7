"""Procedural patches of known truth: two cues at known places, on synthetic tissue, in PCam's files.

In train the two cues are independent, so a network that learns one of them gains nothing from the other. In valid and
test a patch has both or neither: networks can perform equally well and use different places. A cue has dark and pale
pixels, so a patch's mean colours do not give it away.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from pcam_agreement.core.patch import PATCH
from pcam_agreement.data import slides
from pcam_agreement.data.pcam import SPLITS
from pcam_agreement.data.slides import DrawnSlides as Settings
from pcam_agreement.data.slides import Key
from pcam_agreement.data.tissue import MARGIN, SIDE, draw_stains, draw_tissues, scan

TITLE = "Planted cues"
DESCRIPTION = "two cues at known places on synthetic tissue"
SYNTHETIC = True

CELLS = (SIDE - 2 * MARGIN) // PATCH  # patches a side of a slide: here they do not overlap
RADIUS = 13  # pixels, of a cue
PALE, DARK = 0.1, 2.0  # loads of a cue's stain; of the other stain, a cue has PALE
CUES = ("cue_one", "cue_two")  # columns of meta, and 1 and 2 in the mask
# Around the middle of a cue, each [s, s]: pixels as complex numbers, how much of the tissue is covered, how dark the
# cues are. Cue one is seven discs of haematoxylin alone, cue two three rings of eosin alone.
AROUND = np.arange(-RADIUS, RADIUS + 1) + 1j * np.arange(-RADIUS, RADIUS + 1)[:, None]
COVER = np.clip(RADIUS + 0.5 - np.abs(AROUND), 0, 1)
DISCS = np.clip(4 - np.abs(AROUND[..., None] - 8.4 * np.append(0, np.exp(1j * np.arange(6) * np.pi / 3))).min(-1), 0, 1)
RINGS = np.clip(1.7 - np.abs(np.abs(AROUND)[..., None] - [2.5, 7, 11.5]).min(-1), 0, 1)


def write(folder: Path, settings: Settings, seed: int) -> None:
    """Write train, valid and test into `folder` (which exists); a slide depends on what `synthetic.write` says."""
    slides.write(folder, settings, seed, slides.Drawing("planted", CELLS**2, rows, patches, masks))


def rows(key: Key, n: int) -> pd.DataFrame:
    """The rows of the meta file for the n patches of a slide, with a column for each cue; positive: any cue."""
    corners, present, _ = plan(key, n)
    return pd.DataFrame(
        {
            "coord_y": corners[:, 0],
            "coord_x": corners[:, 1],
            "tumor_patch": present.any(1),
            "center_tumor_patch": present.any(1),
            "wsi": f"planted_{SPLITS[key[1]]}_{key[2]:03d}",
            **dict(zip(CUES, present.T, strict=True)),
        }
    )


def masks(key: Key, n: int) -> np.ndarray:
    """Where the n patches of a slide show cue one (1) and cue two (2), uint8 [n, 96, 96]."""
    _, present, centres = plan(key, n)
    y, x = np.mgrid[:PATCH, :PATCH]
    offset = np.stack([y, x], -1) - centres[:, :, None, None]  # [n, 2, 96, 96, 2]
    inside = (np.hypot(*np.moveaxis(offset, -1, 0)) <= RADIUS) & present[..., None, None]
    return (inside * np.array([1, 2])[:, None, None]).sum(1).astype(np.uint8)


def patches(key: Key, n: int) -> np.ndarray:
    """The n patches of a slide, uint8 [n, 96, 96, 3]."""
    corners, present, centres = plan(key, n)
    rng = np.random.default_rng(np.random.SeedSequence(key, spawn_key=(1,)))
    haematoxylin, eosin = draw_stains(rng, draw_tissues(rng))
    for patch, cue in np.argwhere(present):
        y, x = corners[patch] + centres[patch, cue]
        window = slice(y - RADIUS, y + RADIUS + 1), slice(x - RADIUS, x + RADIUS + 1)
        stain, other, dark = ((haematoxylin, eosin, DISCS), (eosin, haematoxylin, RINGS))[cue]
        stain[window] += COVER * (PALE + (DARK - PALE) * dark - stain[window])
        other[window] += COVER * (PALE - other[window])
    return slides.crops(scan(rng, haematoxylin, eosin), corners)


def plan(key: Key, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the n patches of a slide: top left pixels [n, 2], which cues, bool [n, 2], and their centres [n, 2, 2]."""
    rng = np.random.default_rng(np.random.SeedSequence(key, spawn_key=(0,)))
    corners = MARGIN + PATCH * np.stack(np.divmod(rng.choice(CELLS**2, n, replace=False), CELLS), -1)
    number = rng.permutation(n)
    # In train the two lowest bits of the number, in the other splits the lowest one twice.
    present = np.stack([number, number // 2 if SPLITS[key[1]] == "train" else number], -1) % 2 > 0
    centres = rng.integers(RADIUS, PATCH - RADIUS, (n, 2, 2))
    while too_close := np.flatnonzero(np.hypot(*(centres[:, 0] - centres[:, 1]).T) < 2 * RADIUS + 2).tolist():
        centres[too_close] = rng.integers(RADIUS, PATCH - RADIUS, (len(too_close), 2, 2))
    return corners, present, centres
