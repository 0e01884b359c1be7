"""Consensus: where the trained networks of all other recipes look on average, and how well each network follows it.

Li et al. 2023 (arXiv 2109.00707) average over 80 networks and find that the consensus localises objects better than
single ones.
"""

from collections.abc import Sequence

import numpy as np

from pcam_agreement.agreement.measures import codes


def consensus_maps(heatmaps: np.ndarray, recipes: Sequence[str], trained: Sequence[bool]) -> np.ndarray:
    """Of each recipe, in order of appearance, the mean ranks of the other recipes' trained networks: [recipes, n, p].

    heatmaps: float16 of m networks on n patches, [m, n, h, w]. Ranks (ties at their mean, in units of p) give every
    network the same weight; a constant heatmap has none. Maps are shifted to a least value of 0, and 0 everywhere where
    no other network looks anywhere.
    """
    m, n = heatmaps.shape[:2]
    names = list(dict.fromkeys(recipes))
    sums = np.zeros((len(names), n, heatmaps[0, 0].size), np.float32)
    for i in range(m):
        if trained[i]:
            ranks = np.stack([_centred_ranks(pixels) for pixels in codes(heatmaps[i]).reshape(n, -1)])
            for row, name in enumerate(names):
                if name != recipes[i]:
                    sums[row] += ranks
    return sums - sums.min(-1, keepdims=True)


def _centred_ranks(pixels: np.ndarray) -> np.ndarray:
    """The ranks of codes [p] less their mean, over p; by counting, which is faster than sorting."""
    counts = np.bincount(pixels)
    ranks = (counts.cumsum() - (counts - 1) / 2)[pixels]
    return ((ranks - (len(pixels) + 1) / 2) / len(pixels)).astype(np.float32)


def consensus_scores(spearman: np.ndarray, recipes: Sequence[str], trained: Sequence[bool]) -> np.ndarray:
    """The correlation [m, n] of each network's ranks with the mean of the others', from those of all pairs [pairs, n].

    The others: trained networks of other recipes. With standardised ranks z, the correlation of z_i with the mean of
    z_j is sum_j rho_ij over the root of sum_jk rho_jk, so that no heatmap is needed. NaN where there is none.
    """
    m, n = len(recipes), spearman.shape[1]
    rho = np.zeros((m, m, n))
    first, second = np.triu_indices(m, 1)
    rho[first, second] = rho[second, first] = np.nan_to_num(spearman)
    varies = np.zeros((m, n), bool)  # in some pair that is defined
    for ends in (first, second):
        np.logical_or.at(varies, ends, np.isfinite(spearman))
    rho[np.arange(m), np.arange(m)] = varies
    scores = np.full((m, n), np.nan)
    for i in range(m):
        others = [j for j in range(m) if trained[j] and recipes[j] != recipes[i]]
        length = np.sqrt(rho[np.ix_(others, others)].sum((0, 1)).clip(0))
        np.divide(rho[i, others].sum(0), length, out=scores[i], where=(length > 0) & varies[i])
    return scores
