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


def integrated_gradients(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: IntegratedGradients, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """(x - x') times the mean gradient on the straight path from x' to x (Sundararajan et al. 2017, 1703.01365).

    Patches whose completeness error is above the tolerance get twice the nodes, again and again up to max_nodes.
    Diagnostics: completeness_error, |sum - (s(x) - s(x'))| / |s(x) - s(x')|; nodes; unconverged (0 or 1).
    """
    starts = baseline(patches, settings.baseline)
    everything = torch.arange(len(patches), device=patches.device)
    change = _change(score, patches, starts, batch)
    attribution = torch.zeros_like(patches)
    error = torch.full_like(change, torch.inf)
    used = torch.zeros(len(patches), dtype=torch.int64, device=patches.device)
    nodes, rows = settings.nodes, everything
    while True:
        where, weights = quadrature(settings.rule, nodes)
        found = (patches[rows] - starts[rows]) * _mean_gradient(score, patches, starts, rows, where, weights, batch)
        attribution[rows] = found
        error[rows] = (found.sum((1, 2, 3)) - change[rows]).abs() / change[rows].abs().clamp(min=SMALLEST_CHANGE)
        used[rows] = nodes
        rows = rows[error[rows] > settings.tolerance]
        nodes *= 2
        if len(rows) == 0 or nodes > settings.max_nodes:
            break
    unconverged = ~(error <= settings.tolerance)
    return attribution, {"completeness_error": error, "nodes": used, "unconverged": unconverged.to(torch.int64)}


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
    """Positions in [0, 1] and weights of sum 1: gauss_legendre (exact to degree 2 nodes - 1) or right (Riemann)."""
    if rule == "right":
        return np.arange(1, nodes + 1) / nodes, np.full(nodes, 1 / nodes)
    where, weights = np.polynomial.legendre.leggauss(nodes)
    return (where + 1) / 2, weights / 2


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
    """The weighted mean of the gradients at the nodes, [len(rows), 3, h, w]; batches span patches and nodes."""
    positions, shares = patches.new_tensor(where), patches.new_tensor(weights)
    total = torch.zeros_like(patches[rows])

    def work(part: Tensor) -> None:
        which, node = part // len(where), part % len(where)
        source = rows[which]
        inputs = torch.lerp(starts[source], patches[source], positions[node].view(-1, 1, 1, 1))
        total.index_add_(0, which, gradient(score, inputs, source) * shares[node].view(-1, 1, 1, 1))

    batch.each(len(rows) * len(where), patches.device, work)
    return total
