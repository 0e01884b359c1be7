"""Superpixels of a patch, computed on its own pixels and so the same for every network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from skimage.segmentation import quickshift, slic


def superpixels_of_all(patches: np.ndarray, kind: str, segments: int) -> np.ndarray:
    """Labels int16 [n, h, w] of patches [n, h, w, 3] in [0, 1], computed side by side: see `superpixels`."""
    with ThreadPoolExecutor() as threads:  # most of it runs outside of Python's lock
        return np.stack(list(threads.map(lambda patch: superpixels(patch, kind, segments), patches))).astype(np.int16)


def superpixels(patch: np.ndarray, kind: str, segments: int) -> np.ndarray:
    """Labels int64 [h, w] from 0, without gaps, of a patch [h, w, 3] in [0, 1].

    kind: slic (about this many segments), grid (the nearest square number of squares), quickshift (with the lime
    package's settings; `segments` has no say, and on tissue it gives only 5 to 10).
    """
    height, width = patch.shape[:2]
    if kind == "grid":
        side = max(1, round(segments**0.5))
        rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
        return rows[:, None] * side + columns
    if kind == "slic":
        # Smoothed and compact: on tissue, the package's own defaults merge 64 into as few as 3.
        labels = slic(patch, segments, compactness=20, sigma=1, start_label=0)
    elif kind == "quickshift":
        labels = quickshift(patch.astype(np.float64), kernel_size=4, max_dist=200, ratio=0.2, rng=42)
    else:
        raise ValueError(f"unknown superpixels '{kind}'.")
    return np.unique(labels, return_inverse=True)[1].reshape(height, width)
