"""Heatmaps in 8 bits a pixel: of each patch at most 256 values, its levels, and which of them a pixel has.

A heatmap of at most 256 values keeps them all: that of a method of superpixels or windows is exact. Else pixels are
ordered and divided where their rank from the top is the cube of even steps, so that levels are fine where masks end; a
level is the mean of its pixels. Equal pixels have the same level, a higher pixel none that is lower, 0 stays 0.
"""

import numpy as np

LEVELS = 256
ENDS = (np.arange(1, LEVELS - 1) / (LEVELS - 1)) ** 3  # of the levels above 0, as shares of the pixels from the top
SIGN = np.uint16(0x7FFF)  # all bits but that of the sign, which -0 has


def quantise(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative float16 heatmaps [n, h, w] as numbers of levels, uint8 [n, h, w], and the levels, float16 [n, 256].

    Levels increase; those behind the last that a heatmap has are 0.
    """
    numbers, levels = np.empty(heatmaps.shape, np.uint8), np.zeros((len(heatmaps), LEVELS), np.float16)
    for heatmap, number, level in zip(heatmaps, numbers, levels, strict=True):
        bits = np.ascontiguousarray(heatmap).view(np.uint16).ravel() & SIGN  # of the same order as the values
        codes, place, counts = np.unique(bits, return_inverse=True, return_counts=True)
        values = codes.view(np.float16).astype(np.float64)
        group = np.arange(len(values))
        if len(values) > LEVELS:
            rank = counts[::-1].cumsum()[::-1] - counts / 2  # from the top; of equal pixels the middle
            group = len(ENDS) + 1 - np.searchsorted(ENDS * bits.size, rank, "right")
            group[values == 0] = 0
            group = np.unique(group, return_inverse=True)[1]
        pixels = np.bincount(group, counts)
        level[: len(pixels)] = np.bincount(group, counts * values) / pixels
        number[:] = group[place].reshape(number.shape)
    return numbers, levels


def restore(numbers: np.ndarray, levels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The heatmaps, float16 [n, h, w], in `out` where it is given."""
    out = np.empty(numbers.shape, np.float16) if out is None else out
    for number, level, heatmap in zip(numbers, levels, out, strict=True):
        np.take(level, number, out=heatmap, mode="clip")  # with the default, raise, NumPy would copy once more
    return out
