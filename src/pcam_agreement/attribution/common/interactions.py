"""Interactions of adjacent superpixels, estimated and taken out of the scores before LIME's regression.

A linear model leaves residuals, which disturb its coefficients, differently with other samples. In a convolutional
network, many of them are products of two or three adjacent superpixels. They are estimated from the
same samples, LIME's coefficients of them are computed in closed form, and the regression sees the scores without them.
The coefficients converge to LIME's with fewer samples; where neighbours do not interact, it costs almost nothing.

A superpixel is a sign here, 1 where on and -1 where off. Samples come with their opposites: half the difference of the
two scores holds the products of an odd number of signs, half the sum those of an even number.
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.common.regression import weighted_ridge

FLOOR = 0.3  # expected interaction of a superpixel without an effect alone, in units of the mean effect


@dataclass(frozen=True)
class Interactions:
    """Of a patch with d superpixels and s samples.

    contributions: of the interactions to each score, [s]; coefficients: LIME's of them, [d]; influence: of what is left
    of half the difference of each pair's scores on these, [s / 2 - 1, d] (without the first pair).
    """

    contributions: Tensor
    coefficients: Tensor
    influence: Tensor


def adjacent(labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pairs [q, 2] of adjacent superpixels and triples [t, 3] of which one is adjacent to both others.

    labels: [h, w].
    """
    below, right = (labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])
    neighbours = np.concatenate([np.stack(both, -1).reshape(-1, 2) for both in (below, right)])
    pairs = np.unique(np.sort(neighbours[neighbours[:, 0] != neighbours[:, 1]], 1), axis=0).astype(np.int64)
    triples = {
        tuple(sorted((middle, *ends)))
        for middle in range(int(labels.max()) + 1)
        for ends in combinations((pairs[(pairs == middle).any(1)].sum(1) - middle).tolist(), 2)
    }
    return torch.from_numpy(pairs), torch.tensor(sorted(triples), dtype=torch.int64).view(-1, 3)


def interactions(
    z: Tensor, scores: Tensor, groups: tuple[Tensor, Tensor], kernel: np.ndarray, ridge: float
) -> Interactions:
    """Of samples z [s, d], each followed by its opposite, with these scores [s].

    The first two, all and nothing, are not random and left out. groups: of `adjacent`; kernel: [d + 1], LIME's weight
    of a sample by the number of superpixels that are on; ridge: LIME's.
    """
    signs = 2 * z[2::2] - 1
    first, second = scores.view(-1, 2)[1:].unbind(1)
    even, odd = (first + second) / 2, (first - second) / 2
    # Superpixels with a large effect alone are expected to interact more.
    sizes = (signs.mT @ odd).abs().nan_to_num(0, 0, 0)
    sizes = sizes / sizes.mean().clamp(min=torch.finfo(sizes.dtype).tiny) + FLOOR
    pairs, triples = (signs[:, members].prod(2) for members in groups)
    scales = [sizes[members].log().mean(1).exp() for members in groups]
    of_pairs, _ = _effects(torch.ones_like(signs[:, :1]), even - even.mean(), pairs, scales[0])
    of_triples, influence = _effects(signs, odd, triples, scales[1])
    even, odd = pairs @ of_pairs, triples @ of_triples
    return Interactions(
        torch.cat([scores.new_zeros(2), torch.stack([even + odd, even - odd], 1).flatten()]),
        _lime_coefficients(groups, (of_pairs, of_triples), kernel, 2 * len(signs), ridge),
        2 * influence,  # between off and on a sign changes by 2
    )


def _effects(features: Tensor, target: Tensor, products: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Effects [t] of products [p, t] on a target [p]; the influence of each row on the features' coefficients [p, k].

    Effects are random effects, with standard deviations in proportion to `scales` and as much variance in all as the
    noise, predicted by generalised least squares, which also gives the coefficients (Henderson 1975).
    """
    scales = scales / scales.norm()
    scaled = products * scales
    lower = torch.linalg.cholesky(torch.eye(len(scaled), dtype=scaled.dtype, device=scaled.device) + scaled @ scaled.mT)
    white = torch.linalg.solve_triangular(lower, torch.cat([features, target[:, None]], 1), upper=False)[None]
    features, target = white[..., :-1], white[..., -1]
    fit = weighted_ridge(features, target, torch.ones_like(target), 1.0)
    rest = target[0, :, None] - features[0] @ fit.coefficients[0, :, None]
    return scales * (scaled.mT @ torch.linalg.solve_triangular(lower.mT, rest, upper=True))[:, 0], fit.influence[0]


def _lime_coefficients(
    groups: tuple[Tensor, Tensor], effects: tuple[Tensor, Tensor], kernel: np.ndarray, samples: int, ridge: float
) -> Tensor:
    """LIME's coefficients [d] of the sum of the groups' effects, in expectation over the samples."""
    d, means = len(kernel) - 1, _sign_product_means(kernel)
    weight = samples * float(_binomial(d) @ kernel)  # of all samples
    covariance = effects[0].new_zeros(d)
    for members, effect in zip(groups, effects, strict=True):
        order = members.shape[1]
        within, without = (means[k] - means[1] * means[order] for k in (order - 1, order + 1))
        covariance += without * effect.sum()
        covariance.index_add_(0, members.flatten(), (within - without) * effect.repeat_interleave(order))
    # All superpixels being alike, the normal equations have two numbers, on and off the diagonal.
    diagonal, off = weight * (1 - means[1] ** 2) / 4 + ridge, weight * (means[2] - means[1] ** 2) / 4
    target = weight * covariance / 2
    return (target - off * target.sum() / (diagonal + (d - 1) * off)) / (diagonal - off)


def _sign_product_means(kernel: np.ndarray) -> list[float]:
    """The weighted means of the products of 0 to 4 different ones of d independent signs."""
    d = len(kernel) - 1
    on = np.arange(d + 1)
    shares = _binomial(d) * kernel
    shares /= max(shares.sum(), np.finfo(float).tiny)
    sums = [np.ones(d + 1), 2.0 * on - d]  # over all products of so many: Krawtchouk's polynomials
    for m in range(1, 4):
        sums.append((sums[1] * sums[m] - (d - m + 1) * sums[m - 1]) / (m + 1))
    return [float(shares @ total) / max(comb(d, m), 1) for m, total in enumerate(sums)]


def _binomial(d: int) -> np.ndarray:
    """The probabilities [d + 1] that 0 to d of d superpixels are on."""
    return np.array([comb(d, on) / 2**d for on in range(d + 1)])
