"""Heatmaps as one byte a pixel, from which the page computes exact masks at many top fractions."""

from collections.abc import Iterable

import numpy as np

SLIDER = tuple(percent / 100 for percent in range(2, 51, 2))  # top fractions, besides those of the run's settings


def steps(fractions: Iterable[float], pixels: int) -> dict[float, int]:
    """The top fractions that the page can show, in increasing order, with the pixels in a mask of each.

    Of fractions that give masks of the same size, the first is kept.
    """
    sizes: dict[int, float] = {}
    for fraction in (*fractions, *SLIDER):
        sizes.setdefault(round(fraction * pixels), fraction)
    return {sizes[size]: size for size in sorted(sizes)}


def encode(heatmaps: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Codes uint8 [n, p] of heatmaps [n, p], for masks of these sizes [s], increasing, at most 127 of them.

    A pixel has the code 2 i if it and all pixels that tie with it enter the mask between sizes i - 1 and i; pixels
    that tie across a size have a code to themselves, 2 i + 1 for the first size i that cuts them. Codes grow as values
    fall. So with c the pixels of lower codes and n those of a code, the pixels of the code have the weight (k - c) / n,
    clipped to [0, 1], in the mask of k pixels: that of `masks.top_mask`, for every k of the sizes.

    Raises ValueError where there are more sizes than codes.
    """
    if len(sizes) > 127:
        raise ValueError(f"expected at most 127 top fractions in the atlas, got {len(sizes)}; shorten agreement.curve.")
    encoded = np.empty(heatmaps.shape, np.uint8)
    for row, heatmap in enumerate(heatmaps):
        _, group, count = np.unique(heatmap, return_inverse=True, return_counts=True)
        below = count.cumsum()
        first, last = heatmap.size - below, heatmap.size - below + count  # pixels above a group of ties, and with it
        cut, inside = np.searchsorted(sizes, first, "right"), np.searchsorted(sizes, last, "left")
        encoded[row] = np.where(cut < inside, 2 * cut + 1, 2 * inside)[group]
    return encoded
