"""Methods that fit a linear model to the scores of a patch whose superpixels are on or off: LIME and KernelSHAP.

Draws come in rounds, until the mask of the map would come out nearly the same from other draws (`stability`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.batches import Batch
from pcam_agreement.attribution.draws import coalitions, independent, orthogonal
from pcam_agreement.attribution.interactions import interactions, touching
from pcam_agreement.attribution.perturbation import superpixel_scores
from pcam_agreement.attribution.ridge import Fit, explained, weighted_ridge
from pcam_agreement.attribution.score import Score
from pcam_agreement.attribution.superpixels import superpixels_of_all
from pcam_agreement.params import KernelShap, Lime, Surrogate

Draw = Callable[[np.random.Generator, int, int], np.ndarray]
DRAWS: dict[str, Draw] = {"orthogonal": orthogonal, "independent": independent}

TOP = 0.25  # the top fraction whose mask has to be stable
REPLICATES = 16  # of the coefficients, from which the stability is estimated


def lime(
    score: Score,
    patches: Tensor,
    seeds: Sequence[int],
    settings: Lime,
    batch: Batch,
    labels: np.ndarray | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Superpixels' coefficients in a local ridge regression of the score (Ribeiro et al. 2016, arXiv 1602.04938).

    A superpixel that is off shows its mean colour. Of orthogonal draws, what neighbours do together is taken out first
    (`interactions`). labels: the superpixels [n, h, w] where they are known. Diagnostics: superpixels; samples; r2, the
    weighted share of the score's variance that the linear model explains; stability; unconverged (0 or 1).
    """
    known = _superpixels(patches, settings, labels)
    balanced = settings.draws == "orthogonal"
    groups = [tuple(members.to(patches.device) for members in touching(one)) for one in known] if balanced else []

    def fit(z: Tensor, scores: Tensor, rows: Tensor, counts: Tensor) -> Fit:
        weights = kernel(z, counts, settings.kernel, settings.kernel_width)
        if not balanced:
            return weighted_ridge(_centred(z, weights), _centred(scores, weights), weights, settings.ridge)
        weights[:, :2] = 0  # the whole patch and the emptied one are no random draws: they would weigh too much
        shares, together, pulls = torch.zeros_like(scores), torch.zeros_like(z[:, 0]), torch.zeros_like(z[:, 2::2])
        for i, (row, d) in enumerate(zip(rows.tolist(), counts.tolist(), strict=True)):
            ladder = z.new_ones(1, d + 1, d).tril(-1)  # none on, one on, ... all on
            by_count = kernel(ladder, counts[i : i + 1], settings.kernel, settings.kernel_width)
            own = interactions(z[i, :, :d], scores[i], groups[row], by_count[0].cpu().numpy(), settings.ridge)
            shares[i], together[i, :d], pulls[i, :, :d] = own.shares, own.coefficients, own.pulls
        features, rest = _centred(z, weights), scores - shares
        of_rest = weighted_ridge(features, _centred(rest, weights), weights, settings.ridge)
        coefficients = together + of_rest.coefficients
        # Half the sum of a pair's scores would pull at nothing, if the two had the same weight.
        even = rest.unflatten(1, (-1, 2)).mean(2).repeat_interleave(2, 1)
        of_even = weighted_ridge(features, _centred(even, weights), weights, settings.ridge).pulls
        pulls += of_even.unflatten(1, (-1, 2)).sum(2)[:, 1:]
        return Fit(coefficients, explained(features, _centred(scores, weights), weights, coefficients), pulls)

    return _rounds(score, patches, seeds, settings, batch, known, DRAWS[settings.draws], fit)


