"""The gradient of the score by the pixels."""

import torch
from torch import Tensor

from pcam_agreement.attribution.common.score import Score
from pcam_agreement.inference.batch import Batch


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
