"""Random maps, which explain nothing: what agreement and localisation are compared with."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Method as Settings
from pcam_agreement.inference.batch import Batch

TITLE = "Random maps (explain nothing)"
DESCRIPTION = "a random map, which explains nothing"
STOCHASTIC = False  # its maps differ between networks, and are not meant to be repeated


def passes(settings: Settings) -> Passes:
    return Passes(forward=0, gradient=0)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """Uniform noise [n, 1, 96, 96], one map a seed: two networks' masks agree by chance."""
    maps = [np.random.default_rng(seed).random((1, *patches.shape[2:])) for seed in seeds]
    return torch.from_numpy(np.stack(maps)).to(patches), {}
