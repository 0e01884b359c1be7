"""Deletion and insertion: how the score changes as a heatmap's highest pixels are deleted or inserted first."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pcam_agreement.attribution.common.baseline import baseline
from pcam_agreement.attribution.common.score import Score
from pcam_agreement.attribution.faithfulness.settings import Faithfulness
from pcam_agreement.inference.batch import Batch

ABSOLUTE = ("max_of_absolute", "absolute_of_sum")  # reductions that do not tell evidence for from evidence against


def curves(
    score: Score, patches: Tensor, heatmaps: np.ndarray, seeds: Sequence[int], settings: Faithfulness, batch: Batch
) -> dict[str, np.ndarray]:
    """Deletion and insertion curves (Petsiuk et al. 2018, arXiv 1806.07421; Samek et al. 2017, arXiv 1509.06321).

    patches: [n, 3, h, w], on the network's device; heatmaps: [n, h, w]; seeds: one integer a patch, the same for every
    network and method, so that random rankings are shared. Deleted pixels show the fill, and so do pixels that are not
    inserted yet. Scores at steps + 1 equal shares of the pixels, from 0 to 1:

    deletion, insertion [n, steps + 1]: in the order of the heatmap, from its highest pixel;
    deletion_rolled, insertion_rolled [n, rolls, steps + 1]: in that of the same heatmap moved on a torus to a random
    place, which differs in its place alone: not in grain, concentration or the shape of its holes;
    deletion_pixels, insertion_pixels [n, steps + 1]: in one random order of single pixels.
    """
    n, (height, width) = len(patches), heatmaps.shape[1:]
    orders = np.empty((n, 2 * (1 + settings.rolls) + 1, height, width), np.int32)
    for row, seed in enumerate(seeds):
        random = np.random.default_rng(seed)
        order = ranking(heatmaps[row], random)
        shifts = random.choice(np.arange(1, height * width), settings.rolls, replace=False)
        rolled = [np.roll(order, divmod(int(shift), width), (0, 1)) for shift in shifts]
        forward = np.stack([order, *rolled])
        orders[row, :-1] = np.concatenate([forward, height * width - 1 - forward])
        orders[row, -1] = random.permutation(height * width).reshape(height, width)
    scores = _deletion(score, patches, baseline(patches, settings.fill), orders, settings.steps, batch)
    # Inserting pixels in an order is deleting them in the opposite order, read backwards.
    deletion, insertion = scores[:, : 1 + settings.rolls], scores[:, 1 + settings.rolls : -1, ::-1]
    return {
        "deletion": deletion[:, 0],
        "insertion": insertion[:, 0],
        "deletion_rolled": deletion[:, 1:],
        "insertion_rolled": insertion[:, 1:],
        "deletion_pixels": scores[:, -1],
        "insertion_pixels": scores[:, -1, ::-1],
    }


def areas(curves: dict[str, np.ndarray], reduce: str) -> dict[str, np.ndarray]:
    """The area under each of the curves [n, …, s] that `curves` gives, in logits, and `change` [n].

    change is s(x) - s(x'), of the patch and the filled patch. An area is the mean change of the score so far: from s(x)
    where pixels are deleted, from s(x') where they are inserted. It counts in the direction that the heatmap predicts,
    so that higher is better; a straight line has half of the change.

    The direction: a heatmap of absolute values (see `masks.reduce`) holds evidence for and against, and predicts which
    pixels make the difference between s(x) and s(x'), so the direction is that of the change. On a normal patch, whose
    score is often lower than the filled one's, that is up for deletion. A heatmap of evidence for the class predicts
    that its highest pixels raise s: down for deletion, whatever the change.

    Why no absolute value: it would credit changes in the wrong direction, which is all there is where the change is
    about 0. Why no division by each patch's change: for the same reason; a patch counts by how much there is to
    explain.
    """
    change = curves["deletion"][:, 0].astype(np.float64) - curves["deletion"][:, -1]
    direction = np.sign(change) if reduce in ABSOLUTE else np.ones_like(change)
    result = {"change": change}
    for name, values in curves.items():
        moved = (values - values[..., :1]) * direction.reshape(-1, *[1] * (values.ndim - 1))
        mean = (moved[..., 1:] + moved[..., :-1]).mean(-1) / 2  # the trapezoid rule
        result[name] = -mean if name.startswith("deletion") else mean
    return result


def ranking(heatmap: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The place of each pixel of a heatmap [h, w] in its order, 0 for the highest; pixels that tie are in random order.

    Superpixels are then deleted a part at a time, at random: every step has the same share of the pixels.
    """
    order = np.lexsort((random.random(heatmap.size), -heatmap.ravel()))
    places = np.empty(heatmap.size, np.int64)
    places[order] = np.arange(heatmap.size)
    return places.reshape(heatmap.shape)


def _deletion(
    score: Score, patches: Tensor, filled: Tensor, orders: np.ndarray, steps: int, batch: Batch
) -> np.ndarray:
    """Scores float32 [n, m, steps + 1] of patches with 0, 1 / steps … all of the pixels filled, in m orders each."""
    n, m, height, width = orders.shape
    places = torch.from_numpy(orders).to(patches.device)
    counts = torch.linspace(0, height * width, steps + 1, device=patches.device).round()
    scores = torch.zeros(n, m, steps + 1, device=patches.device)

    def ends(rows: Tensor) -> None:
        with torch.no_grad():
            whole, none = score(patches[rows], rows), score(filled[rows], rows)
        scores[rows, :, 0], scores[rows, :, -1] = whole[:, None].to(scores.dtype), none[:, None].to(scores.dtype)

    def between(numbers: Tensor) -> None:
        row, rest = numbers // (m * (steps - 1)), numbers % (m * (steps - 1))
        order, step = rest // (steps - 1), rest % (steps - 1) + 1
        deleted = places[row, order] < counts[step].view(-1, 1, 1)
        with torch.no_grad():
            inputs = torch.where(deleted[:, None], filled[row], patches[row])
            scores[row, order, step] = score(inputs, row).to(scores.dtype)

    batch.each(n, patches.device, ends)
    batch.each(n * m * (steps - 1), patches.device, between)
    return scores.cpu().numpy()
