"""Occlusion: what the score loses where a window is hidden (Zeiler and Fergus 2013, arXiv 1311.2901)."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method
from pcam_agreement.core.patch import PATCH
from pcam_agreement.inference.batch import Batch

TITLE = "Occlusion"
DESCRIPTION = "how much the score changes if a window around the pixel is covered"
STOCHASTIC = False


class Settings(Method):
    window: Annotated[int, Field(ge=1, le=PATCH)]  # pixels a side
    stride: Annotated[int, Field(ge=1, le=PATCH)]


def passes(settings: Settings) -> Passes:
    return Passes(forward=len(_windows(PATCH, PATCH, settings.window, settings.stride)) + 1, gradient=0)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean loss of the score over the windows that cover a pixel, [n, 1, 96, 96].

    Square windows on a grid show the patch's mean colour. The last window of a row or column is moved inside, so that
    every pixel is covered.
    """
    n, height, width = len(patches), *patches.shape[2:]
    windows = _windows(height, width, settings.window, settings.stride).to(patches.device)
    count = len(windows)
    # One more, in which the first pixel shows itself: a batch of whole patches alone would be a small, slow one.
    indices = torch.cat([windows, torch.zeros_like(windows[:1])])
    mean = patches.mean((2, 3), keepdim=True).flatten(2)
    scores = patches.new_zeros(n, count + 1)

    def hide(numbers: Tensor) -> None:
        row, window = numbers // (count + 1), numbers % (count + 1)
        inputs = patches[row]
        flat = inputs.flatten(2)
        pixels = indices[window, None].expand(-1, flat.shape[1], -1)
        colour = torch.where(window.view(-1, 1, 1) < count, mean[row], flat[..., :1])
        flat.scatter_(2, pixels, colour.expand_as(pixels))
        with torch.no_grad():
            scores[row, window] = score(inputs, row).to(scores.dtype)

    batch.each(n * (count + 1), patches.device, hide)
    covers = patches.new_zeros(count, height * width).scatter_(1, windows, 1)
    loss = (scores[:, count:] - scores[:, :count]) @ (covers / covers.sum(0))
    return loss.view(n, 1, height, width), {}


def _windows(height: int, width: int, side: int, stride: int) -> Tensor:
    """The pixels that each window covers, their numbers in the flat patch: [w, side * side]."""
    pixels = torch.arange(height * width).view(height, width)
    tops, lefts = ([*range(0, length - side, stride), length - side] for length in (height, width))
    return torch.stack([pixels[top : top + side, left : left + side].flatten() for top in tops for left in lefts])
