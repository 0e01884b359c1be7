"""Agreement of heatmaps of the same patches: IoU (thresholded, weighted), kappa and rank correlation, with chance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

MEASURES = ("iou", "kappa", "weighted_iou", "weighted_iou_chance", "spearman")
PARTNERS = 20  # other patches that the null of a patch comes from, at least, where there are as many
VALUES = np.arange(2**15, dtype=np.uint16).view(np.float16).astype(np.float32)  # of every code


def chance_iou(fraction: float, ties: str = "share") -> float:
    """The IoU of two independent random masks of this area: p / (2 - p).

    NaN with ties = "all", where the areas of masks differ and none is p.
    """
    return fraction / (2 - fraction) if ties == "share" else np.nan


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of minima over sum of maxima along the last axis: on 0/1 masks the IoU, on heatmaps the weighted IoU.

    NaN where both are zero everywhere.
    """
    intersection, union = np.minimum(a, b).sum(-1, dtype=np.float64), np.maximum(a, b).sum(-1, dtype=np.float64)
    return np.divide(intersection, union, out=np.full_like(union, np.nan), where=union > 0)


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


def top_iou(pixels: np.ndarray, fraction: float, ties: str = "share") -> np.ndarray:
    """The IoU [n, m (m - 1) / 2] of all pairs of the masks that `heatmap.top_mask` makes of codes [n, m, p].

    Of a few patches at once: for each by itself, the threads of a block would mostly wait for the interpreter.
    """
    p = pixels.shape[-1]
    place = p - round(fraction * p)
    # NumPy selects 32-bit integers several times faster than others.
    thresholds = np.partition(pixels.astype(np.int32), place, axis=-1)[..., place]
    return _mask_iou(pixels, thresholds, fraction, ties)


def measure(
    heatmaps: np.ndarray, constant: np.ndarray, fraction: float, ties: str = "share", curve: Sequence[float] = ()
) -> dict[str, np.ndarray]:
    """All measures of MEASURES for all pairs of m heatmaps of the same n patches, and the IoU at other top fractions.

    heatmaps: non-negative float16, mean 1, [m, n, h, w]; constant: [m, n], which of them say nothing; fraction, ties:
    of `heatmap.top_mask`. Each answer is [m (m - 1) / 2, n], pairs in the order of itertools.combinations, and
    curve_iou [len(curve), m (m - 1) / 2, n]; NaN where either heatmap says nothing.

    weighted_iou_chance is the weighted IoU if the pixels of one heatmap were shuffled: E min(X, Y) / E max(X, Y) for a
    pixel X of one and an independent pixel Y of the other, which for mean 1 is (1 - G) / (1 + G) with G half the mean
    absolute difference of the two, and for a heatmap and its shuffle the Gini coefficient. (The ratio of the
    expectations; the mean over shuffles differs from it by less than 1 / p.)
    """
    m, n = heatmaps.shape[:2]
    p = heatmaps[0, 0].size
    first, second = _pairs(m)
    found = {name: np.empty((len(first), n)) for name in MEASURES}
    found["curve_iou"] = np.empty((len(curve), len(first), n))
    shares = sorted({fraction, *curve})
    for patch in range(n):
        pixels = codes(heatmaps[:, patch]).reshape(m, p)
        thresholds, exceeding, values, ranks = _distributions(pixels, shares)
        one, own = pixels[None], thresholds.T[:, None]
        ious = {share: _mask_iou(one, own[row], share, ties)[0] for row, share in enumerate(shares)}
        found["iou"][:, patch] = ious[fraction]
        for row, share in enumerate(curve):
            found["curve_iou"][row, :, patch] = ious[share]
        found["weighted_iou"][:, patch] = _weighted_iou(values)
        found["weighted_iou_chance"][:, patch] = _weighted_chance(exceeding, values)
        found["spearman"][:, patch] = _spearman(ranks)
    found["kappa"] = kappa(found["iou"], fraction, ties)
    for values in found.values():
        values[..., constant[first] | constant[second]] = np.nan
    return found


