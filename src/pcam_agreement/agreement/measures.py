"""Agreement of heatmaps of the same patches: IoU (thresholded, weighted), kappa and rank correlation, with chance."""

from collections.abc import Sequence
from functools import cache

import numpy as np

MEASURES = ("iou", "kappa", "weighted_iou", "weighted_iou_chance", "spearman")
VALUES = np.arange(2**15, dtype=np.uint16).view(np.float16).astype(np.float32)  # of every code


def chance_iou(fraction: float, ties: str = "share") -> float:
    """The IoU of two independent random masks of this area: p / (2 - p).

    NaN with ties = "all", where the areas of masks differ and none is p.
    """
    return fraction / (2 - fraction) if ties == "share" else np.nan


def kappa(iou: np.ndarray, fraction: float, ties: str = "share") -> np.ndarray:
    """Cohen's kappa of two masks of the same area: (Dice - p) / (1 - p), 0 at chance, 1 where they are equal.

    NaN with ties = "all", where the areas of masks differ.
    """
    dice = 2 * iou / (1 + iou)
    return (dice - fraction) / (1 - fraction) if ties == "share" else np.full_like(dice, np.nan)


def codes(heatmaps: np.ndarray) -> np.ndarray:
    """Non-negative float16 heatmaps as integers of the same order, int16: their bits, without the sign of -0.

    VALUES[code] is the value.
    """
    return np.bitwise_and(np.asarray(heatmaps, np.float16).view(np.int16), np.int16(0x7FFF), order="C")


def measure(
    heatmaps: np.ndarray, constant: np.ndarray, fraction: float, ties: str = "share", curve: Sequence[float] = ()
) -> dict[str, np.ndarray]:
    """All measures of MEASURES for all pairs of m heatmaps of the same n patches, and the IoU at other top fractions.

    heatmaps: non-negative float16, mean 1, [m, n, h, w]; constant: [m, n], which of them are constant; fraction, ties:
    of `masks.top_mask`. Each result is [m (m - 1) / 2, n], pairs in the order of itertools.combinations, and
    curve_iou [len(curve), m (m - 1) / 2, n]; NaN where either heatmap is constant.

    weighted_iou_chance is the weighted IoU if the pixels of one heatmap were shuffled: E min(X, Y) / E max(X, Y) for a
    pixel X of one and an independent pixel Y of the other, which for mean 1 is (1 - G) / (1 + G) with G half the mean
    absolute difference of the two, and for a heatmap and its shuffle the Gini coefficient. (The ratio of the
    expectations; the mean over shuffles differs from it by less than 1 / p.)
    """
    m, n = heatmaps.shape[:2]
    p = heatmaps[0, 0].size
    first, second = pair_indices(m)
    results = {name: np.empty((len(first), n)) for name in MEASURES}
    results["curve_iou"] = np.empty((len(curve), len(first), n))
    shares = sorted({fraction, *curve})
    for patch in range(n):
        pixels = codes(heatmaps[:, patch]).reshape(m, p)
        thresholds, exceeding, values, ranks = _distributions(pixels, shares)
        ious = {share: _mask_iou(pixels, thresholds[:, row], share, ties) for row, share in enumerate(shares)}
        results["iou"][:, patch] = ious[fraction]
        for row, share in enumerate(curve):
            results["curve_iou"][row, :, patch] = ious[share]
        results["weighted_iou"][:, patch] = _weighted_iou(values)
        results["weighted_iou_chance"][:, patch] = _weighted_chance(exceeding, values)
        results["spearman"][:, patch] = _spearman(ranks)
    results["kappa"] = kappa(results["iou"], fraction, ties)
    for values in results.values():
        values[..., constant[first] | constant[second]] = np.nan
    return results


