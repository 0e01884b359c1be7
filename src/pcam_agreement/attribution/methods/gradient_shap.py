"""Gradient SHAP: gradients at random points between baselines and patch (Lundberg and Lee 2017, arXiv 1705.07874)."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pcam_agreement.attribution.common.baseline import baseline
from pcam_agreement.attribution.common.captum import of_samples
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Baseline, Method
from pcam_agreement.core.settings import Count, Level
from pcam_agreement.inference.batch import Batch

TITLE = "Gradient SHAP"
DESCRIPTION = "the pixel's share of the score, sampled on ways from several empty patches to this one"
STOCHASTIC = True


class Settings(Method):
    baselines: Annotated[list[Baseline], Field(min_length=1)]  # one at random for each sample
    samples: Count
    sigma: Level  # standard deviation of noise on the patch; the pixels' range is 1


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=settings.samples)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean of gradient times difference to the baseline, [n, 3, 96, 96]."""
    baselines = torch.stack([baseline(patches, kind) for kind in settings.baselines], 1)

    def options(row: int) -> dict[str, object]:
        return {"baselines": baselines[row], "n_samples": settings.samples, "stdevs": settings.sigma}

    return of_samples("GradientShap", score, patches, seeds, batch, options), {}
