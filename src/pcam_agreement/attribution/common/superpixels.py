"""Superpixels of a patch, from its pixels alone and so the same for every network; scores with some of them off."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from skimage.segmentation import quickshift, slic
from torch import Tensor

from pcam_agreement.attribution.common.score import Score
from pcam_agreement.core.files import atomic_file
from pcam_agreement.inference.batch import Batch


def superpixels_of_all(patches: np.ndarray, kind: str, segments: int) -> np.ndarray:
    """Labels int16 [n, h, w] of patches [n, h, w, 3] in [0, 1], computed side by side: see `superpixels`."""
    with ThreadPoolExecutor() as threads:  # most of it runs outside of Python's lock
        return np.stack(list(threads.map(lambda patch: superpixels(patch, kind, segments), patches))).astype(np.int16)


def kept_superpixels(patches: np.ndarray, kind: str, segments: int, folder: Path) -> np.ndarray:
    """The superpixels [n, 96, 96] of patches uint8 [n, 96, 96, 3]; kept in the folder for the next network."""
    code = Path(__file__).read_bytes() + version("scikit-image").encode()
    digest = hashlib.sha256(code + patches.tobytes()).hexdigest()[:16]
    path = folder / f"{kind}-{segments}-{digest}.npz"
    if not path.exists():
        labels = superpixels_of_all(patches.astype(np.float32) / 255, kind, segments)
        with atomic_file(path) as partial, open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, labels=labels)
    with np.load(path, allow_pickle=False) as file:
        return file["labels"]


def superpixels(patch: np.ndarray, kind: str, segments: int) -> np.ndarray:
    """Labels int64 [h, w] from 0, without gaps, of a patch [h, w, 3] in [0, 1].

    kind: slic (about this many segments), grid (the nearest square number of squares), quickshift (with the lime
    package's settings; `segments` has no effect, and on tissue it gives only 5 to 10).
    """
    height, width = patch.shape[:2]
    if kind == "grid":
        side = max(1, round(segments**0.5))
        rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
        return rows[:, None] * side + columns
    if kind == "slic":
        # Smoothed and compact: on tissue, the package's own defaults merge 64 into as few as 3.
        labels = slic(patch, segments, compactness=20, sigma=1, start_label=0)
    elif kind == "quickshift":
        labels = quickshift(patch.astype(np.float64), kernel_size=4, max_dist=200, ratio=0.2, rng=42)
    else:
        raise ValueError(f"unknown superpixels '{kind}'.")
    return np.unique(labels, return_inverse=True)[1].reshape(height, width)


def superpixel_scores(score: Score, patches: Tensor, rows: Tensor, labels: Tensor, z: Tensor, batch: Batch) -> Tensor:
    """Scores [m, s] of the patches of these rows [m] with superpixels on (1) or off (0: their mean colour).

    labels: of all patches, [n, h, w]; z: [m, s, d]. Batches span patches and samples.
    """
    m, samples, most = z.shape
    chosen, flat = patches[rows], labels[rows].flatten(1)
    index = flat[:, None].expand(-1, patches.shape[1], -1)
    sums = chosen.new_zeros(m, patches.shape[1], most).scatter_add_(2, index, chosen.flatten(2))
    sizes = torch.zeros_like(sums).scatter_add_(2, index, torch.ones_like(chosen).flatten(2))
    filled = (sums / sizes.clamp(min=1)).gather(2, index).view_as(chosen)
    scores = patches.new_zeros(m, samples)

    def work(numbers: Tensor) -> None:
        row, sample = numbers // samples, numbers % samples
        on = z[row, sample].gather(1, flat[row]).view(-1, 1, *patches.shape[2:])
        with torch.no_grad():
            scores[row, sample] = score(torch.where(on > 0, chosen[row], filled[row]), rows[row]).to(scores.dtype)

    batch.each(m * samples, patches.device, work)
    return scores
