"""Input x gradient (Shrikumar et al. 2016, arXiv 1605.01713): a black pixel gets nothing."""

from collections.abc import Sequence

from torch import Tensor

from pcam_agreement.attribution.common.gradient import gradients
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Input × gradient"
DESCRIPTION = "the change of the score with the pixel, times the pixel's own value"
STOCHASTIC = False


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The patch times the gradient of the score, [n, 3, 96, 96]."""
    return patches * gradients(score, patches, batch), {}
