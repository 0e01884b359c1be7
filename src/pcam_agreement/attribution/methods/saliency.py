"""Saliency: the gradient of the score by the pixels (Simonyan et al. 2013, arXiv 1312.6034)."""

from collections.abc import Sequence

from torch import Tensor

from pcam_agreement.attribution.common.gradient import gradients
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Saliency"
DESCRIPTION = "how much the score changes if the pixel changes a little"
STOCHASTIC = False


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of the score, [n, 3, 96, 96]."""
    return gradients(score, patches, batch), {}
