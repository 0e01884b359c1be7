"""The gradient of the score by the pixels, and how far attributions are from adding up to a change of the score."""

import torch
from torch import Tensor

from pcam_agreement.attribution.common.score import Score
from pcam_agreement.inference.batch import Batch

SMALLEST_CHANGE = 1e-3  # of the score: the convergence delta is relative to the change, but not to less than this


def gradient(score: Score, inputs: Tensor, rows: Tensor) -> Tensor:
    """d score / d inputs [b, 3, h, w]; one backward pass of the sum, as no input's score depends on another input."""
    inputs = inputs.detach().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(score(inputs, rows).sum(), inputs)[0]


def gradients(score: Score, patches: Tensor, batch: Batch) -> Tensor:
    """The gradient at every patch, [n, 3, h, w], batch by batch."""
    result = torch.zeros_like(patches)

    def work(rows: Tensor) -> None:
        result[rows] = gradient(score, patches[rows], rows)

    batch.each(len(patches), patches.device, work)
    return result


def convergence_delta(attribution: Tensor, change: Tensor) -> Tensor:
    """|sum - change| / |change| of attributions [n, c, h, w] that should add up to these changes of the score [n]."""
    return (attribution.sum((1, 2, 3)) - change).abs() / change.abs().clamp(min=SMALLEST_CHANGE)
