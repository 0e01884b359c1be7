"""Methods that switch parts of the patch off and fit a linear model to the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.score import Score
from pcam_agreement.attribution.superpixels import superpixels
from pcam_agreement.params import Lime


def lime(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Lime, batch_size: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Superpixels' coefficients in a local ridge regression of the score (Ribeiro et al. 2016, arXiv 1602.04938).

    A superpixel that is off shows its mean colour. Diagnostics: superpixels; r2, the weighted share of the score's
    variance that the linear model explains.
    """
    device = patches.device
    pixels = patches.permute(0, 2, 3, 1).cpu().numpy()
    labels = np.stack([superpixels(patch, settings.superpixels, settings.segments) for patch in pixels])
    counts = labels.max((1, 2)) + 1
    draws = np.zeros((len(patches), settings.samples, counts.max()), np.float32)  # [n, s, d], padded with zeros
    for row, (seed, count) in enumerate(zip(seeds, counts, strict=True)):
        draws[row, :, :count] = draw(np.random.default_rng(seed), settings.samples, count)
    z, segments = torch.from_numpy(draws).to(device), torch.from_numpy(labels).to(device)
    found = _perturbed_scores(score, patches, segments, z, batch_size).double()
    weights = kernel(z.double(), torch.from_numpy(counts).to(device), settings.kernel, settings.kernel_width)
    coefficients, r2 = weighted_ridge(z.double(), found, weights, settings.ridge)
    painted = coefficients.gather(1, segments.flatten(1)).view_as(segments)[:, None]
    return painted.to(patches.dtype), {"superpixels": torch.from_numpy(counts), "r2": r2}


def draw(random: np.random.Generator, samples: int, count: int) -> np.ndarray:
    """Which superpixels are on: 0/1 [samples, count], each with probability 1/2; all of them in the first row."""
    z = random.integers(0, 2, (samples, count)).astype(np.float32)
    z[0] = 1
    return z


def kernel(z: Tensor, counts: Tensor, kind: str, width: float) -> Tensor:
    """Weights [n, s] of the draws z [n, s, d]: sqrt(exp(-d^2 / width^2)), d the cosine distance of z to all ones.

    kind = "similarity" puts the cosine similarity in place of the distance, the original course project's mistake:
    the patch itself then weighs 1e-7 and the emptied patch 1.
    """
    similarity = (z.sum(-1) / counts[:, None]).sqrt()
    d = 1 - similarity if kind == "distance" else similarity
    return torch.exp(-(d**2) / width**2).sqrt()


def weighted_ridge(z: Tensor, target: Tensor, weights: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Coefficients [n, d] and weighted R2 [n] of n ridge regressions with an intercept that is not penalised.

    z: [n, s, d]; target, weights: [n, s]. All normal equations in one solve; columns of zeros get 0 where alpha > 0.
    """
    share = (weights / weights.sum(1, keepdim=True))[..., None]
    z_centred, centred = z - (share * z).sum(1, keepdim=True), target - (share[..., 0] * target).sum(1, keepdim=True)
    weighted = z_centred * weights[..., None]
    normal = weighted.mT @ z_centred + alpha * torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
    coefficients = torch.linalg.solve(normal, (weighted.mT @ centred[..., None])[..., 0])
    residual = centred - (z_centred @ coefficients[..., None])[..., 0]
    total = (weights * centred**2).sum(1)
    r2 = 1 - (weights * residual**2).sum(1) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return coefficients, r2


def _perturbed_scores(score: Score, patches: Tensor, segments: Tensor, z: Tensor, batch_size: int) -> Tensor:
    """Scores [n, s] of the patches with superpixels off; batches span patches and draws."""
    n, samples, most = z.shape
    where = segments.flatten(1)[:, None].expand(-1, 3, -1)
    sums = patches.new_zeros(n, 3, most).scatter_add_(2, where, patches.flatten(2))
    sizes = patches.new_zeros(n, 3, most).scatter_add_(2, where, torch.ones_like(patches).flatten(2))
    filled = (sums / sizes.clamp(min=1)).gather(2, where).view_as(patches)
    scores = []
    with torch.no_grad():
        for part in torch.arange(n * samples, device=patches.device).split(batch_size):
            row, sample = part // samples, part % samples
            on = z[row, sample].gather(1, segments[row].flatten(1)).view(-1, 1, *patches.shape[2:])
            scores.append(score(torch.where(on > 0, patches[row], filled[row]), row))
    return torch.cat(scores).view(n, samples)
