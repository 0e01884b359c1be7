"""Deconvolution: a gradient that a ReLU passes on where it is positive (Zeiler and Fergus 2013, arXiv 1311.2901)."""

from collections.abc import Sequence

from torch import Tensor

from pcam_agreement.attribution.common.captum import check_relus as check_network
from pcam_agreement.attribution.common.captum import modified_gradient
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Deconvolution"
DESCRIPTION = "saliency, along ways through the network on which every unit is for the class, on or off"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of the deconvolutional network, [n, 3, 96, 96]. Raises ValueError where the network has no ReLU."""
    return modified_gradient("Deconvolution", score, patches, batch), {}