def null_iou(masks: np.ndarray, constant: np.ndarray, labels: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """The IoU [m (m - 1) / 2, n] of one network's mask with the other network's mask of *another* patch.

    masks: of m networks and n patches as `heatmap.top_mask` makes them, [m, n, p]; constant: [m, n]; labels, slides:
    [n]. The mean over all other patches of the same label and of other slides, which is what random derangements
    come to: centre bias, smoothness and shape are kept, so that what is above it is about this very patch. NaN where
    there is no such patch or the patch's own heatmap says nothing.
    """
    m, n = constant.shape
    flat = masks.reshape(m * n, -1)
    # A mask is 1, 0 and one value for its ties. With 0 and 1 alone the sum of minima is a product of matrices; where
    # two ties meet, the lesser value takes the place of their product.
    tied = np.stack([(one > 0) & (one < 1) for one in flat])
    share = np.array([one[own].max(initial=0) for one, own in zip(flat, tied, strict=True)])
    area = flat.sum(1)
    ties = tied[:, tied.any(0)].astype(np.float32)
    intersection = flat @ flat.T
    intersection += (np.minimum.outer(share, share) - np.multiply.outer(share, share)) * (ties @ ties.T)
    iou = intersection / (np.add.outer(area, area) - intersection)
    iou = iou.reshape(m, n, m, n).swapaxes(1, 2)  # [m, m, n, n]
    use = (labels[:, None] == labels) & (slides[:, None] != slides) & ~constant[:, None]  # of the second: [m, n, n]
    with np.errstate(invalid="ignore"):
        directed = np.where(use, iou, 0).sum(-1, dtype=np.float64) / use.sum(-1)
    first, second = _pairs(m)
    null = (directed[first, second] + directed[second, first]) / 2
    null[constant[first] | constant[second]] = np.nan
    return null


def groups(labels: np.ndarray, slides: np.ndarray) -> list[np.ndarray]:
    """Patches [n] in groups of one label, to be each other's partners in `null_iou`: rows, each in one group.

    As small as they can be (its cost grows with their size) with slides dealt evenly and, where there are as many, at
    least PARTNERS patches of other slides for every patch.
    """
    found = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(slides[rows], kind="stable")]
        others = len(rows) - np.unique(slides[rows], return_counts=True)[1].max()
        # Dealing gives each group a share of all and of a slide that is off by less than one patch: two to spare.
        # Of one slide only there are no partners, in groups of any size.
        count = max(1, (others or len(rows)) // (PARTNERS + 2))
        found += [rows[start::count] for start in range(count)]
    return found


@cache
def _pairs(m: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and the second of all pairs of m, in the order of itertools.combinations."""
    return np.triu_indices(m, 1)


def _mask_iou(pixels: np.ndarray, thresholds: np.ndarray, fraction: float, ties: str) -> np.ndarray:
    """The IoU of all pairs of masks of codes [n, m, p]: 1 above a threshold [n, m], less where they tie with it."""
    n, m = thresholds.shape
    thresholds = thresholds.astype(pixels.dtype)[..., None]
    above, tied = pixels > thresholds, pixels == thresholds
    # Ones meet ones: bits. Ones meet ties and ties meet ties: products of matrices of the few pixels with ties.
    one_tied, both_tied = np.empty((2, n, m, m))
    for patch, some in enumerate(map(np.flatnonzero, tied.any(1))):
        ones, shared = above[patch][:, some].astype(np.float32), tied[patch][:, some].astype(np.float32)
        one_tied[patch], both_tied[patch] = ones @ shared.T, shared @ shared.T
    packed = np.packbits(above, axis=-1)
    bits = packed if packed.shape[-1] % 8 else packed.view(np.uint64)
    inside, tie_count = np.bitwise_count(bits).sum(-1, dtype=np.int64), both_tied.diagonal(axis1=1, axis2=2)
    share = (round(fraction * pixels.shape[-1]) - inside) / tie_count if ties == "share" else np.ones((n, m))
    area = inside + share * tie_count
    i, j = _pairs(m)
    intersection = np.bitwise_count(bits[:, i] & bits[:, j]).sum(-1, dtype=np.int32) + share[:, j] * one_tied[:, i, j]
    intersection += share[:, i] * one_tied[:, j, i] + np.minimum(share[:, i], share[:, j]) * both_tied[:, i, j]
    return intersection / (area[:, i] + area[:, j] - intersection)


def _distributions(pixels: np.ndarray, fractions: Sequence[float]) -> tuple[np.ndarray, ...]:
    """What the values of heatmaps, codes [m, p], are like, by counting them, which takes less than sorting.

    Where the top fractions start, codes [m, len(fractions)]; how many pixels exceed each code, [m, highest code + 1];
    the values [m, p]; and twice the ranks [m, p], the highest first, ties at their mean, less their mean.
    """
    m, p = pixels.shape
    places = [p - round(fraction * p) for fraction in fractions]
    thresholds = np.empty((m, len(places)), np.int64)
    length = int(pixels.max()) + 1
    exceeding = np.empty((m, length), np.float32)
    values, ranks = np.empty((2, m, p), np.float32)
    for row, one in enumerate(pixels):
        index = one.astype(np.intp)
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
    i, j = _pairs(len(values))
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
    i, j = _pairs(m)
    scaled = exceeding * np.sqrt(np.diff(VALUES[: exceeding.shape[1] + 1]))
    lesser = (scaled @ scaled.T)[i, j] / np.float64(p) ** 2
    return _ratio(lesser, means[i] + means[j] - lesser)


def _spearman(ranks: np.ndarray) -> np.ndarray:
    """The correlation of all pairs of ranks [m, p] with mean 0."""
    i, j = _pairs(len(ranks))
    products = (ranks @ ranks.T).astype(np.float64)
    length = np.sqrt(products.diagonal())
    return _ratio(products[i, j], length[i] * length[j])


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, NaN where b is 0: a heatmap that says nothing."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)
