"""Localisation: how much of a heatmap lies in a region that is known to matter."""

import numpy as np

TINY = np.finfo(np.float64).tiny
MEASURES = ("mass", "rank_accuracy", "pointing")


def localisation(heatmaps: np.ndarray, region: np.ndarray) -> dict[str, np.ndarray]:
    """Of non-negative heatmaps [n, p] and regions, bool [n, p], each [n]; NaN where the region or the heatmap is empty.

    mass: the share of the heatmap in the region (Kohlbrenner et al. 2020, arXiv 1910.09840); rank_accuracy: the share
    of the k highest pixels in a region of k pixels (Arras et al. 2022, arXiv 2003.07258); pointing: whether the highest
    pixel is in the region (Zhang et al. 2018, arXiv 1608.00507). Pixels that tie share. A heatmap that is independent
    of the region gets the region's share of the patch in all three.
    """
    size, highest = region.sum(1), heatmaps == heatmaps.max(1, keepdims=True)
    start = np.sort(heatmaps, axis=1)[np.arange(len(size)), -size.clip(1), None]  # of the `size` highest pixels
    above, tied = heatmaps > start, heatmaps == start
    share = (size - above.sum(1)) / tied.sum(1)
    measures = {
        "mass": (heatmaps * region).sum(1, dtype=np.float64) / heatmaps.sum(1, dtype=np.float64).clip(TINY),
        "rank_accuracy": ((above & region).sum(1) + share * (tied & region).sum(1)) / size.clip(1),
        "pointing": (highest & region).sum(1) / highest.sum(1),
    }
    undefined = (size == 0) | (heatmaps.max(1) <= 0)
    return {name: np.where(undefined, np.nan, values) for name, values in measures.items()}
