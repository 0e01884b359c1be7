"""Means over patches with their intervals over slides: the IoU of two given networks, its null, and the excess."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

LEVEL = 0.95
GROUPS = 500  # of slides, at most: where every patch is a slide, memory would grow with their square
NORMAL = float(ndtri((1 + LEVEL) / 2))  # arms of a normal distribution, in standard deviations


@dataclass(frozen=True)
class Estimates:
    """Of k pairs: means over patches [k], and of every bootstrap replicate [replicates, k]; NaN where undefined."""

    iou: np.ndarray
    null: np.ndarray
    excess: np.ndarray  # iou - null, of the patches that have both
    slides: int
    replicates: dict[str, np.ndarray]  # iou, null, excess

    def interval(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The interval [k], [k] of iou, null or excess of each pair; that of an IoU or a null lies within 0 and 1."""
        return self._within(name, interval(self.replicates[name], self.slides))

    def interval_of_mean(self, name: str, pairs: np.ndarray) -> tuple[float, float]:
        """The interval of the mean over these pairs; NaN where there is none."""
        if not pairs.any():
            return np.nan, np.nan
        means = self.replicates[name][:, pairs].mean(1, keepdims=True)
        low, high = self._within(name, interval(means, self.slides))
        return float(low[0]), float(high[0])

    def _within(self, name: str, bounds: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        low, high = bounds if name == "excess" else np.clip(bounds, 0, 1)
        return low, high


def estimate(results: Mapping[str, np.ndarray], count: int, seed: int) -> Estimates:
    """Mean IoU of k pairs, its null (the mean IoU on different patches) and the excess of the one over the other.

    results: iou and null_iou [k, n], NaN where a heatmap is constant, and null_iou where no patch of another slide has
    the same label; labels and slides of the patches, [n]. A bootstrap replicate takes slides with replacement and all
    that belongs to them. What is compared with the null is of the patches that have one.
    """
    iou, null, slides = results["iou"], results["null_iou"], results["slides"]
    k = len(iou)
    rows = np.concatenate(
        [iou, np.where(np.isfinite(null), iou, np.nan), contributions(null, results["labels"], slides)]
    )
    known = np.isfinite(rows).sum(1)
    sums = np.where(np.isfinite(rows), rows, 0).sum(1)
    means, paired, nulls = np.divide(sums, known, out=np.full(3 * k, np.nan), where=known > 0).reshape(3, k)
    of_iou, of_paired, of_null = bootstrap_means(rows, slides, count, seed).reshape(count, 3, k).swapaxes(0, 1)
    replicates = {"iou": of_iou, "null": of_null, "excess": of_paired - of_null}
    return Estimates(means, nulls, paired - nulls, len(np.unique(slides)), replicates)


def contributions(null: np.ndarray, labels: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """The contribution [k, n] of each patch to the mean of null [k, n]: about twice as far from the mean of its label.

    A null is a mean over pairs of patches of one label, so that a patch is in it twice: in its own null, and in those
    of others. Replicates of the nulls alone would leave the others as they are, and vary half as much as new slides do.
    (The first-order term of a U-statistic, Hoeffding 1948, Annals of Mathematical Statistics 19.) The others are of
    other slides, one less, which makes nulls of s slides more alike by (s - 2) / (s - 1).
    """
    contributions = null.copy()
    for label in np.unique(labels):
        rows = labels == label
        known = np.isfinite(null[:, rows])
        mean = np.where(known, null[:, rows], 0).sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
        count = len(np.unique(slides[rows]))
        contributions[:, rows] = mean + 2 * (count - 1) / max(count - 2, 1) * (null[:, rows] - mean)
    return contributions


def bootstrap_means(values: np.ndarray, slides: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Means over patches of values [k, n], NaN left out, in `count` bootstrap replicates of the slides: [count, k]."""
    sums, patches = bootstrap_sums(values, slides, count, seed)
    with np.errstate(invalid="ignore"):
        return sums / patches


def bootstrap_sums(values: np.ndarray, slides: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over patches of values [k, n], NaN left out, and of how many: [count, k] each, one row a replicate.

    Patches of a slide are alike, so slides are resampled and not patches; to resample patches within them would count
    the variance within slides twice (Davison and Hinkley 1997, section 3.8). More than GROUPS slides are dealt into so
    many groups, which are resampled as slides would be. NaN everywhere with one slide only.
    """
    slides_there, place = np.unique(slides, return_inverse=True)
    groups = min(len(slides_there), GROUPS)
    if groups < 2:
        return np.full((count, len(values)), np.nan), np.zeros((count, len(values)))
    finite = np.isfinite(values)
    of_slide = (place % groups == np.arange(groups)[:, None]).astype(float)  # [groups, n]
    times = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), count)
    return times @ (of_slide @ np.where(finite, values, 0).T), times @ (of_slide @ finite.T)


def interval(replicates: np.ndarray, slides: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of each column of replicates [d, k]: low [k], high [k]; NaN where a tenth of them or more is NaN.

    slides: how many there are, one number or [k]. With few slides percentiles are too narrow; so the arms from the
    median to them are lengthened, as Student's t lengthens those of a normal mean. (Hesterberg 2015, arXiv 1411.5279,
    takes outer percentiles instead, but they end at the outermost replicate.)
    """
    low, middle, high = _percentiles(replicates)
    count = np.asarray(slides, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        longer = stdtrit(count - 1, (1 + LEVEL) / 2) * np.sqrt(count / (count - 1)) / NORMAL
    return middle - longer * (middle - low), middle + longer * (high - middle)


def _percentiles(replicates: np.ndarray) -> np.ndarray:
    """Low, middle and high [3, k] of replicates [d, k]; NaN where a tenth of them or more is NaN."""
    finite = np.isfinite(replicates)
    count = finite.sum(0)
    ordered = np.sort(np.where(finite, replicates, np.nan), axis=0)  # NaN last
    place = np.array([[(1 - LEVEL) / 2], [0.5], [(1 + LEVEL) / 2]]) * np.maximum(count - 1, 0)
    below, above = (np.take_along_axis(ordered, bound(place).astype(int), 0) for bound in (np.floor, np.ceil))
    return np.where(count > 0.9 * len(replicates), below + place % 1 * (above - below), np.nan)
