"""HiResCAM: the last spatial map times its own gradient, place by place (Draelos and Carin 2020, arXiv 2011.08891)."""

from collections.abc import Sequence

from torch import Tensor

from pcam_agreement.attribution.common.class_activation import check_network, class_activation_maps
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "HiResCAM"
DESCRIPTION = "what each place of the network's last feature map adds to the score"
STOCHASTIC = False

__all__ = ["DESCRIPTION", "STOCHASTIC", "TITLE", "Settings", "attribute", "check_network", "passes"]


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """Signed, bilinear to the size of the patch: [n, 1, 96, 96].

    Where the network is linear behind its last map, the map before it is enlarged adds up to the logit less the bias.

    Raises ValueError where the network has no such map, or one of a single pixel.
    """
    return class_activation_maps(score, patches, batch, product), {}


def product(activation: Tensor, gradient: Tensor) -> Tensor:
    """HiResCAM's map [b, 1, h, w] of activation and gradient, each [b, c, h, w]."""
    return (gradient * activation).sum(1, keepdim=True)  # the gradient is not averaged over places
