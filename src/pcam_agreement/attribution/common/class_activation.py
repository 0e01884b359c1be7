"""Class activation maps: a network's last spatial map, weighted by the gradient of the score (the CAM methods)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcam_agreement.attribution.common.score import Score
from pcam_agreement.inference.batch import Batch
from pcam_agreement.networks.classifier import Classifier
from pcam_agreement.networks.spatial import CAMS, on_grid, spatial_layer, spatial_size

Weighting = Callable[[Tensor, Tensor], Tensor]  # activation and gradient [b, c, h, w] -> [b, 1, h, w]


def check_network(network: Classifier) -> None:
    """Raise ValueError where the network has no last spatial map, or one of a single pixel."""
    _check_size(network, spatial_size(network))


def class_activation_maps(score: Score, patches: Tensor, batch: Batch, weighting: Weighting) -> Tensor:
    """The last map, made one channel by `weighting`, bilinear to the size of the patch: [n, 1, 96, 96].

    The patch tokens of a transformer are put back on their grid.

    Raises ValueError where the network has no such map, or one of a single pixel.
    """
    layer = score.network.backbone.get_submodule(spatial_layer(score.network))
    cams = patches.new_zeros(len(patches), 1, *patches.shape[2:])

    def work(rows: Tensor) -> None:
        activation, gradient = activation_and_gradient(score, layer, patches[rows], rows)
        _check_size(score.network, activation.shape[-1])
        cam = weighting(activation, gradient)
        cams[rows] = functional.interpolate(cam, patches.shape[2:], mode="bilinear").to(cams.dtype)

    batch.each(len(patches), patches.device, work)
    return cams


def activation_and_gradient(score: Score, layer: nn.Module, inputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """What the layer gives for the inputs and the gradient of the scores by it, each [b, c, h, w]."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_(True))
        return kept[0].clone()  # what follows may write into it

    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            gradient = torch.autograd.grad(score(inputs, rows).sum(), kept[0])[0]
    finally:
        handle.remove()
    backbone = score.network.backbone
    return on_grid(kept[0].detach(), backbone).to(inputs.dtype), on_grid(gradient, backbone).to(inputs.dtype)


def _check_size(network: Classifier, size: int) -> None:
    if size == 1:
        raise ValueError(
            f"the last map of {network.architecture} is one pixel at this input size; set input: architecture for it "
            f"or leave {CAMS} out."
        )
