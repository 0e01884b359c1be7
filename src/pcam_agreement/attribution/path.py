"""Methods that follow a path from a baseline to the patch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from pcam_agreement.architectures import IMAGENET_MEAN
from pcam_agreement.attribution.batches import Batch
from pcam_agreement.attribution.gradient import gradient
from pcam_agreement.attribution.score import Score
from pcam_agreement.attribution.secants import BentError, mean_slopes
from pcam_agreement.heatmap import reduce, top_mask
from pcam_agreement.params import IntegratedGradients

SMALLEST_CHANGE = 1e-3  # of the score: completeness is relative to the change, but not to less than this
TOP = 0.25  # the top fraction whose mask has to be converged
LEFT = 0.6  # how far a mask is from the converged one, of its change as the nodes doubled (measured: 0.5 to 0.6)


def integrated_gradients(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: IntegratedGradients, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """(x - x') times the mean gradient on the straight path from x' to x (Sundararajan et al. 2017, 1703.01365).

    rule auto takes slopes over `nodes` pieces of the path where the network is piecewise linear (`secants`), and
    elsewhere, as the gradient is smooth, gradients at the nodes of gauss_legendre; for the others see `quadrature`.
    Patches get twice the nodes, again and again up to max_nodes, until the mask of their map is converged to 1 - IoU =
    tolerance, as it changes with the nodes. Diagnostics: nodes; stability, the IoU that the mask should have with the
    converged one, 0 where the nodes were not doubled; unconverged (0 or 1); completeness_error,
    |sum - (s(x) - s(x'))| / |s(x) - s(x')|.
    """
    n = len(patches)
    starts = baseline(patches, settings.baseline)
    attribution, change = torch.zeros_like(patches), patches.new_zeros(n)
    stable, used = torch.zeros_like(change), torch.zeros(n, dtype=torch.int64, device=patches.device)
    nodes, rows = settings.nodes, torch.arange(n, device=patches.device)
    while len(rows) and nodes <= settings.max_nodes:
        found, change[rows] = _mean(score, patches, starts, rows, nodes, batch, settings.rule)
        found *= patches[rows] - starts[rows]
        if nodes > settings.nodes:
            stable[rows] = 1 - LEFT * (1 - _mask_iou(attribution[rows], found, settings.reduce))
        attribution[rows], used[rows] = found, nodes
        rows = rows[stable[rows] < 1 - settings.tolerance]
        nodes *= 2
    error = (attribution.sum((1, 2, 3)) - change).abs() / change.abs().clamp(min=SMALLEST_CHANGE)
    return attribution, {
        "nodes": used,
        "stability": stable,
        "completeness_error": error,
        "unconverged": (stable < 1 - settings.tolerance).to(torch.int64),
    }


def baseline(patches: Tensor, kind: str) -> Tensor:
    """Where the path starts, in pixel space: [n, 3, h, w].

    white (the background of a slide), black, mean (each patch's mean colour), blurred (sigma 8 pixels), imagenet
    (ImageNet's mean colour: what zero after normalisation means).
    """
    if kind == "white":
        return torch.ones_like(patches)
    if kind == "black":
        return torch.zeros_like(patches)
    if kind == "mean":
        return patches.mean((2, 3), keepdim=True).expand_as(patches)
    if kind == "blurred":
        return gaussian_blur(patches, [49, 49], [8.0, 8.0])
    if kind == "imagenet":
        return patches.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand_as(patches)
    raise ValueError(f"unknown baseline '{kind}'.")


def quadrature(rule: str, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in [0, 1] and weights of sum 1, each [nodes].

    gauss_legendre is exact to degree 2 nodes - 1; right is the Riemann sum.
    """
    if rule == "right":
        return np.arange(1, nodes + 1) / nodes, np.full(nodes, 1 / nodes)
    where, weights = np.polynomial.legendre.leggauss(nodes)
    return (where + 1) / 2, weights / 2


def pieces(count: int) -> np.ndarray:
    """The ends of `count` pieces of a path, [count + 1], closer as the patch comes into sight.

    The gradient grows on the way to the patch, 12 times on a trained ResNet from white. Twice as many halve the pieces.
    """
    return (np.arange(count + 1) / count) ** 0.6


def _mean(
    score: Score, patches: Tensor, starts: Tensor, rows: Tensor, count: int, batch: Batch, rule: str
) -> tuple[Tensor, Tensor]:
    """The mean gradient [m, 3, h, w] on the paths of m rows, and how the score changes along them [m]."""
    if rule == "auto":
        try:
            return _mean_slope(score, patches, starts, rows, count, batch)
        except BentError:
            rule = "gauss_legendre"
    return _mean_gradient(score, patches, starts, rows, count, batch, rule)


def _mean_slope(
    score: Score, patches: Tensor, starts: Tensor, rows: Tensor, count: int, batch: Batch
) -> tuple[Tensor, Tensor]:
    """By slopes over pieces of the paths.

    Batches span patches and pieces. Pieces follow each other in a batch, as do the points at their ends, of which a
    path has one more; from the last point of a path to the first of the next there is nothing to be counted.
    """
    m, ends = len(rows), patches.new_tensor(pieces(count))
    lengths, signs = torch.zeros_like(ends), torch.zeros_like(ends)
    lengths[:-1], signs[0], signs[-1] = ends.diff(), -1, 1
    mean, change = torch.zeros_like(patches[rows]), patches.new_zeros(m)

    def work(part: Tensor) -> None:
        path = slice(int(part[0]) // count, int(part[-1]) // count + 1)
        points = torch.arange(int(part[0]) + path.start, int(part[-1]) + path.stop + 1, device=part.device)
        which, place = points // (count + 1), points % (count + 1)
        source = rows[which]
        inputs = starts[source].lerp_(patches[source], ends[place].view(-1, 1, 1, 1))
        ours = which == torch.arange(path.start, path.stop, device=part.device)[:, None]
        last = points < points[-1]
        scores, found = mean_slopes(score, inputs, source, torch.where(ours, lengths[place] * last, 0))
        mean[path] += found
        change.index_add_(0, which, scores * signs[place])

    batch.each(m * count, patches.device, work)
    return mean, change


def _mean_gradient(
    score: Score, patches: Tensor, starts: Tensor, rows: Tensor, count: int, batch: Batch, rule: str
) -> tuple[Tensor, Tensor]:
    """By gradients at the nodes of a rule."""
    m, (where, weights) = len(rows), map(patches.new_tensor, quadrature(rule, count))
    mean, change = torch.zeros_like(patches[rows]), patches.new_zeros(m)

    def look(part: Tensor) -> None:
        with torch.no_grad():
            source = rows[part]
            change[part] = score(patches[source], source) - score(starts[source], source)

    def work(part: Tensor) -> None:
        path, node = part // count, part % count
        source = rows[path]
        inputs = starts[source].lerp_(patches[source], where[node].view(-1, 1, 1, 1))
        mean.index_add_(0, path, gradient(score, inputs, source) * weights[node].view(-1, 1, 1, 1))

    batch.each(m, patches.device, look)
    batch.each(m * count, patches.device, work)
    return mean, change


def _mask_iou(before: Tensor, after: Tensor, how: str) -> Tensor:
    """The IoU [m] of the masks of two attributions [m, 3, h, w] of the same patches."""
    maps = (reduce(one.nan_to_num(0, 0, 0).cpu().numpy(), how) for one in (before, after))
    a, b = (torch.from_numpy(top_mask(one.reshape(len(one), -1), TOP)) for one in maps)
    return (torch.minimum(a, b).sum(1) / torch.maximum(a, b).sum(1)).to(after)
