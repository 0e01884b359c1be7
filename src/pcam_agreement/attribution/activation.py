"""Methods that weigh the channels of a network's last spatial map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcam_agreement.attribution.batches import Batch
from pcam_agreement.attribution.score import Score
from pcam_agreement.params import Method


def grad_cam(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Method, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """ReLU of the gradient-weighted mean of the last map, bilinear to the patch (Selvaraju et al., arXiv 1610.02391).

    The map is that of `Classifier.spatial`; the patch tokens of a transformer are put back on their grid.

    Raises ValueError where that map is not known or has no extent.
    """
    try:
        layer = score.network.get_submodule(f"backbone.{score.network.spatial}")
    except AttributeError:
        raise ValueError(
            f"Grad-CAM: the last map of {score.network.architecture} is not where its library says; leave grad_cam out."
        ) from None
    found = patches.new_zeros(len(patches), 1, *patches.shape[2:])

    def work(rows: Tensor) -> None:
        activation, slope = _activation_and_gradient(score, layer, patches[rows], rows)
        if activation.shape[-1] == 1:
            raise ValueError(
                f"Grad-CAM: the last map of {score.network.architecture} is one pixel at this input size; "
                "set input: architecture for it or leave grad_cam out."
            )
        weights = slope.mean((2, 3), keepdim=True)
        cam = (weights * activation).sum(1, keepdim=True).relu()
        found[rows] = functional.interpolate(cam, patches.shape[2:], mode="bilinear").to(found.dtype)

    batch.each(len(patches), patches.device, work)
    return found, {}


def _activation_and_gradient(score: Score, layer: nn.Module, inputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """What the layer gives for the inputs and the gradient of the scores by it, each [b, c, h, w]."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_(True))
        return kept[0].clone()  # what follows may write into it

    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            slope = torch.autograd.grad(score(inputs, rows).sum(), kept[0])[0]
    finally:
        handle.remove()
    last = str(getattr(score.network.backbone, "output_fmt", "")) == "NHWC"  # some of timm's
    return _grid(kept[0].detach(), last).to(inputs.dtype), _grid(slope, last).to(inputs.dtype)


def _grid(activation: Tensor, channels_last: bool) -> Tensor:
    """Channels and rows and columns: of a map, or of tokens [b, prefix + side * side, c] on their grid."""
    if activation.ndim == 4:
        return activation.permute(0, 3, 1, 2) if channels_last else activation
    side = int(activation.shape[1] ** 0.5)
    tokens = activation[:, activation.shape[1] - side * side :]
    return tokens.mT.unflatten(2, (side, side))
