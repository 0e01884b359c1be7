"""Maps that explain nothing, as rows of the table: what every localisation and agreement stands beside."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.batches import Batch
from pcam_agreement.attribution.score import Score
from pcam_agreement.params import Centre, Method


def random(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Method, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """Uniform noise, another for every patch and network: the masks of two networks agree by chance alone."""
    own = _fingerprint(score.network)
    maps = [np.random.default_rng((seed, own)).random((1, *patches.shape[2:])) for seed in seeds]
    return torch.from_numpy(np.stack(maps)).to(patches), {}


def centre(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Centre, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """A Gaussian at the centre of the patch, of this deviation in pixels: what is won by looking at the middle."""
    height, width = patches.shape[2:]
    y, x = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    bell = torch.exp(-(y[:, None] ** 2 + x**2) / (2 * settings.sigma**2))
    return bell.repeat(len(patches), 1, 1, 1).to(patches), {}


def _fingerprint(network: torch.nn.Module) -> int:
    """A number that differs between networks whose last layer differs."""
    parameters = list(network.parameters())
    return zlib.crc32(parameters[-1].detach().float().cpu().numpy().tobytes()) if parameters else 0
