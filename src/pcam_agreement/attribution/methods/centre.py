"""A Gaussian at the centre, which explains nothing: what a heatmap gets for its centre bias alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method
from pcam_agreement.core.settings import Positive
from pcam_agreement.heatmaps.masks import centre_gaussian
from pcam_agreement.inference.batch import Batch

TITLE = "Centre Gaussian (explains nothing)"
DESCRIPTION = "a Gaussian at the centre, which explains nothing"
STOCHASTIC = False


class Settings(Method):
    sigma: Positive  # pixels


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=0)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The same Gaussian for every patch, [n, 1, 96, 96]."""
    gaussian = torch.from_numpy(centre_gaussian(patches.shape[-1], settings.sigma)).to(patches)
    return gaussian.repeat(len(patches), 1, 1, 1), {}
