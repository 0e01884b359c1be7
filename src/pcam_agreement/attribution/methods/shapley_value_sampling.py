"""Shapley value sampling: superpixels are switched on in random orders (Castro et al. 2009, Comput. Oper. Res. 36)."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from pcam_agreement.attribution.common.captum import of_superpixels
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Superpixels
from pcam_agreement.core.settings import Count
from pcam_agreement.inference.batch import Batch

TITLE = "Shapley value sampling"
DESCRIPTION = "the superpixel's Shapley value, from random orders in which superpixels are switched on"
STOCHASTIC = True


class Settings(Superpixels):
    permutations: Count


def passes(settings: Settings) -> Passes:
    # there are about as many superpixels as segments
    return Passes(forward=settings.permutations * settings.segments + 1, gradient=0)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch, superpixels: np.ndarray
) -> tuple[Tensor, dict[str, Tensor]]:
    """What each superpixel adds to the score, the mean over orders, at its pixels, [n, 1, h, w].

    superpixels: labels [n, h, w]. A superpixel that is off shows its mean colour. Diagnostics: superpixels.
    """
    options = {"n_samples": settings.permutations}
    return of_superpixels("ShapleyValueSampling", score, patches, seeds, batch, superpixels, **options)
