"""RISE: the mean score of randomly masked patches in which the pixel shows (Petsiuk et al. 2018, arXiv 1806.07421)."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pcam_agreement.attribution.common.baseline import baseline
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Baseline, Method
from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import Count
from pcam_agreement.inference.batch import Batch

TITLE = "RISE"
DESCRIPTION = "the mean score of patches with random parts hidden, over those in which the pixel shows"
STOCHASTIC = True


class Settings(Method):
    masks: Count
    cells: Annotated[int, Field(ge=1, le=PATCH)]  # of a mask, a side
    probability: Annotated[float, Field(gt=0, lt=1)]  # that a cell shows
    baseline: Baseline  # what hidden pixels show


def passes(settings: Settings) -> Passes:
    return Passes(forward=settings.masks, gradient=0)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean over the masks of score times mask, divided by the probability: [n, 1, 96, 96].

    It is the expected score given that the pixel shows; only differences between pixels say something of places. A mask
    is a grid of cells that show or not, enlarged bilinearly and moved at random by less than a cell.
    """
    n, count, side = len(patches), settings.masks, patches.shape[-1]
    hidden = baseline(patches, settings.baseline)
    windows = _windows(settings.cells, side).to(patches)
    cells, tops, lefts = (values.to(patches.device) for values in _samples(seeds, settings, len(windows)))
    cells = cells.to(patches.dtype)
    scores = patches.new_zeros(n, count)

    def show(numbers: Tensor) -> None:
        row, mask = numbers // count, numbers % count
        shown = windows[tops[row, mask]] @ cells[row, mask] @ windows[lefts[row, mask]].mT  # [b, h, w] in [0, 1]
        inputs = hidden[row] + shown[:, None] * (patches[row] - hidden[row])
        with torch.no_grad():
            scores[row, mask] = score(inputs, row).to(scores.dtype)

    batch.each(n * count, patches.device, show)
    # The sum of score times mask, without the masks: each is the product of what its two sides are enlarged by.
    sums = [
        (values[:, None, None] * windows[top] @ grid).transpose(0, 1).flatten(1) @ windows[left].mT.flatten(0, 1)
        for values, grid, top, left in zip(scores, cells, tops, lefts, strict=True)
    ]
    return torch.stack(sums)[:, None] / (count * settings.probability), {}


def _samples(seeds: Sequence[int], settings: Settings, shifts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each patch's masks, from its seed: grids of 0 and 1 [n, m, cells, cells], and two shifts, each [n, m]."""
    shape = (settings.masks, settings.cells, settings.cells)
    grids, tops, lefts = [], [], []
    for seed in seeds:
        random = np.random.default_rng(seed)
        grids.append(random.random(shape) < settings.probability)
        tops.append(random.integers(0, shifts, settings.masks))
        lefts.append(random.integers(0, shifts, settings.masks))
    return torch.from_numpy(np.stack(grids)), torch.from_numpy(np.stack(tops)), torch.from_numpy(np.stack(lefts))


def _windows(cells: int, side: int) -> Tensor:
    """How much of each cell a pixel shows along one side, for every shift: [cell, side, cells], rows add up to 1.

    The grid is enlarged to one cell more than the patch, of which a window of the patch's size begins at the shift.
    """
    cell = -(-side // cells)
    enlarged = functional.interpolate(torch.eye(cells)[None], (cells + 1) * cell, mode="linear")[0].mT
    return torch.stack([enlarged[shift : shift + side] for shift in range(cell)])
