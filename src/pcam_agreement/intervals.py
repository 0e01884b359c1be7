"""Agreement with its intervals: means over patches, how they vary with the slides, and where they lie between null
and ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimates:
    """Of k pairs: means over patches [k], and the same of every bootstrap draw [draws, k]; NaN where undefined.

    undefined: why a pair has no normalised agreement, "" where it has one.
    """

    iou: np.ndarray
    null: np.ndarray
    normalised: np.ndarray
    undefined: list[str]
    slides: int
    draws: dict[str, np.ndarray]  # iou, null, excess (iou - null), normalised

    def interval(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The interval [k], [k] of iou, null, excess or normalised of each pair."""
        return interval(self.draws[name], self.slides)

    def interval_of_mean(self, name: str, pairs: np.ndarray) -> tuple[float, float]:
        """The interval of the mean over these pairs; NaN where there is none."""
        if not pairs.any():
            return np.nan, np.nan
        low, high = interval(self.draws[name][:, pairs].mean(1, keepdims=True), self.slides)
        return float(low[0]), float(high[0])


def estimate(
    iou: np.ndarray,
    null: np.ndarray,
    slides: np.ndarray,
    ceilings: Sequence[Sequence[Sequence[int]]],
    count: int,
    seed: int,
) -> Estimates:
    """Mean agreement of k pairs, its null, and the normalised agreement A = (J - J0) / (Jceil - J0).

    iou, null: [k, n], NaN where a heatmap says nothing; slides: of the patches, [n]; ceilings: for every pair and each
    of its networks that was trained again from another seed, the pairs that say how much those trainings agree. A
    bootstrap draw takes slides with replacement and all that belongs to them, and computes A anew as a whole.
    """
    k, different = len(iou), len(np.unique(slides))
    both = np.concatenate([iou, null])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.isfinite(both).sum(1)
        means = np.where(means > 0, np.nansum(both, 1) / means, np.nan)
    drawn = bootstrap_means(both, slides, count, seed)
    normalised, normalised_draws = np.full(k, np.nan), np.full((count, k), np.nan)
    undefined = []
    for pair, groups in enumerate(ceilings):
        reason = ""
        if not groups:
            reason = "no twin"
        elif any(pair in group for group in groups):
            reason = "is a ceiling"
        elif np.isnan(means[[pair, k + pair]]).any():
            reason = "one slide" if different < 2 else "no patch"
        else:
            ceiling = np.mean([means[list(group)].mean() for group in groups])
            ceiling_draws = np.mean([drawn[:, list(group)].mean(1) for group in groups], axis=0)
            room = ceiling_draws - drawn[:, k + pair]
            if not interval(room[:, None], different)[0][0] > 0:
                reason = "ceiling reaches null"
            else:
                normalised[pair] = (means[pair] - means[k + pair]) / (ceiling - means[k + pair])
                with np.errstate(invalid="ignore", divide="ignore"):
                    normalised_draws[:, pair] = (drawn[:, pair] - drawn[:, k + pair]) / room
        undefined.append(reason)
    draws = {
        "iou": drawn[:, :k],
        "null": drawn[:, k:],
        "excess": drawn[:, :k] - drawn[:, k:],
        "normalised": normalised_draws,
    }
    return Estimates(means[:k], means[k:], normalised, undefined, different, draws)


def bootstrap_means(values: np.ndarray, slides: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Means over patches of values [k, n], NaN left out, in `count` bootstrap draws of the slides: [count, k].

    Patches of a slide are alike, so slides are drawn and not patches; to draw patches again within them would count
    the variance within slides twice (Davison and Hinkley 1997, section 3.8). NaN everywhere with one slide only.
    """
    names, place = np.unique(slides, return_inverse=True)
    if len(names) < 2:
        return np.full((count, len(values)), np.nan)
    finite = np.isfinite(values)
    filled = np.where(finite, values, 0)
    sums, patches = np.zeros((2, len(names), len(values)))
    np.add.at(sums, place, filled.T)
    np.add.at(patches, place, finite.T)
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), count)
    with np.errstate(invalid="ignore"):
        return (times @ sums) / (times @ patches)


def interval(draws: np.ndarray, slides: int) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval of draws [d, k]: low [k], high [k]; NaN where a tenth of the draws or more is NaN.

    With few slides plain percentiles are too narrow; these are Hesterberg's expanded ones (2015, arXiv 1411.5279).
    """
    low, high = np.full((2, draws.shape[1]), np.nan)
    known = np.isfinite(draws).mean(0) > 0.9
    if known.any():
        widest = stats.t.ppf((1 + LEVEL) / 2, slides - 1) * (slides / (slides - 1)) ** 0.5
        low[known], high[known] = np.nanquantile(draws[:, known], stats.norm.cdf([-widest, widest]), axis=0)
    return low, high
