"""What neighbouring superpixels do together, taken out of the scores before LIME's regression.

A linear model leaves a rest of the scores, which pulls at its coefficients: with other draws, in other ways. In a
convolutional network, much of the rest is products of two or three superpixels that touch. They are estimated from the
same draws, what LIME's coefficients owe to them is computed without drawing, and the regression sees the scores without
them. The coefficients of ever more draws stay what they were, and are sooner there; where neighbours do nothing
together, hardly later.

A superpixel is a sign here, 1 where on and -1 where off. Draws come with their opposites: half the difference of the
two scores holds the products of an odd number of signs, half the sum those of an even number.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from pcam_agreement.attribution.ridge import weighted_ridge

LEAST = 0.3  # what a superpixel that does nothing alone may do together with others, in mean effects


@dataclass(frozen=True)
class Interactions:
    """Of a patch with d superpixels and s draws: their share in each score, [s], and in LIME's coefficients, [d]; how
    what is left of half the difference of each pair's scores pulls at them, [s / 2 - 1, d] (not of the first pair)."""

    shares: Tensor
    coefficients: Tensor
    pulls: Tensor


def touching(labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pairs [q, 2] of superpixels that touch and triples [t, 3] of which one touches both others; labels: [h, w]."""
    below, right = (labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])
    beside = np.concatenate([np.stack(both, -1).reshape(-1, 2) for both in (below, right)])
    pairs = np.unique(np.sort(beside[beside[:, 0] != beside[:, 1]], 1), axis=0).astype(np.int64)
    triples = {
        tuple(sorted((middle, *ends)))
        for middle in range(int(labels.max()) + 1)
        for ends in combinations((pairs[(pairs == middle).any(1)].sum(1) - middle).tolist(), 2)
    }
    return torch.from_numpy(pairs), torch.tensor(sorted(triples), dtype=torch.int64).view(-1, 3)


def interactions(
    z: Tensor, scores: Tensor, groups: tuple[Tensor, Tensor], kernel: np.ndarray, ridge: float
) -> Interactions:
    """Of draws z [s, d], each followed by its opposite, with these scores [s]; the first two, all and nothing, are no
    random ones and left out.

    groups: of `touching`; kernel: [d + 1], LIME's weight of a draw with so many superpixels on; ridge: LIME's.
    """
    signs = 2 * z[2::2] - 1
    first, second = scores.view(-1, 2)[1:].unbind(1)
    even, odd = (first + second) / 2, (first - second) / 2
    # What matters alone is expected to matter together with others.
    sizes = (signs.mT @ odd).abs().nan_to_num(0, 0, 0)
    sizes = sizes / sizes.mean().clamp(min=torch.finfo(sizes.dtype).tiny) + LEAST
    pairs, triples = (signs[:, members].prod(2) for members in groups)
    scales = [sizes[members].log().mean(1).exp() for members in groups]
    of_pairs, _ = _effects(torch.ones_like(signs[:, :1]), even - even.mean(), pairs, scales[0])
    of_triples, pulls = _effects(signs, odd, triples, scales[1])
    even, odd = pairs @ of_pairs, triples @ of_triples
    return Interactions(
        torch.cat([scores.new_zeros(2), torch.stack([even + odd, even - odd], 1).flatten()]),
        _by_lime(groups, (of_pairs, of_triples), kernel, 2 * len(signs), ridge),
        2 * pulls,  # between off and on a sign changes by 2
    )


def _effects(own: Tensor, target: Tensor, products: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Effects [t] of products [p, t] on a target [p]; how each row pulls at the coefficients of features `own`, [p, k].

    Effects are taken for random, with standard deviations in proportion to `scales` and as much variance in all as the
    noise, and predicted by generalised least squares, which also gives the coefficients (Henderson 1975).
    """
    scales = scales / scales.norm()
    scaled = products * scales
    lower = torch.linalg.cholesky(torch.eye(len(scaled), dtype=scaled.dtype, device=scaled.device) + scaled @ scaled.mT)
    white = torch.linalg.solve_triangular(lower, torch.cat([own, target[:, None]], 1), upper=False)[None]
    features, target = white[..., :-1], white[..., -1]
    fit = weighted_ridge(features, target, torch.ones_like(target), 1.0)
    rest = target[0, :, None] - features[0] @ fit.coefficients[0, :, None]
    return scales * (scaled.mT @ torch.linalg.solve_triangular(lower.mT, rest, upper=True))[:, 0], fit.pulls[0]


def _by_lime(
    groups: tuple[Tensor, Tensor], effects: tuple[Tensor, Tensor], kernel: np.ndarray, samples: int, ridge: float
) -> Tensor:
    """LIME's coefficients [d] of the sum of the groups' effects, as they would be on average over draws."""
    d, means = len(kernel) - 1, _means(kernel)
    weight = samples * float(binom.pmf(np.arange(d + 1), d, 0.5) @ kernel)  # of all draws
    covariance = effects[0].new_zeros(d)
    for members, found in zip(groups, effects, strict=True):
        order = members.shape[1]
        within, without = (means[one] - means[1] * means[order] for one in (order - 1, order + 1))
        covariance += without * found.sum()
        covariance.index_add_(0, members.flatten(), (within - without) * found.repeat_interleave(order))
    # All superpixels being alike, the normal equations have two numbers, on and off the diagonal.
    own, other = weight * (1 - means[1] ** 2) / 4 + ridge, weight * (means[2] - means[1] ** 2) / 4
    target = weight * covariance / 2
    return (target - other * target.sum() / (own + (d - 1) * other)) / (own - other)


def _means(kernel: np.ndarray) -> list[float]:
    """The weighted means of the products of no, one, ... four different ones of d signs, drawn independently."""
    d = len(kernel) - 1
    on = np.arange(d + 1)
    shares = binom.pmf(on, d, 0.5) * kernel
    shares /= max(shares.sum(), np.finfo(float).tiny)
    sums = [np.ones(d + 1), 2.0 * on - d]  # over all products of so many: Krawtchouk's polynomials
    for m in range(1, 4):
        sums.append((sums[1] * sums[m] - (d - m + 1) * sums[m - 1]) / (m + 1))
    return [float(shares @ total) / max(comb(d, m), 1) for m, total in enumerate(sums)]
