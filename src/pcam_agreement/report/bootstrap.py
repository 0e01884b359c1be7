"""Means over patches with their intervals over slides, and where they lie between null and ceiling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

LEVEL = 0.95
NORMAL = float(ndtri((1 + LEVEL) / 2))  # arms of a normal distribution, in standard deviations


@dataclass(frozen=True)
class Estimates:
    """Of k pairs: means over patches [k], and of every bootstrap replicate [replicates, k]; NaN where undefined.

    undefined: why a pair has no normalised agreement, "" where it has one.
    """

    iou: np.ndarray
    null: np.ndarray
    excess: np.ndarray  # iou - null, of the patches that have both
    normalised: np.ndarray
    undefined: list[str]
    slides: int
    replicates: dict[str, np.ndarray]  # iou, null, excess, normalised

    def interval(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The interval [k], [k] of iou, null, excess or normalised of each pair."""
        return interval(self.replicates[name], self.slides)

    def band(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The simultaneous band [k], [k] of iou, null, excess or normalised over the pairs that have it."""
        return band(self.replicates[name], self.slides)

    def interval_of_mean(self, name: str, pairs: np.ndarray) -> tuple[float, float]:
        """The interval of the mean over these pairs; NaN where there is none."""
        if not pairs.any():
            return np.nan, np.nan
        low, high = interval(self.replicates[name][:, pairs].mean(1, keepdims=True), self.slides)
        return float(low[0]), float(high[0])

    def above(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far the excess of each pair lies above the mean excess of these pairs: [k], and of every replicate."""
        replicates = self.replicates["excess"]
        if not pairs.any():
            return np.full_like(self.excess, np.nan), np.full_like(replicates, np.nan)
        return self.excess - self.excess[pairs].mean(), replicates - replicates[:, pairs].mean(1, keepdims=True)


def estimate(
    results: Mapping[str, np.ndarray], ceilings: Sequence[Sequence[Sequence[int]]], count: int, seed: int
) -> Estimates:
    """Mean agreement of k pairs, its null, and the normalised agreement A = (J - J0) / (Jceil - J0).

    results: iou and null_iou [k, n], NaN where a heatmap is constant, and null_iou where no patch of another slide has
    the same label; labels and slides of the patches, [n]. ceilings: for every pair and each of its networks that was
    trained again from another seed, the pairs that say how much those trainings agree. A bootstrap replicate takes
    slides with replacement and all that belongs to them, and computes A anew as a whole. What is compared with the
    null is of the patches that have one.
    """
    iou, null, slides = results["iou"], results["null_iou"], results["slides"]
    k, different = len(iou), len(np.unique(slides))
    rows = np.concatenate(
        [iou, np.where(np.isfinite(null), iou, np.nan), _contributions(null, results["labels"], slides)]
    )
    known = np.isfinite(rows).sum(1)
    sums = np.where(np.isfinite(rows), rows, 0).sum(1)
    means, paired, nulls = np.divide(sums, known, out=np.full(3 * k, np.nan), where=known > 0).reshape(3, k)
    mean_replicates, paired_replicates, null_replicates = (
        bootstrap_means(rows, slides, count, seed).reshape(count, 3, k).swapaxes(0, 1)
    )
    normalised, normalised_replicates = np.full(k, np.nan), np.full((count, k), np.nan)
    undefined = []
    for pair, groups in enumerate(ceilings):
        reason = ""
        if not groups:
            reason = "neither network was trained twice"
        elif any(pair in group for group in groups):
            reason = "a ceiling itself"
        elif different < 2:
            reason = "all patches are of one slide"
        elif np.isnan(means[pair]):
            reason = "no patch on which neither heatmap is constant"
        elif np.isnan(nulls[pair]):
            reason = "all patches of a label are of one slide"
        else:
            ceiling = np.mean([paired[list(group)].mean() for group in groups])
            ceiling_replicates = np.mean([paired_replicates[:, list(group)].mean(1) for group in groups], axis=0)
            room = ceiling_replicates - null_replicates[:, pair]
            if not interval(room[:, None], different)[0][0] > 0:
                reason = "two trainings agree no more than their null"
            else:
                normalised[pair] = (paired[pair] - nulls[pair]) / (ceiling - nulls[pair])
                with np.errstate(invalid="ignore", divide="ignore"):
                    normalised_replicates[:, pair] = (paired_replicates[:, pair] - null_replicates[:, pair]) / room
        undefined.append(reason)
    excess_replicates = paired_replicates - null_replicates
    replicates = {
        "iou": mean_replicates,
        "null": null_replicates,
        "excess": excess_replicates,
        "normalised": normalised_replicates,
    }
    return Estimates(means, nulls, paired - nulls, normalised, undefined, different, replicates)


def _contributions(null: np.ndarray, labels: np.ndarray, slides: np.ndarray) -> np.ndarray:
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
    the variance within slides twice (Davison and Hinkley 1997, section 3.8). NaN everywhere with one slide only.
    """
    names, place = np.unique(slides, return_inverse=True)
    if len(names) < 2:
        return np.full((count, len(values)), np.nan), np.zeros((count, len(values)))
    finite = np.isfinite(values)
    of_slide = (place == np.arange(len(names))[:, None]).astype(float)  # [slides, n]
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), count)
    return times @ (of_slide @ np.where(finite, values, 0).T), times @ (of_slide @ finite.T)


def interval(replicates: np.ndarray, slides: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of each column of replicates [d, k]: low [k], high [k]; NaN where a tenth of them or more is NaN.

    slides: how many there are, one number or [k]. With few slides percentiles are too narrow; so the arms from the
    median to them are lengthened, as Student's t lengthens those of a normal mean. (Hesterberg 2015, arXiv 1411.5279,
    takes outer percentiles instead, but they end at the outermost replicate.)
    """
    return _reach(_percentiles(replicates), slides, NORMAL)


def band(replicates: np.ndarray, slides: int) -> tuple[np.ndarray, np.ndarray]:
    """Like `interval`, but wide enough that all columns with an interval are inside theirs together.

    The arms of all intervals are lengthened by one factor: of the largest deviation among the columns, each in units
    of its own arm (max-t, Romano and Wolf 2005, Econometrica 73). It takes into account how alike the columns are, and
    is never below 1. With fewer than about ten slides the replicates miss the extremes of many columns: of 10 columns
    on 6 slides nine in ten runs are covered, not 95 %.
    """
    low, middle, high = percentiles = _percentiles(replicates)
    known = np.isfinite(middle)
    if not known.any():
        return low, high
    away = replicates[:, known] - middle[known]
    arm = np.where(away > 0, (high - middle)[known], (middle - low)[known])
    largest = np.divide(np.abs(away), arm, out=np.zeros_like(away), where=np.isfinite(away) & (arm > 0)).max(1)
    return _reach(percentiles, slides, NORMAL * max(1.0, float(np.quantile(largest, LEVEL))))


def _percentiles(replicates: np.ndarray) -> np.ndarray:
    """Low, middle and high [3, k] of replicates [d, k]; NaN where a tenth of them or more is NaN."""
    finite = np.isfinite(replicates)
    count = finite.sum(0)
    ordered = np.sort(np.where(finite, replicates, np.nan), axis=0)  # NaN last
    place = np.array([[(1 - LEVEL) / 2], [0.5], [(1 + LEVEL) / 2]]) * np.maximum(count - 1, 0)
    below, above = (np.take_along_axis(ordered, bound(place).astype(int), 0) for bound in (np.floor, np.ceil))
    return np.where(count > 0.9 * len(replicates), below + place % 1 * (above - below), np.nan)


def _reach(percentiles: np.ndarray, slides: int | np.ndarray, deviations: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the arms end that would be this many standard deviations long, were the slides without number."""
    low, middle, high = percentiles
    count = np.asarray(slides, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        longer = stdtrit(count - 1, ndtr(deviations)) * np.sqrt(count / (count - 1)) / NORMAL
    return middle - longer * (middle - low), middle + longer * (high - middle)
