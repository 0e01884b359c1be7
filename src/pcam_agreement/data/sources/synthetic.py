"""Procedural H&E patches with tumour masks, in PCam's files, for runs without PCam; see data/tissue.py."""

from pathlib import Path

import numpy as np
import pandas as pd

from pcam_agreement.core.patch import CENTRE, PATCH
from pcam_agreement.data import slides
from pcam_agreement.data.pcam import SPLITS
from pcam_agreement.data.slides import DrawnSlides as Settings
from pcam_agreement.data.slides import Key
from pcam_agreement.data.tissue import MARGIN, SIDE, TUMOUR, draw_stains, draw_tissues, scan

TITLE = "Synthetic H&E"
DESCRIPTION = "procedural H&E patches with their tumour masks"
SYNTHETIC = True

POSITIONS = SIDE - 2 * MARGIN - PATCH + 1  # places a side where a patch can lie
MOST_PATCHES = 4096  # a slide; more of them would be nearly copies of each other


def write(folder: Path, settings: Settings, seed: int) -> None:
    """Write train, valid and test into `folder` (which exists) in PCam's layout, tumour masks included.

    A slide belongs to one split, gives `patches_per_slide` patches and depends on the seed, its split and its number
    alone. Raises ValueError as `slides.write` does.
    """
    slides.write(folder, settings, seed, slides.Drawing("synthetic", MOST_PATCHES, rows, patches, masks))


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


def patches(key: Key, n: int) -> np.ndarray:
    """The n patches of a slide, uint8 [n, 96, 96, 3]."""
    tissues, corners = plan(key, n)
    rng = _generator(key, "colours")
    return slides.crops(scan(rng, *draw_stains(rng, tissues)), corners)


def masks(key: Key, n: int) -> np.ndarray:
    """Where the n patches of a slide show tumour, uint8 [n, 96, 96] of 0 and 1."""
    tissues, corners = plan(key, n)
    return slides.crops(tissues == TUMOUR, corners).astype(np.uint8)


def plan(key: Key, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The tissues of a slide, uint8 [S, S], and the top left pixels of its n patches, [n, 2]."""
    tissues = draw_tissues(_generator(key, "tissues"))
    return tissues, place(_generator(key, "places"), tissues == TUMOUR, n)


def place(rng: np.random.Generator, tumour: np.ndarray, n: int) -> np.ndarray:
    """Top left pixels [n, 2], no two the same: half positive, a fifth of the others with tumour off centre."""
    sums = np.pad(tumour.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32), ((1, 0), (1, 0)))  # above and left

    def has_tumour(start: int, stop: int) -> np.ndarray:
        """Whether rows and columns start to stop of the patch at each position show tumour."""
        low, high = (slice(MARGIN + edge, MARGIN + edge + POSITIONS) for edge in (start, stop))
        return (sums[high, high] - sums[low, high] - sums[high, low] + sums[low, low]).ravel() > 0

    centre, anywhere = has_tumour(CENTRE.start, CENTRE.stop), has_tumour(0, PATCH)
    positive = (n + rng.integers(2)) // 2  # of an odd number either class may have one more
    off_centre = round((n - positive) / 5)
    wanted = ((centre, positive), (anywhere & ~centre, off_centre), (~anywhere, n - positive - off_centre))
    chosen = [rng.choice(np.flatnonzero(positions), count, replace=False) for positions, count in wanted]
    return np.stack(np.divmod(rng.permutation(np.concatenate(chosen)), POSITIONS), -1) + MARGIN


def _generator(key: Key, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose: how many another purpose takes does not matter."""
    stream = ("tissues", "places", "colours").index(purpose)
    return np.random.default_rng(np.random.SeedSequence(key, spawn_key=(stream,)))
