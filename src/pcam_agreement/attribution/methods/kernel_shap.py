"""KernelSHAP: Shapley values of the superpixels by weighted least squares (Lundberg and Lee 2017, arXiv 1705.07874)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.common.regression import Fit, weighted_ridge
from pcam_agreement.attribution.common.sampling import coalitions
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Surrogate as Settings
from pcam_agreement.attribution.common.surrogate import fit_in_rounds, passes
from pcam_agreement.inference.batch import Batch

TITLE = "KernelSHAP"
DESCRIPTION = "the superpixel's Shapley value: its fair share of the score"
STOCHASTIC = True

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "passes"]


def attribute(
    score: Score,
    patches: Tensor,
    seeds: Sequence[int],
    settings: Settings,
    batch: Batch,
    superpixels: np.ndarray,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Each superpixel's Shapley value at its pixels, [n, 1, h, w]; diagnostics as in `fit_in_rounds`.

    superpixels: labels [n, h, w]. Sizes of coalitions are sampled by their weight, so that all samples weigh the same;
    the two ends are exact: the values add up to the score minus that of the patch with everything off.
    """

    def fit(z: Tensor, scores: Tensor, rows: Tensor, counts: Tensor) -> Fit:
        total = (scores[:, 0] - scores[:, 1])[:, None]  # the first pair is everything on, everything off
        exists = torch.arange(z.shape[2], device=z.device) < counts[:, None]
        # The first value is the total less the others: what is left is a regression without that constraint.
        others = (z - z[..., :1]) * exists[:, None]
        weights = torch.ones_like(scores)
        weights[:, :2] = 0
        free = weighted_ridge(others, scores - scores[:, 1:2] - z[..., 0] * total, weights, 1e-9)
        coefficients, influence = free.coefficients.clone(), free.influence.unflatten(1, (-1, 2)).sum(2)
        coefficients[:, 0] = total[:, 0] - coefficients[:, 1:].sum(1)
        influence[..., 0] = -influence[..., 1:].sum(2)
        return Fit(coefficients, free.r2, influence)

    return fit_in_rounds(score, patches, seeds, settings, batch, superpixels, coalitions, fit)