@cache
def pair_indices(m: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and the second of all pairs of m, in the order of itertools.combinations."""
    return np.triu_indices(m, 1)


def _mask_iou(pixels: np.ndarray, thresholds: np.ndarray, fraction: float, ties: str) -> np.ndarray:
    """The IoU of all pairs of masks of codes [m, p]: 1 above a threshold [m], less where they tie with it."""
    thresholds = thresholds.astype(pixels.dtype)[:, None]
    above, tied = pixels > thresholds, pixels == thresholds
    # 1 with 1: bits. 1 with ties and ties with ties: products of matrices of the few pixels with ties.
    columns = np.flatnonzero(tied.any(0))
    ones, shared = above[:, columns].astype(np.float32), tied[:, columns].astype(np.float32)
    one_tied, both_tied = (ones @ shared.T).astype(float), (shared @ shared.T).astype(float)
    packed = np.packbits(above, axis=-1)
    bits = packed if packed.shape[-1] % 8 else packed.view(np.uint64)
    inside, tie_count = np.bitwise_count(bits).sum(-1, dtype=np.int64), both_tied.diagonal()
    share = (round(fraction * pixels.shape[-1]) - inside) / tie_count if ties == "share" else np.ones(len(pixels))
    area = inside + share * tie_count
    i, j = pair_indices(len(pixels))
    intersection = np.bitwise_count(bits[i] & bits[j]).sum(-1, dtype=np.int32) + share[j] * one_tied[i, j]
    intersection += share[i] * one_tied[j, i] + np.minimum(share[i], share[j]) * both_tied[i, j]
    return intersection / (area[i] + area[j] - intersection)


def _distributions(pixels: np.ndarray, fractions: Sequence[float]) -> tuple[np.ndarray, ...]:
    """The distributions of the values of heatmaps, codes [m, p], by counting, which is faster than sorting.

    The thresholds of the top fractions, codes [m, len(fractions)]; how many pixels exceed each code, [m, highest code
    + 1]; the values [m, p]; and twice the ranks [m, p], the highest first, ties at their mean, less their mean.
    """
    m, p = pixels.shape
    places = [p - round(fraction * p) for fraction in fractions]
    thresholds = np.empty((m, len(places)), np.int64)
    length = int(pixels.max()) + 1
    exceeding = np.empty((m, length), np.float32)
    values, ranks = np.empty((2, m, p), np.float32)
    for row, heatmap in enumerate(pixels):
        index = heatmap.astype(np.intp)
        up_to = np.bincount(index, minlength=length).cumsum()
        thresholds[row] = up_to.searchsorted(places, "right")
        exceeding[row] = p - up_to
        values[row] = VALUES[index]
        rank = exceeding[row].copy()
        rank[1:] += exceeding[row, :-1] - p
        ranks[row] = rank[index]
    return thresholds, exceeding, values, ranks


def _weighted_iou(values: np.ndarray) -> np.ndarray:
    """The sum of minima over the sum of maxima of all pairs of heatmaps [m, p]."""
    i, j = pair_indices(len(values))
    ones = np.ones(values.shape[-1], np.float32)
    total = values @ ones
    rows = [np.minimum(values[row], values[row + 1 :]) @ ones for row in range(len(values))]  # the last one is empty
    lesser = np.concatenate(rows).astype(np.float64)
    return _ratio(lesser, total[i] + total[j] - lesser)


def _weighted_chance(exceeding: np.ndarray, values: np.ndarray) -> np.ndarray:
    """E min(X, Y) / E max(X, Y) of all pairs of heatmaps, X and Y independent pixels of the two.

    E min(X, Y) is the integral of P(X > t) P(Y > t) over t, and between two codes both are constant.
    """
    (m, p), means = values.shape, values.mean(-1, dtype=np.float64)
    i, j = pair_indices(m)
    scaled = exceeding * np.sqrt(np.diff(VALUES[: exceeding.shape[1] + 1]))
    lesser = (scaled @ scaled.T)[i, j] / np.float64(p) ** 2
    return _ratio(lesser, means[i] + means[j] - lesser)


def _spearman(ranks: np.ndarray) -> np.ndarray:
    """The correlation of all pairs of ranks [m, p] with mean 0."""
    i, j = pair_indices(len(ranks))
    products = (ranks @ ranks.T).astype(np.float64)
    length = np.sqrt(products.diagonal())
    return _ratio(products[i, j], length[i] * length[j])


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, NaN where b is 0: a constant heatmap."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)
