"""Random maps, which explain nothing: what agreement and localisation are compared with."""

import zlib
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
    """Uniform noise [n, 1, 96, 96], different for every patch and network: two networks' masks agree by chance."""
    network = _fingerprint(score.network)
    maps = [np.random.default_rng((seed, network)).random((1, *patches.shape[2:])) for seed in seeds]
    return torch.from_numpy(np.stack(maps)).to(patches), {}


def _fingerprint(network: torch.nn.Module) -> int:
    """A number that differs between networks whose last layers differ."""
    parameters = list(network.parameters())
    return zlib.crc32(parameters[-1].detach().float().cpu().numpy().tobytes()) if parameters else 0