def kernel_shap(
    score: Score,
    patches: Tensor,
    seeds: Sequence[int],
    settings: KernelShap,
    batch: Batch,
    labels: np.ndarray | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Shapley values of the superpixels by weighted least squares (Lundberg and Lee 2017, arXiv 1705.07874).

    Sizes of coalitions are drawn by their weight, so that all draws weigh the same; the two ends are exact: the values
    add up to the score minus that of the patch with everything off. Diagnostics as of `lime`.
    """
    known = _superpixels(patches, settings, labels)

    def fit(z: Tensor, scores: Tensor, rows: Tensor, counts: Tensor) -> Fit:
        total = (scores[:, 0] - scores[:, 1])[:, None]  # the first pair is everything on, everything off
        there = torch.arange(z.shape[2], device=z.device) < counts[:, None]
        # The first value is the total less the others: what is left is a regression without that constraint.
        others = (z - z[..., :1]) * there[:, None]
        weights = torch.ones_like(scores)
        weights[:, :2] = 0
        free = weighted_ridge(others, scores - scores[:, 1:2] - z[..., 0] * total, weights, 1e-9)
        coefficients, pulls = free.coefficients.clone(), free.pulls.unflatten(1, (-1, 2)).sum(2)
        coefficients[:, 0] = total[:, 0] - coefficients[:, 1:].sum(1)
        pulls[..., 0] = -pulls[..., 1:].sum(2)
        return Fit(coefficients, free.r2, pulls)

    return _rounds(score, patches, seeds, settings, batch, known, coalitions, fit)


def kernel(z: Tensor, counts: Tensor, kind: str, width: float) -> Tensor:
    """Weights [n, s] of the draws z [n, s, d]: sqrt(exp(-d^2 / width^2)), d the cosine distance of z to all ones.

    kind = "similarity" puts the cosine similarity in place of the distance, the original course project's mistake:
    the patch itself then weighs 1e-7 and the emptied patch 1.
    """
    similarity = (z.sum(-1) / counts[:, None]).sqrt()
    d = 1 - similarity if kind == "distance" else similarity
    return torch.exp(-(d**2) / width**2).sqrt()


def stability(fit: Fit, sizes: Tensor, reduce: str) -> Tensor:
    """The mean IoU [m] that the masks of two such maps would have if their draws were other ones.

    Replicates of the coefficients take every pull with a random weight (the wild bootstrap of Wu 1986, linearised);
    masks are of the top quarter of the area. sizes: pixels of each superpixel, [m, d]. With fewer pulls than
    superpixels nothing can be said: 0.
    """
    pulls = fit.pulls
    random = torch.from_numpy(np.random.default_rng(0).standard_normal((REPLICATES, pulls.shape[1])))
    values = fit.coefficients[:, None] + random.to(pulls) @ pulls  # [m, r, d]
    if reduce == "positive_of_sum":
        values = values.clamp(min=0)
    elif reduce != "minmax_of_sum":
        values = values.abs()
    shares = top_shares(values, sizes[:, None].expand_as(values), TOP) * sizes[:, None]
    first, second = shares[:, ::2], shares[:, 1::2]
    iou = (torch.minimum(first, second).sum(2) / torch.maximum(first, second).sum(2)).mean(1)
    return torch.where((sizes > 0).sum(1) < pulls.shape[1], iou, 0)


def top_shares(values: Tensor, sizes: Tensor, fraction: float) -> Tensor:
    """How much of each superpixel [..., d] is in the mask of the top fraction: `heatmap.top_mask` by superpixels."""
    area = fraction * sizes.sum(-1, keepdim=True)
    values = torch.where(sizes > 0, values, -torch.inf)
    ordered, order = values.sort(-1, descending=True)
    reached = sizes.gather(-1, order).cumsum(-1) >= area
    threshold = ordered.gather(-1, reached.to(torch.int8).argmax(-1, keepdim=True))
    above, tied = (values > threshold).to(sizes.dtype), (values == threshold).to(sizes.dtype)
    rest = area - (above * sizes).sum(-1, keepdim=True)
    return above + tied * rest / (tied * sizes).sum(-1, keepdim=True).clamp(min=1)


def _centred(values: Tensor, weights: Tensor) -> Tensor:
    """Values [m, s] or [m, s, d] less their mean, weighted by [m, s], over s."""
    shares = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return values - (shares.view(*shares.shape, *[1] * (values.ndim - 2)) * values).sum(1, keepdim=True)


def _superpixels(patches: Tensor, settings: Surrogate, known: np.ndarray | None) -> np.ndarray:
    """Labels [n, h, w] of patches, unless they are known."""
    if known is not None:
        return known
    return superpixels_of_all(patches.permute(0, 2, 3, 1).cpu().numpy(), settings.superpixels, settings.segments)


def _rounds(
    score: Score,
    patches: Tensor,
    seeds: Sequence[int],
    settings: Surrogate,
    batch: Batch,
    known: np.ndarray,
    draw: Draw,
    fit: Callable[[Tensor, Tensor, Tensor, Tensor], Fit],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Score and fit again and again, with more draws for the patches that are not stable yet, up to max_samples."""
    n, device = len(patches), patches.device
    labels = torch.from_numpy(known.astype(np.int64)).to(device)
    sizes = torch.nn.functional.one_hot(labels.flatten(1)).sum(1).double()  # [n, d]
    counts = (sizes > 0).sum(1)
    most = settings.max_samples // settings.samples * settings.samples
    z = np.zeros((n, most, sizes.shape[1]), np.float32)
    for row, (seed, count) in enumerate(zip(seeds, counts.tolist(), strict=True)):
        z[row, :, :count] = draw(np.random.default_rng(seed), most, count)
    on = torch.from_numpy(z).to(device)
    coefficients, r2, stable = torch.zeros_like(sizes), sizes.new_zeros(n), sizes.new_zeros(n)
    used = torch.zeros(n, dtype=torch.int64, device=device)
    found, rows = sizes.new_zeros(n, most), torch.arange(n, device=device)
    for end in range(settings.samples, most + 1, settings.samples):
        new = slice(end - settings.samples, end)
        scores = superpixel_scores(score, patches, rows, labels, on[rows, new].to(patches.dtype), batch)
        found[rows, new] = scores.double()
        model = fit(on[rows, :end].double(), found[rows, :end], rows, counts[rows])
        certain = stability(model, sizes[rows], settings.reduce)
        coefficients[rows], r2[rows], stable[rows], used[rows] = model.coefficients, model.r2, certain, end
        rows = rows[~(certain >= 1 - settings.tolerance)]
        if len(rows) == 0:
            break
    painted = coefficients.gather(1, labels.flatten(1)).view_as(labels)[:, None]
    unconverged = ~(stable >= 1 - settings.tolerance)
    return painted.to(patches.dtype), {
        "superpixels": counts,
        "samples": used,
        "r2": r2,
        "stability": stable,
        "unconverged": unconverged.to(torch.int64),
    }
