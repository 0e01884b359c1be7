"""Grad-CAM++: Grad-CAM with weights that count each occurrence alike (Chattopadhay et al. 2018, arXiv 1710.11063)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcam_agreement.attribution.common.class_activation import check_network, class_activation_maps
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Grad-CAM++"
DESCRIPTION = "where the network's last feature map is evidence for the class, small occurrences as much as large ones"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """ReLU of the weighted sum of the last map, bilinear to the size of the patch: [n, 1, 96, 96].

    Raises ValueError where the network has no such map, or one of a single pixel.
    """
    return class_activation_maps(score, patches, batch, weighted_sum), {}


def weighted_sum(activation: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM++'s map [b, 1, h, w] of activation and gradient, each [b, c, h, w].

    The paper explains Y = exp(score), whose derivatives by an activation are Y times the powers of the score's
    gradient; Y itself, the same for all weights, is left out. (pytorch-grad-cam adds 1e-6 to the denominator of
    equation 19 before the square of the gradient is cancelled, which takes weight from small gradients.)
    """
    # alpha of equation 19: g^2 / (2 g^2 + sum(A) g^3), with g^2 cancelled: where g is 0, so is what alpha weighs
    denominator = 2 + activation.sum((2, 3), keepdim=True) * gradient
    alpha = torch.where(denominator != 0, 1 / denominator, 0)
    weights = (alpha * gradient.relu()).sum((2, 3), keepdim=True)  # the weights of the channels
    return (weights * activation).sum(1, keepdim=True).relu()
