"""Structural similarity (SSIM) of heatmaps, the measure of Arun et al. 2021 (arXiv 2008.02766), with a null."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import uniform_filter

from pcam_agreement.agreement.measures import pair_indices

WINDOW = 7  # pixels a side
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def ssim_of_sets(
    read: Callable[[int], np.ndarray], rows: np.ndarray, labels: np.ndarray, slides: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean SSIM of all pairs of m sets of heatmaps on these patches, and its null: [k, c] each.

    read: the heatmaps [m, h, w] of a patch, by row; rows: patches [c]; labels, slides: of them, [c]. Heatmaps are in
    [0, 1] by their maximum, the window is scikit-image's (7 x 7, unbiased covariances; data_range 1). The null is
    between one set's heatmap of a patch and the other's of the next patch of this label and another slide; NaN where
    there is none. NaN where a heatmap is constant.
    """
    partner = _partners(labels, slides)
    values, null = [], []
    for place, row in enumerate(rows):
        here = _Moments(read(int(row)))
        values.append(here.ssim(here))
        if partner[place] < 0:
            null.append(np.full_like(values[-1], np.nan))
        else:
            null.append(here.ssim(_Moments(read(int(rows[partner[place]])))))
    return np.array(values).T, np.array(null).T


def _partners(labels: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """For each patch the next one, in a circle, of its label and of another slide; -1 where there is none."""
    count = len(labels)
    partners = np.full(count, -1)
    for place in range(count):
        following = (place + 1 + np.arange(count - 1)) % count
        fits = following[(labels[following] == labels[place]) & (slides[following] != slides[place])]
        if len(fits):
            partners[place] = fits[0]
    return partners


class _Moments:
    """Local means and variances of heatmaps [m, h, w], which each pair of them needs."""

    def __init__(self, heatmaps: np.ndarray) -> None:
        values = heatmaps.astype(float)
        highest = values.max((1, 2), keepdims=True)
        self.values = np.divide(values, highest, out=np.zeros_like(values), where=highest > 0)
        self.constant = np.ptp(values, axis=(1, 2)) == 0
        self.mean = _local_mean(self.values)
        self.variance = _local_mean(self.values**2) - self.mean**2

    def ssim(self, other: "_Moments") -> np.ndarray:
        """The mean SSIM [k] of every pair of one of these and one of the others."""
        i, j = pair_indices(len(self.values))
        unbiased = WINDOW**2 / (WINDOW**2 - 1)
        result = np.empty(len(i))
        for row, (a, b) in enumerate(zip(i, j, strict=True)):
            product = self.mean[a] * other.mean[b]
            covariance = unbiased * (_local_mean(self.values[a] * other.values[b]) - product)
            luminance = (2 * product + C1) / (self.mean[a] ** 2 + other.mean[b] ** 2 + C1)
            structure = (2 * covariance + C2) / (unbiased * (self.variance[a] + other.variance[b]) + C2)
            result[row] = (luminance * structure).mean()
        result[self.constant[i] | other.constant[j]] = np.nan
        return result


def _local_mean(values: np.ndarray) -> np.ndarray:
    """The mean over each window that lies within the heatmap."""
    size = (1,) * (values.ndim - 2) + (WINDOW, WINDOW)
    edge = WINDOW // 2
    return uniform_filter(values, size)[..., edge:-edge, edge:-edge]
