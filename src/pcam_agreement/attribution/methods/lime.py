"""LIME: superpixels' coefficients in a local ridge regression of the score (Ribeiro et al. 2016, arXiv 1602.04938).

As published by default: independent samples, weights by the cosine distance to the whole patch, ridge regression.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from pcam_agreement.attribution.common.interactions import adjacent, interactions
from pcam_agreement.attribution.common.regression import Fit, centred, explained_variance, weighted_ridge
from pcam_agreement.attribution.common.sampling import independent, orthogonal
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Surrogate
from pcam_agreement.attribution.common.surrogate import fit_in_rounds, passes
from pcam_agreement.core.settings import Positive
from pcam_agreement.inference.batch import Batch

TITLE = "LIME"
DESCRIPTION = "the superpixel's weight in a linear model of the score of patches with parts switched off"
STOCHASTIC = True

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "passes"]


class Settings(Surrogate):
    sampling: Literal["independent", "orthogonal"]
    interactions: bool  # of adjacent superpixels, taken out before the regression
    kernel: Literal["distance", "similarity"]
    kernel_width: Positive
    ridge: Positive

    @model_validator(mode="after")
    def _interactions_need_opposites(self) -> Self:
        if self.interactions and self.sampling != "orthogonal":
            raise ValueError("expected sampling: orthogonal with interactions: true, found independent")
        return self


def attribute(
    score: Score,
    patches: Tensor,
    seeds: Sequence[int],
    settings: Settings,
    batch: Batch,
    superpixels: np.ndarray,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Each superpixel's coefficient at its pixels, [n, 1, h, w]; diagnostics as in `fit_in_rounds`.

    superpixels: labels [n, h, w]. A superpixel that is off shows its mean colour.
    """
    sampling = {"independent": independent, "orthogonal": orthogonal}[settings.sampling]
    if settings.interactions:
        groups = [tuple(members.to(patches.device) for members in adjacent(labels)) for labels in superpixels]

    def fit(z: Tensor, scores: Tensor, rows: Tensor, counts: Tensor) -> Fit:
        weights = kernel(z, counts, settings.kernel, settings.kernel_width)
        if settings.sampling == "orthogonal":
            weights[:, :2] = 0  # the whole patch and the emptied one are not random: they would weigh too much
        if settings.interactions:
            return _without_interactions(z, scores, weights, counts, [groups[row] for row in rows.tolist()], settings)
        model = weighted_ridge(centred(z, weights), centred(scores, weights), weights, settings.ridge)
        if settings.sampling == "orthogonal":  # pairs of opposites are independent of each other, samples are not
            return replace(model, influence=model.influence.unflatten(1, (-1, 2)).sum(2))
        return model

    return fit_in_rounds(score, patches, seeds, settings, batch, superpixels, sampling, fit)


def kernel(z: Tensor, counts: Tensor, kind: str, width: float) -> Tensor:
    """Weights [n, s] of samples z [n, s, d]: sqrt(exp(-d^2 / width^2)), d the cosine distance of z to all ones.

    kind = "similarity" puts the cosine similarity in place of the distance, the original course project's mistake:
    the patch itself then weighs 1e-7 and the emptied patch 1.
    """
    similarity = (z.sum(-1) / counts[:, None]).sqrt()
    d = 1 - similarity if kind == "distance" else similarity
    return torch.exp(-(d**2) / width**2).sqrt()


def _without_interactions(
    z: Tensor,
    scores: Tensor,
    weights: Tensor,
    counts: Tensor,
    groups: list[tuple[Tensor, ...]],
    settings: Settings,
) -> Fit:
    """LIME's coefficients of the interactions, in closed form, and by regression of what is left of the scores."""
    contributions, coefficients = torch.zeros_like(scores), torch.zeros_like(z[:, 0])
    influence = torch.zeros_like(z[:, 2::2])
    for i, d in enumerate(counts.tolist()):
        ladder = z.new_ones(1, d + 1, d).tril(-1)  # 0, 1, ... d superpixels on
        by_count = kernel(ladder, counts[i : i + 1], settings.kernel, settings.kernel_width)[0].cpu().numpy()
        effects = interactions(z[i, :, :d], scores[i], (groups[i][0], groups[i][1]), by_count, settings.ridge)
        contributions[i], coefficients[i, :d] = effects.contributions, effects.coefficients
        influence[i, :, :d] = effects.influence
    features, rest = centred(z, weights), scores - contributions
    coefficients += weighted_ridge(features, centred(rest, weights), weights, settings.ridge).coefficients
    # Half the sum of a pair's scores would have no influence, if the two had the same weight.
    even = rest.unflatten(1, (-1, 2)).mean(2).repeat_interleave(2, 1)
    of_even = weighted_ridge(features, centred(even, weights), weights, settings.ridge).influence
    influence += of_even.unflatten(1, (-1, 2)).sum(2)[:, 1:]
    r2 = explained_variance(features, centred(scores, weights), weights, coefficients)
    return Fit(coefficients, r2, influence)
