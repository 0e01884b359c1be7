"""Methods that are one gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcam_agreement.attribution.score import Score
from pcam_agreement.params import Saliency


def saliency(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Saliency, batch_size: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of the score by the pixels (Simonyan et al. 2013, arXiv 1312.6034)."""
    rows = torch.arange(len(patches), device=patches.device)
    parts = [gradient(score, patches[part], part) for part in rows.split(batch_size)]
    return torch.cat(parts), {}


def gradient(score: Score, inputs: Tensor, rows: Tensor) -> Tensor:
    """d score / d inputs [b, 3, h, w]; one backward of the sum, as no input's score depends on another input."""
    inputs = inputs.detach().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(score(inputs, rows).sum(), inputs)[0]
