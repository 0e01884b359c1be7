"""Integrated gradients along the straight path from a baseline to the patch (Sundararajan et al. 2017, 1703.01365)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.common.baseline import baseline
from pcam_agreement.attribution.common.gradient import convergence_delta, gradient
from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.rescale import NotPiecewiseLinearError, mean_multipliers
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Baseline, Method
from pcam_agreement.core.settings import Count, Positive
from pcam_agreement.heatmaps.masks import overlap, reduce, top_mask
from pcam_agreement.inference.batch import Batch

TITLE = "Integrated gradients"
DESCRIPTION = "the pixel's share of the score, summed along the path from an empty patch to this one"
STOCHASTIC = False

FRACTION = 0.25  # the top fraction whose mask has to be converged
REMAINING = 0.6  # a mask's distance to the converged one, in units of its change as the steps doubled (0.5 to 0.6)


class Settings(Method):
    baseline: Baseline
    rule: Literal["auto", "gauss_legendre", "right"]
    n_steps: Count
    max_steps: Count
    tolerance: Positive  # 1 - the IoU that the mask would have with the converged one


def passes(settings: Settings) -> Passes:
    steps, total = settings.n_steps, 0
    while steps <= settings.max_steps:
        steps, total = 2 * steps, total + steps
    return Passes(forward=0, gradient=total)


def attribute(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Settings, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """(x - x') times the mean gradient on the path from the baseline x' to the patch x: [n, 3, 96, 96].

    rule: auto takes Rescale multipliers over `n_steps` steps of the path where the network is piecewise linear
    (`common.rescale`), and elsewhere, as the gradient is smooth, gradients at the points of gauss_legendre; for the
    others see `quadrature`. Patches get twice the steps, again and again up to max_steps, until the mask of their map
    has converged to 1 - IoU = tolerance, judged by its change as the steps doubled.

    Diagnostics: steps; stability, the estimated IoU of the mask with the converged one, 0 where the steps were not
    doubled; unconverged (0 or 1); convergence_delta, |sum - (s(x) - s(x'))| / |s(x) - s(x')|.
    """
    n = len(patches)
    starts = baseline(patches, settings.baseline)
    attribution, change = torch.zeros_like(patches), patches.new_zeros(n)
    stability, used = torch.zeros_like(change), torch.zeros(n, dtype=torch.int64, device=patches.device)
    steps, rows = settings.n_steps, torch.arange(n, device=patches.device)
    while len(rows) and steps <= settings.max_steps:
        mean, change[rows] = _mean(score, patches, starts, rows, steps, batch, settings.rule)
        mean *= patches[rows] - starts[rows]
        if steps > settings.n_steps:
            stability[rows] = 1 - REMAINING * (1 - _mask_iou(attribution[rows], mean, settings.reduce))
        attribution[rows], used[rows] = mean, steps
        rows = rows[stability[rows] < 1 - settings.tolerance]
        steps *= 2
    return attribution, {
        "steps": used,
        "stability": stability,
        "convergence_delta": convergence_delta(attribution, change),
        "unconverged": (stability < 1 - settings.tolerance).to(torch.int64),
    }


def quadrature(rule: str, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in [0, 1] and weights of sum 1, each [n_steps].

    gauss_legendre is exact to degree 2 n_steps - 1; right is the Riemann sum.
    """
    if rule == "right":
        return np.arange(1, n_steps + 1) / n_steps, np.full(n_steps, 1 / n_steps)
    positions, weights = np.polynomial.legendre.leggauss(n_steps)
    return (positions + 1) / 2, weights / 2


def step_ends(n_steps: int) -> np.ndarray:
    """The ends of the steps of a path, [n_steps + 1], shorter near the patch.

    The gradient grows on the way to the patch, 12 times on a trained ResNet from white. Twice the steps halve each.
    """
    return (np.arange(n_steps + 1) / n_steps) ** 0.6


def _mean(
    score: Score, patches: Tensor, starts: Tensor, rows: Tensor, steps: int, batch: Batch, rule: str
) -> tuple[Tensor, Tensor]:
    """The mean gradient [m, 3, h, w] on the paths of m rows, and the change of the score along them [m]."""
    if rule == "auto":
        try:
            return _mean_multiplier(score, patches, starts, rows, steps, batch)
        except NotPiecewiseLinearError:
            rule = "gauss_legendre"
    return _mean_gradient(score, patches, starts, rows, steps, batch, rule)


def _mean_multiplier(
    score: Score, patches: Tensor, starts: Tensor, rows: Tensor, steps: int, batch: Batch
) -> tuple[Tensor, Tensor]:
    """By Rescale multipliers between the ends of each step.

    Batches span patches and steps. Steps follow each other in a batch, as do the points at their ends, of which a
    path has one more than steps; between the last point of a path and the first of the next nothing is counted.
    """
    m, ends = len(rows), patches.new_tensor(step_ends(steps))
    lengths, signs = torch.zeros_like(ends), torch.zeros_like(ends)
    lengths[:-1], signs[0], signs[-1] = ends.diff(), -1, 1
    mean, change = torch.zeros_like(patches[rows]), patches.new_zeros(m)

    def work(numbers: Tensor) -> None:
        paths = slice(int(numbers[0]) // steps, int(numbers[-1]) // steps + 1)
        points = torch.arange(int(numbers[0]) + paths.start, int(numbers[-1]) + paths.stop + 1, device=numbers.device)
        path, position = points // (steps + 1), points % (steps + 1)
        source = rows[path]
        inputs = starts[source].lerp_(patches[source], ends[position].view(-1, 1, 1, 1))
        belongs = path == torch.arange(paths.start, paths.stop, device=numbers.device)[:, None]
        not_last = points < points[-1]
        scores, sums = mean_multipliers(score, inputs, source, torch.where(belongs, lengths[position] * not_last, 0))
        mean[paths] += sums
        change.index_add_(0, path, scores * signs[position])

    batch.each(m * steps, patches.device, work)
    return mean, change


def _mean_gradient(
    score: Score, patches: Tensor, starts: Tensor, rows: Tensor, steps: int, batch: Batch, rule: str
) -> tuple[Tensor, Tensor]:
    """By gradients at the points of a quadrature rule."""
    m, (positions, weights) = len(rows), map(patches.new_tensor, quadrature(rule, steps))
    mean, change = torch.zeros_like(patches[rows]), patches.new_zeros(m)

    def ends(numbers: Tensor) -> None:
        with torch.no_grad():
            source = rows[numbers]
            change[numbers] = score(patches[source], source) - score(starts[source], source)

    def work(numbers: Tensor) -> None:
        path, point = numbers // steps, numbers % steps
        source = rows[path]
        inputs = starts[source].lerp_(patches[source], positions[point].view(-1, 1, 1, 1))
        mean.index_add_(0, path, gradient(score, inputs, source) * weights[point].view(-1, 1, 1, 1))

    batch.each(m, patches.device, ends)
    batch.each(m * steps, patches.device, work)
    return mean, change


def _mask_iou(before: Tensor, after: Tensor, how: str) -> Tensor:
    """The IoU [m] of the masks of two attributions [m, 3, h, w] of the same patches."""
    maps = (reduce(attribution.nan_to_num(0, 0, 0).cpu().numpy(), how) for attribution in (before, after))
    masks = (top_mask(values.reshape(len(values), -1), FRACTION) for values in maps)
    return torch.from_numpy(overlap(*masks)).to(after)
