"""Guided backpropagation: a gradient that no ReLU passes on if negative (Springenberg et al. 2014, arXiv 1412.6806)."""

from collections.abc import Sequence

from torch import Tensor

from pcam_agreement.attribution.common.captum import check_relus as check_network
from pcam_agreement.attribution.common.captum import modified_gradient
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Guided backpropagation"
DESCRIPTION = "saliency, along ways through the network on which every unit is on and for the class"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The guided gradient, [n, 3, 96, 96]. Raises ValueError where the network has no ReLU."""
    return modified_gradient("GuidedBackprop", score, patches, batch), {}
