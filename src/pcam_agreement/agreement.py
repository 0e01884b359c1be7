"""Agreement of heatmaps of the same patches: IoU (thresholded, weighted), kappa and rank correlation, with chance."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.stats import rankdata

MEASURES = ("iou", "kappa", "weighted_iou", "weighted_iou_chance", "spearman")


def chance_iou(fraction: float) -> float:
    """The IoU of two independent random masks of this area: p / (2 - p)."""
    return fraction / (2 - fraction)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of minima over sum of maxima along the last axis: on 0/1 masks the IoU, on heatmaps the weighted IoU.

    NaN where both are zero everywhere.
    """
    intersection, union = np.minimum(a, b).sum(-1, dtype=np.float64), np.maximum(a, b).sum(-1, dtype=np.float64)
    return np.divide(intersection, union, out=np.full_like(union, np.nan), where=union > 0)


def kappa(iou: np.ndarray, fraction: float) -> np.ndarray:
    """Cohen's kappa of two masks of the same area: (Dice - p) / (1 - p), 0 at chance, 1 where they are equal."""
    dice = 2 * iou / (1 + iou)
    return (dice - fraction) / (1 - fraction)


def weighted_chance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The weighted IoU [n] of mean-1 heatmaps [n, p] if the pixels of one were shuffled: (1 - G) / (1 + G).

    G is half the mean absolute difference between a pixel of a and a pixel of b, which for a = b is the Gini
    coefficient. (The ratio of the expectations; the mean over shuffles differs from it by less than 1 / p.)
    """
    p = a.shape[-1]
    both = np.sort(np.concatenate([np.sort(a, -1), np.sort(b, -1)], -1).astype(np.float64), -1, kind="stable")
    cross = _sum_of_differences(both) - _sum_of_differences(np.sort(a, -1)) - _sum_of_differences(np.sort(b, -1))
    half = cross / (2 * p * p)
    return (1 - half) / (1 + half)


def measure(heatmaps: np.ndarray, masks: np.ndarray, constant: np.ndarray, fraction: float) -> dict[str, np.ndarray]:
    """All measures of MEASURES for all pairs of m heatmaps of the same n patches.

    heatmaps: non-negative, mean 1, [m, n, h, w]; masks: their top fraction (`heatmap.top_mask`), [m, n, h * w];
    constant: [m, n], which of them say nothing. Each answer is [m (m - 1) / 2, n], pairs in the order of
    itertools.combinations, NaN where either heatmap says nothing.
    """
    m, n = heatmaps.shape[:2]
    flat = np.asarray(heatmaps, np.float32).reshape(m, n, -1)
    ranks = np.stack([_standardised_ranks(one) for one in flat])
    pairs = list(combinations(range(m), 2))
    results = {name: np.full((len(pairs), n), np.nan) for name in MEASURES}
    for row, (i, j) in enumerate(pairs):
        use = ~(constant[i] | constant[j])
        iou = overlap(masks[i, use], masks[j, use])
        results["iou"][row, use] = iou
        results["kappa"][row, use] = kappa(iou, fraction)
        results["weighted_iou"][row, use] = overlap(flat[i, use], flat[j, use])
        results["weighted_iou_chance"][row, use] = weighted_chance(flat[i, use], flat[j, use])
        results["spearman"][row, use] = (ranks[i, use] * ranks[j, use]).sum(-1)
    return results


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
    ties = ((flat > 0) & (flat < 1)).astype(np.float32)
    share, area = (flat * ties).max(1), flat.sum(1)
    intersection = flat @ flat.T
    intersection += (np.minimum.outer(share, share) - np.multiply.outer(share, share)) * (ties @ ties.T)
    iou = (intersection / (np.add.outer(area, area) - intersection)).reshape(m, n, m, n)
    others = (labels[:, None] == labels) & (slides[:, None] != slides)
    said = ~constant
    rows = []
    for i, j in combinations(range(m), 2):
        halves = []
        for first, second in ((i, j), (j, i)):
            use = others & said[second]
            with np.errstate(invalid="ignore"):
                halves.append(np.where(use, iou[first, :, second], 0).sum(1) / use.sum(1))
        rows.append(np.where(said[i] & said[j], np.mean(halves, axis=0), np.nan))
    return np.stack(rows)


def _sum_of_differences(ordered: np.ndarray) -> np.ndarray:
    """The sum over i < j of x_j - x_i for sorted rows."""
    p = ordered.shape[-1]
    return (ordered * (2 * np.arange(p) - p + 1.0)).sum(-1, dtype=np.float64)


def _standardised_ranks(maps: np.ndarray) -> np.ndarray:
    """Ranks (ties averaged) with mean 0 and length 1, so that a dot product is Spearman's rho; zero if constant."""
    ranks = rankdata(maps, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    length = np.linalg.norm(ranks, axis=-1, keepdims=True)
    return np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)
