"""Grad-CAM: the gradient-weighted mean of the last spatial map (Selvaraju et al. 2017, arXiv 1610.02391)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch
from pcam_agreement.networks.spatial import on_grid, spatial_layer

TITLE = "Grad-CAM"
DESCRIPTION = "where the network's last feature map is evidence for the class"
STOCHASTIC = False


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=1)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """ReLU of the weighted mean of the last map, bilinear to the size of the patch: [n, 1, 96, 96].

    The patch tokens of a transformer are put back on their grid.

    Raises ValueError where the network has no such map, or one of a single pixel.
    """
    layer = score.network.get_submodule(f"backbone.{spatial_layer(score.network)}")
    cams = patches.new_zeros(len(patches), 1, *patches.shape[2:])

    def work(rows: Tensor) -> None:
        activation, gradient = _activation_and_gradient(score, layer, patches[rows], rows)
        if activation.shape[-1] == 1:
            raise ValueError(
                f"Grad-CAM: the last map of {score.network.architecture} is one pixel at this input size; "
                "set input: architecture for it or leave grad_cam out."
            )
        weights = gradient.mean((2, 3), keepdim=True)  # apply global average pooling to the gradient
        cam = (weights * activation).sum(1, keepdim=True).relu()
        cams[rows] = functional.interpolate(cam, patches.shape[2:], mode="bilinear").to(cams.dtype)

    batch.each(len(patches), patches.device, work)
    return cams, {}


def _activation_and_gradient(score: Score, layer: nn.Module, inputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
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
