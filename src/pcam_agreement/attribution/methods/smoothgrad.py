"""SmoothGrad: the mean gradient over noisy copies of the patch (Smilkov et al. 2017, arXiv 1706.03825)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.common.gradient import gradient
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method
from pcam_agreement.core.settings import Count, Level
from pcam_agreement.inference.batch import Batch

TITLE = "SmoothGrad"
DESCRIPTION = "saliency, averaged over noisy copies of the patch"
STOCHASTIC = True


class Settings(Method):
    samples: Count
    sigma: Level  # standard deviation of the noise; the pixels' range is 1


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=settings.samples)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean gradient, [n, 3, 96, 96].

    The noise is sampled once, and each patch reads it from a place of its own: to sample it anew for every pass would
    cost a tenth of a small network's pass.
    """
    n, samples, length = len(patches), settings.samples, patches[0].numel()
    noise = settings.sigma * _noise(samples, length).to(patches)
    starts = [int(np.random.default_rng(seed).integers(length)) for seed in seeds]
    total = torch.zeros_like(patches)

    def work(numbers: Tensor) -> None:
        rows = numbers // samples
        places = [(number % samples, starts[number // samples]) for number in numbers.tolist()]
        noisy = torch.stack([noise[sample, start : start + length] for sample, start in places])
        noisy = noisy.view(-1, *patches.shape[1:]).add_(patches[rows])
        total.index_add_(0, rows, gradient(score, noisy, rows))

    batch.each(n * samples, patches.device, work)
    return total / samples, {}


def _noise(samples: int, length: int) -> Tensor:
    """Standard normal noise [samples, 2 * length], always the same; its second half repeats the first."""
    return torch.randn(samples, length, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
