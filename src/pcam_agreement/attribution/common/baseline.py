"""Baselines in pixel space: what a patch without information looks like."""

import torch
from torch import Tensor
from torch.nn import functional

from pcam_agreement.networks.architectures import IMAGENET_MEAN

BLUR = 8.0  # pixels, the standard deviation of the Gaussian; it is cut off after three


def baseline(patches: Tensor, kind: str) -> Tensor:
    """The baseline of each patch, [n, 3, h, w].

    white (the background of a slide), black, mean (each patch's mean colour), blurred (by a Gaussian), imagenet
    (ImageNet's mean colour: what zero after normalisation means).
    """
    if kind == "white":
        return torch.ones_like(patches)
    if kind == "black":
        return torch.zeros_like(patches)
    if kind == "mean":
        return patches.mean((2, 3), keepdim=True).expand_as(patches)
    if kind == "blurred":
        return _blurred(patches)
    if kind == "imagenet":
        return patches.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand_as(patches)
    raise ValueError(f"unknown baseline '{kind}'.")


def _blurred(patches: Tensor) -> Tensor:
    """Patches after a separable Gaussian, reflected at their borders."""
    radius, dtype = int(3 * BLUR), patches.dtype
    # in bfloat16, oneDNN on AVX-512 never ends making a kernel of this shape
    patches = patches.to(torch.promote_types(dtype, torch.float32))
    offsets = torch.arange(-radius, radius + 1, dtype=patches.dtype, device=patches.device)
    weights = torch.exp(-(offsets**2) / (2 * BLUR**2))
    weights = (weights / weights.sum()).expand(patches.shape[1], 1, 1, -1)
    padded = functional.pad(patches, [radius] * 4, mode="reflect")
    rows = functional.conv2d(padded, weights, groups=patches.shape[1])
    return functional.conv2d(rows, weights.mT, groups=patches.shape[1]).to(dtype)
