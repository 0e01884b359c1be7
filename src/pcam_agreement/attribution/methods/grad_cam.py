"""Grad-CAM: the gradient-weighted mean of the last spatial map (Selvaraju et al. 2017, arXiv 1610.02391)."""

from collections.abc import Sequence

from torch import Tensor

from pcam_agreement.attribution.common.class_activation import check_network, class_activation_maps
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Grad-CAM"
DESCRIPTION = "where the network's last feature map is evidence for the class"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """ReLU of the weighted mean of the last map, bilinear to the size of the patch: [n, 1, 96, 96].

    Raises ValueError where the network has no such map, or one of a single pixel.
    """
    return class_activation_maps(score, patches, batch, weighted_sum), {}


def weighted_sum(activation: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM's map [b, 1, h, w] of activation and gradient, each [b, c, h, w]."""
    weights = gradient.mean((2, 3), keepdim=True)  # apply global average pooling to the gradient
    return (weights * activation).sum(1, keepdim=True).relu()
