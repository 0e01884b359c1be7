"""Linear models of the scores of a patch whose superpixels are on or off: what LIME and KernelSHAP share.

Perturbation samples come in rounds, until the mask of the map would be nearly the same with other samples.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.common.passes import Passes
from pcam_agreement.attribution.common.regression import Fit
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.common.settings import Surrogate
from pcam_agreement.attribution.common.superpixels import superpixel_scores
from pcam_agreement.heatmaps.masks import overlap
from pcam_agreement.inference.batch import Batch

Sampling = Callable[[np.random.Generator, int, int], np.ndarray]  # see common.sampling
FitModel = Callable[[Tensor, Tensor, Tensor, Tensor], Fit]  # of samples, scores, rows and numbers of superpixels

FRACTION = 0.25  # the top fraction whose mask has to be stable
REPLICATES = 16  # of the coefficients, from which the stability is estimated


def passes(settings: Surrogate) -> Passes:
    """Every sample is a forward pass."""
    return Passes(forward=_most(settings), gradient=0)


def fit_in_rounds(
    score: Score,
    patches: Tensor,
    seeds: Sequence[int],
    settings: Surrogate,
    batch: Batch,
    superpixels: np.ndarray,
    sampling: Sampling,
    fit: FitModel,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Score and fit again and again, with more samples for the patches that are not stable yet, up to max_samples.

    superpixels: labels [n, h, w]. Returns each superpixel's coefficient at its pixels, [n, 1, h, w]. Diagnostics:
    superpixels; samples; r2, the weighted share of the score's variance that the linear model explains; stability;
    unconverged (0 or 1).
    """
    n, device = len(patches), patches.device
    labels = torch.from_numpy(superpixels.astype(np.int64)).to(device)
    sizes = torch.nn.functional.one_hot(labels.flatten(1)).sum(1).double()  # [n, d]
    counts = (sizes > 0).sum(1)
    most = _most(settings)
    z = np.zeros((n, most, sizes.shape[1]), np.float32)
    for row, (seed, count) in enumerate(zip(seeds, counts.tolist(), strict=True)):
        z[row, :, :count] = sampling(np.random.default_rng(seed), most, count)
    on = torch.from_numpy(z).to(device)
    coefficients, r2, stable = torch.zeros_like(sizes), sizes.new_zeros(n), sizes.new_zeros(n)
    used = torch.zeros(n, dtype=torch.int64, device=device)
    scores, rows = sizes.new_zeros(n, most), torch.arange(n, device=device)
    for end in range(settings.samples, most + 1, settings.samples):
        new = slice(end - settings.samples, end)
        new_scores = superpixel_scores(score, patches, rows, labels, on[rows, new].to(patches.dtype), batch)
        scores[rows, new] = new_scores.double()
        model = fit(on[rows, :end].double(), scores[rows, :end], rows, counts[rows])
        reached = stability(model, sizes[rows], settings.reduce)
        coefficients[rows], r2[rows], stable[rows], used[rows] = model.coefficients, model.r2, reached, end
        rows = rows[~(reached >= 1 - settings.tolerance)]
        if len(rows) == 0:
            break
    attribution = coefficients.gather(1, labels.flatten(1)).view_as(labels)[:, None]
    unconverged = ~(stable >= 1 - settings.tolerance)
    return attribution.to(patches.dtype), {
        "superpixels": counts,
        "samples": used,
        "r2": r2,
        "stability": stable,
        "unconverged": unconverged.to(torch.int64),
    }


def stability(fit: Fit, sizes: Tensor, reduce: str) -> Tensor:
    """The mean IoU [m] that the masks of two such maps would have with other samples.

    Replicates of the coefficients weigh every sample's influence at random (the wild bootstrap of Wu 1986, linearised);
    masks are of the top quarter of the area. sizes: pixels of each superpixel, [m, d]. With fewer samples than
    superpixels it cannot be estimated: 0.
    """
    influence = fit.influence
    random = torch.from_numpy(np.random.default_rng(0).standard_normal((REPLICATES, influence.shape[1])))
    values = fit.coefficients[:, None] + random.to(influence) @ influence  # [m, r, d]
    if reduce == "positive_of_sum":
        values = values.clamp(min=0)
    elif reduce != "minmax_of_sum":
        values = values.abs()
    pixels = (top_shares(values, sizes[:, None].expand_as(values), FRACTION) * sizes[:, None]).cpu().numpy()
    iou = torch.from_numpy(overlap(pixels[:, ::2], pixels[:, 1::2]).mean(1)).to(sizes)
    return torch.where((sizes > 0).sum(1) < influence.shape[1], iou, 0)


def top_shares(values: Tensor, sizes: Tensor, fraction: float) -> Tensor:
    """How much of each superpixel [..., d] is in the mask of the top fraction: `masks.top_mask` by superpixels."""
    area = fraction * sizes.sum(-1, keepdim=True)
    values = torch.where(sizes > 0, values, -torch.inf)
    ordered, order = values.sort(-1, descending=True)
    reached = sizes.gather(-1, order).cumsum(-1) >= area
    threshold = ordered.gather(-1, reached.to(torch.int8).argmax(-1, keepdim=True))
    above, tied = (values > threshold).to(sizes.dtype), (values == threshold).to(sizes.dtype)
    rest = area - (above * sizes).sum(-1, keepdim=True)
    return above + tied * rest / (tied * sizes).sum(-1, keepdim=True).clamp(min=1)


def _most(settings: Surrogate) -> int:
    """The samples of all rounds that fit."""
    return settings.max_samples // settings.samples * settings.samples
