"""Where heatmaps look: how much of them lies in a region that is known to matter."""

from __future__ import annotations

import numpy as np

from pcam_agreement.heatmap import top_mask

MEASURES = ("mass", "rank_accuracy", "pointing")


def localisation(heatmaps: np.ndarray, region: np.ndarray) -> dict[str, np.ndarray]:
    """Of non-negative heatmaps [n, p] and regions, bool [n, p], each [n]; NaN where the region or the heatmap is empty.

    mass: the share of the heatmap in the region (Kohlbrenner et al. 2020, arXiv 1910.09840); rank_accuracy: the share
    of the k highest pixels in a region of k pixels (Arras et al. 2022, arXiv 2003.07258); pointing: whether the highest
    pixel is in the region (Zhang et al. 2018, arXiv 1608.00507). Pixels that tie share. A heatmap that knows nothing of
    the region gets the region's share of the patch in all three.
    """
    heatmaps, size = heatmaps.astype(np.float64), region.sum(1)
    found = {name: np.full(len(heatmaps), np.nan) for name in MEASURES}
    for row in np.flatnonzero((size > 0) & (heatmaps.max(1) > 0)):
        heat, inside = heatmaps[row], region[row]
        highest = heat == heat.max()
        found["mass"][row] = heat[inside].sum() / heat.sum()
        found["rank_accuracy"][row] = top_mask(heat[None], size[row] / heat.size)[0, inside].sum() / size[row]
        found["pointing"][row] = highest[inside].sum() / highest.sum()
    return found


def bell(side: int, sigma: float) -> np.ndarray:
    """A Gaussian of this deviation in the middle of a patch [side * side]: what is won by looking at the middle."""
    offset = np.arange(side) - (side - 1) / 2
    return np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * sigma**2)).ravel()
