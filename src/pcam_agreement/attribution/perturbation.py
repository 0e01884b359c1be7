"""Methods that hide parts of the patch: windows, or superpixels that are on or off."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcam_agreement.attribution.batches import Batch
from pcam_agreement.attribution.score import Score
from pcam_agreement.params import Occlusion


def occlusion(
    score: Score, patches: Tensor, seeds: Sequence[int], settings: Occlusion, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the score loses where a window is hidden (Zeiler and Fergus 2013, arXiv 1311.2901).

    Square windows on a grid show the patch's mean colour; a pixel gets the mean over the windows that cover it. The
    last window of a row or column is moved inside, so that every pixel is covered.
    """
    n, height, width = len(patches), *patches.shape[2:]
    windows = _windows(height, width, settings.window, settings.stride).to(patches.device)
    count = len(windows)
    # One more, in which the first pixel shows itself: a batch of whole patches alone would be a small, slow one.
    indices = torch.cat([windows, torch.zeros_like(windows[:1])])
    mean = patches.mean((2, 3), keepdim=True).flatten(2)
    scores = patches.new_zeros(n, count + 1)

    def hide(part: Tensor) -> None:
        row, window = part // (count + 1), part % (count + 1)
        inputs = patches[row]
        flat = inputs.flatten(2)
        where = indices[window, None].expand(-1, flat.shape[1], -1)
        colour = torch.where(window.view(-1, 1, 1) < count, mean[row], flat[..., :1])
        flat.scatter_(2, where, colour.expand_as(where))
        with torch.no_grad():
            scores[row, window] = score(inputs, row).to(scores.dtype)

    batch.each(n * (count + 1), patches.device, hide)
    covers = patches.new_zeros(count, height * width).scatter_(1, windows, 1)
    loss = (scores[:, count:] - scores[:, :count]) @ (covers / covers.sum(0))
    return loss.view(n, 1, height, width), {}


def _windows(height: int, width: int, side: int, stride: int) -> Tensor:
    """The pixels that each window covers, their numbers in the flat patch: [w, side * side]."""
    pixels = torch.arange(height * width).view(height, width)
    tops, lefts = ([*range(0, length - side, stride), length - side] for length in (height, width))
    return torch.stack([pixels[top : top + side, left : left + side].flatten() for top in tops for left in lefts])


def superpixel_scores(score: Score, patches: Tensor, rows: Tensor, labels: Tensor, z: Tensor, batch: Batch) -> Tensor:
    """Scores [m, s] of the patches of these rows [m] with superpixels on (1) or off (0: their mean colour).

    labels: of all patches, [n, h, w]; z: [m, s, d]. Batches span patches and draws.
    """
    m, samples, most = z.shape
    chosen, flat = patches[rows], labels[rows].flatten(1)
    where = flat[:, None].expand(-1, patches.shape[1], -1)
    sums = chosen.new_zeros(m, patches.shape[1], most).scatter_add_(2, where, chosen.flatten(2))
    sizes = torch.zeros_like(sums).scatter_add_(2, where, torch.ones_like(chosen).flatten(2))
    filled = (sums / sizes.clamp(min=1)).gather(2, where).view_as(chosen)
    found = patches.new_zeros(m, samples)

    def work(part: Tensor) -> None:
        row, sample = part // samples, part % samples
        on = z[row, sample].gather(1, flat[row]).view(-1, 1, *patches.shape[2:])
        with torch.no_grad():
            found[row, sample] = score(torch.where(on > 0, chosen[row], filled[row]), rows[row]).to(found.dtype)

    batch.each(m * samples, patches.device, work)
    return found
