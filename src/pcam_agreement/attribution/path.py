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
from pcam_agreement.params import IntegratedGradients

SMALLEST_CHANGE = 1e-3  # of the score: completeness is relative to the change, but not to less than this
PILOT = 6  # evenly spaced nodes that tell the adaptive rule where the gradient is large
FLOOR = 0.1  # of the mean size: where the gradient is 0 at a node by chance, some more nodes look again


def integrated_gradients(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: IntegratedGradients, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """(x - x') times the mean gradient on the straight path from x' to x (Sundararajan et al. 2017, 1703.01365).

    rule adaptive lays the nodes of each patch where its gradient is large (`refine`); the others: see `quadrature`.
    Patches whose completeness error is above the tolerance get twice the nodes, again and again up to max_nodes.
    Diagnostics: completeness_error, |sum - (s(x) - s(x'))| / |s(x) - s(x')|; nodes; unconverged (0 or 1).
    """
    n = len(patches)
    starts = baseline(patches, settings.baseline)
    change = _change(score, patches, starts, batch)
    mean = torch.zeros_like(patches)
    error = torch.full_like(change, torch.inf)
    used = torch.zeros(n, dtype=torch.int64, device=patches.device)
    nodes, rows = settings.nodes, torch.arange(n, device=patches.device)
    where = np.empty((n, 0))  # the nodes of the rows so far, of the adaptive rule
    while True:
        if settings.rule == "adaptive":
            found, where = _adaptive(score, patches, starts, rows, mean[rows], where, nodes, batch)
        else:
            positions, weights = (np.tile(one, (len(rows), 1)) for one in quadrature(settings.rule, nodes))
            found = _mean_gradient(score, patches, starts, rows, positions, weights, batch)
        mean[rows] = found
        sums = (found * (patches[rows] - starts[rows])).sum((1, 2, 3))
        error[rows] = (sums - change[rows]).abs() / change[rows].abs().clamp(min=SMALLEST_CHANGE)
        used[rows] = nodes
        more = error[rows] > settings.tolerance
        rows, where = rows[more], where[more.cpu().numpy()]
        nodes *= 2
        if len(rows) == 0 or nodes > settings.max_nodes:
            break
    unconverged = ~(error <= settings.tolerance)
    return (patches - starts) * mean, {
        "completeness_error": error,
        "nodes": used,
        "unconverged": unconverged.to(torch.int64),
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


def refine(where: np.ndarray, sizes: np.ndarray, count: int) -> np.ndarray:
    """`count` more nodes for each of m paths, [m, count], between its nodes `where` [m, k] in order, the last at 1.

    All come to lie in proportion to sizes^(2/3), sizes [m, k] being the mean |gradient . (x - x')| at the nodes. A ReLU
    network's gradient jumps all along the path, so that an interval of length h adds an error of variance
    sizes^2 h^3; of all ways to lay a number of nodes, this one makes their sum the least. That paths want uneven nodes:
    Bhat and Raychowdhury 2023, arXiv 2302.11107.
    """
    m, k = where.shape
    root = np.pad(sizes ** (2 / 3), ((0, 0), (1, 0)), mode="edge")
    root += FLOOR * root.mean(1, keepdims=True)
    ends = np.pad(where, ((0, 0), (1, 0)))
    gaps, mass = np.diff(ends), np.diff(ends) * (root[:, 1:] + root[:, :-1])
    share = np.where(np.arange(k) == 0, 0.5, 1.0)  # 0 is no node: half a step lies between it and the first
    added = np.zeros((m, k), np.int64)
    for _ in range(count):
        added[np.arange(m), (mass / (added + share)).argmax(1)] += 1
    step = gaps / (added + share)
    found = np.empty((m, count))
    for row in range(m):
        gap = np.repeat(np.arange(k), added[row])
        place = np.arange(1, count + 1) - np.repeat(added[row].cumsum() - added[row], added[row])
        found[row] = ends[row, gap] + (place - np.where(gap == 0, 0.5, 0)) * step[row, gap]
    return found


def cells(where: np.ndarray) -> np.ndarray:
    """Weights [m, k] of nodes in order: the length of path that is nearer to a node than to any other."""
    return np.diff((where[:, 1:] + where[:, :-1]) / 2, prepend=0, append=1)


def _adaptive(
    score: Score,
    patches: Tensor,
    starts: Tensor,
    rows: Tensor,
    mean: Tensor,
    where: np.ndarray,
    nodes: int,
    batch: Batch,
) -> tuple[Tensor, np.ndarray]:
    """The mean gradient of m rows by `nodes` nodes, and these [m, nodes].

    The first are laid by `refine`; later ones, when there is a mean over nodes `where`, halve all gaps between these.
    """
    m, k = where.shape
    if k:
        gaps = np.diff(where, prepend=0)
        new = where - gaps / 2
        found = (mean + _mean_gradient(score, patches, starts, rows, new, gaps, batch)) / 2
        return found, np.sort(np.concatenate([where, new], 1), 1)
    k = min(PILOT, nodes)
    pilot, repeated = np.tile(np.arange(1, k + 1) / k, (m, 1)), rows.repeat_interleave(k)
    single = pilot.reshape(-1, 1)
    each = _mean_gradient(score, patches, starts, repeated, single, np.ones_like(single), batch).unflatten(0, (m, k))
    sizes = torch.einsum("mkchw,mchw->mkhw", each, patches[rows] - starts[rows]).abs().mean((2, 3))
    where = np.concatenate([pilot, refine(pilot, sizes.cpu().double().numpy(), nodes - k)], 1)
    order, weights = where.argsort(1), np.empty_like(where)
    np.put_along_axis(weights, order, cells(np.sort(where, 1)), 1)
    found = _mean_gradient(score, patches, starts, rows, where[:, k:], weights[:, k:], batch)
    found += torch.einsum("mkchw,mk->mchw", each, each.new_tensor(weights[:, :k]))
    return found, np.sort(where, 1)


def _change(score: Score, patches: Tensor, starts: Tensor, batch: Batch) -> Tensor:
    """s(x) - s(x'), [n]."""
    change = patches.new_zeros(len(patches))

    def work(rows: Tensor) -> None:
        with torch.no_grad():
            change[rows] = (score(patches[rows], rows) - score(starts[rows], rows)).to(change.dtype)

    batch.each(len(patches), patches.device, work)
    return change


def _mean_gradient(
    score: Score, patches: Tensor, starts: Tensor, rows: Tensor, where: np.ndarray, weights: np.ndarray, batch: Batch
) -> Tensor:
    """The weighted sum of the gradients at the nodes, [m, 3, h, w]; batches span patches and nodes.

    where, weights: [m, k], m of rows.
    """
    m, k = where.shape
    positions, shares = patches.new_tensor(where).flatten(), patches.new_tensor(weights).flatten()
    total = torch.zeros_like(patches[rows])

    def work(part: Tensor) -> None:
        which = part // k
        source = rows[which]
        inputs = torch.lerp(starts[source], patches[source], positions[part].view(-1, 1, 1, 1))
        total.index_add_(0, which, gradient(score, inputs, source) * shares[part].view(-1, 1, 1, 1))

    batch.each(m * k, patches.device, work)
    return total
