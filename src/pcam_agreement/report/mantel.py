"""Does a gap in performance go with a gap in agreement? A rank correlation over pairs and its permutation test."""

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np

EXACT = 8  # networks up to which all permutations are counted: 40,320
RANDOM = 10_000  # permutations of more networks than that
LEVEL = 0.05


@dataclass(frozen=True)
class Mantel:
    """rho: Spearman's over pairs; p: two-sided; critical: the least |rho| that would be significant, NaN if none is."""

    rho: float
    p: float
    critical: float


def mantel(gap: np.ndarray, agreement: np.ndarray, seed: int) -> Mantel:
    """Mantel's test (1967) of two symmetric matrices [a, a] over a networks.

    The pairs of one network are not independent of each other, so networks are permuted: permuting pairs triples the
    false positives where one network is an outlier. NaN where either is the same in all
    pairs or not known in one, or there are fewer than three networks.
    """
    gap, agreement = gap.round(12), agreement.round(12)  # rounding errors would break ties
    a = len(gap)
    first, second = np.triu_indices(a, 1)
    if a < 3 or not all(np.ptp(matrix[first, second]) > 0 for matrix in (gap, agreement)):  # of NaN it is NaN
        return Mantel(np.nan, np.nan, np.nan)
    ranks = np.zeros((2, a, a))
    for matrix, values in zip(ranks, (gap, agreement), strict=True):
        ranked = _ranks(values[first, second])
        matrix[first, second] = matrix[second, first] = (ranked - ranked.mean()) / np.linalg.norm(
            ranked - ranked.mean()
        )
    if a <= EXACT:
        orders = np.array(list(permutations(range(a))))
    else:
        random = np.random.default_rng(seed)
        orders = np.stack([np.arange(a), *(random.permutation(a) for _ in range(RANDOM - 1))])
    rhos = np.abs(ranks[1][orders[:, first], orders[:, second]] @ ranks[0][first, second])
    rho = float(ranks[1][first, second] @ ranks[0][first, second])
    ordered = np.sort(rhos)
    allowed = math.floor(LEVEL * len(rhos) + 1e-9)  # so many permutations may reach a significant rho
    larger = ordered[ordered > ordered[len(ordered) - allowed - 1] + 1e-9]
    return Mantel(rho, float((rhos >= abs(rho) - 1e-9).mean()), float(larger[0]) if larger.size else np.nan)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties at their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum()
    return (last - (count - 1) / 2)[place]
