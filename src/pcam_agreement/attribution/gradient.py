"""Methods that are gradients at the patch or around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.batches import Batch
from pcam_agreement.attribution.score import Score
from pcam_agreement.params import Method, SmoothGrad


def saliency(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Method, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of the score by the pixels (Simonyan et al. 2013, arXiv 1312.6034)."""
    found = torch.zeros_like(patches)

    def work(rows: Tensor) -> None:
        found[rows] = gradient(score, patches[rows], rows)

    batch.each(len(patches), patches.device, work)
    return found, {}


def input_x_gradient(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Method, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The patch times the gradient (Shrikumar et al. 2016, arXiv 1605.01713): black pixels get nothing."""
    return patches * saliency(score, patches, seeds, settings, batch)[0], {}


def smoothgrad(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: SmoothGrad, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean gradient over patches with Gaussian noise of this deviation (Smilkov et al. 2017, arXiv 1706.03825).

    Noise is drawn once, and each patch reads it from a place of its own: to draw it anew for every pass would cost a
    tenth of a small network's pass.
    """
    n, samples, length = len(patches), settings.samples, patches[0].numel()
    noise = settings.sigma * _noise(samples, length).to(patches)
    starts = [_start(seed, length) for seed in seeds]
    total = torch.zeros_like(patches)

    def work(part: Tensor) -> None:
        rows = part // samples
        where = [(point % samples, starts[point // samples]) for point in part.tolist()]
        noisy = torch.stack([noise[sample, start : start + length] for sample, start in where])
        noisy = noisy.view(-1, *patches.shape[1:]).add_(patches[rows])
        total.index_add_(0, rows, gradient(score, noisy, rows))

    batch.each(n * samples, patches.device, work)
    return total / samples, {}


def gradient(score: Score, inputs: Tensor, rows: Tensor) -> Tensor:
    """d score / d inputs [b, 3, h, w]; one backward of the sum, as no input's score depends on another input."""
    inputs = inputs.detach().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(score(inputs, rows).sum(), inputs)[0]


def _noise(samples: int, length: int) -> Tensor:
    """Standard normal noise [samples, 2 * length], always the same; its second half repeats the first."""
    return torch.randn(samples, length, generator=torch.Generator().manual_seed(0)).repeat(1, 2)


def _start(seed: int, length: int) -> int:
    return int(np.random.default_rng(seed).integers(length))
