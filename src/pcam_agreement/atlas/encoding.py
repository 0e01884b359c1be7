"""Heatmaps as one byte a pixel, from which a page makes exact masks of some top fractions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

SLIDER = tuple(percent / 100 for percent in range(2, 51, 2))  # top fractions, beside those that the run compared


def steps(fractions: Iterable[float], pixels: int) -> dict[float, int]:
    """The top fractions that the page can show, in increasing order, with the pixels in a mask of each.

    Of two fractions that give masks of one size, the first in `fractions` stays.
    """
    sizes: dict[int, float] = {}
    for fraction in (*fractions, *SLIDER):
        sizes.setdefault(round(fraction * pixels), fraction)
    return {sizes[size]: size for size in sorted(sizes)}


def encode(heatmaps: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Codes uint8 [n, p] of heatmaps [n, p], for masks of these sizes [s], increasing, at most 127 of them.

    A pixel has the code 2 i if it and all that tie with it enter the mask between sizes i - 1 and i; pixels that tie
    across a size have a code of their own, 2 i + 1 for the first size i that cuts them. Codes grow as values fall. So
    with c the pixels of lesser codes and n those of a code, the pixels of the code are in the mask of k pixels with the
    weight (k - c) / n, clipped to [0, 1]: what `heatmap.top_mask` gives them, for every k of the sizes.
    """
    if len(sizes) > 127:
        raise ValueError(f"expected at most 127 top fractions in the atlas, found {len(sizes)}; shorten the curve.")
    found = np.empty(heatmaps.shape, np.uint8)
    for row, one in enumerate(heatmaps):
        _, place, count = np.unique(one, return_inverse=True, return_counts=True)
        below = count.cumsum()
        first, last = one.size - below, one.size - below + count  # pixels above a group, and with it
        cut, inside = np.searchsorted(sizes, first, "right"), np.searchsorted(sizes, last, "left")
        found[row] = np.where(cut < inside, 2 * cut + 1, 2 * inside)[place]
    return found
