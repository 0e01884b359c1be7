"""Sets of heatmaps of the same patches, streamed from disk: the agreement of every pair on every patch."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from os import cpu_count
from threading import local

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pcam_agreement.agreement.measures import codes, measure
from pcam_agreement.agreement.null import groups, null_iou
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.core.patch import PATCH
from pcam_agreement.heatmaps.file import Heatmaps
from pcam_agreement.heatmaps.masks import top_mask

BLOCK = 256  # patches in memory at once, of every set and in every thread
RUN = 32  # patches that are read in one go
Arrays = dict[str, np.ndarray]


def compare(
    sets: Mapping[str, Heatmaps],
    labels: np.ndarray,
    slides: np.ndarray,
    settings: Agreement,
    each: Callable[[np.ndarray, np.ndarray, np.ndarray], Arrays] = lambda heatmaps, masks, rows: {},
) -> Arrays:
    """`measures.measure` and `null.null_iou` of all pairs of m sets of heatmaps on n patches.

    labels, slides: of the patches [n]. each: more to measure, from float16 heatmaps [m, g, h, w], masks [m, g, p] and
    the rows [g] of some patches, to arrays [..., g]. The partners of a patch in the null are the same for all pairs:
    `null.groups` of a block of patches from all over the set. Also in the result: index, labels, slides (numbered),
    constant, pairs, and the fractions of curve_iou as `curve`.

    Raises ValueError where the sets are of different patches.
    """
    index = next(iter(sets.values())).index
    for name, heatmaps in sets.items():
        if not np.array_equal(heatmaps.index, index):
            raise ValueError(f"{heatmaps.path}: {name} was explained on other patches; run explain for all networks.")
    constant = np.stack([heatmaps.constant for heatmaps in sets.values()])
    slides = np.unique(slides, return_inverse=True)[1]
    fraction, ties = settings.top_fraction, settings.ties

    def work(heatmaps: np.ndarray, rows: np.ndarray) -> Arrays:
        results = measure(heatmaps, constant[:, rows], fraction, ties, settings.fractions)
        for group in groups(labels[rows], slides[rows]):
            of_group, group_rows = heatmaps[:, group], rows[group]
            masks = np.stack([_masks(maps, fraction, ties) for maps in of_group])
            null = null_iou(masks, constant[:, group_rows], labels[group_rows], slides[group_rows])
            for name, values in {"null_iou": null, **each(of_group, masks, group_rows)}.items():
                results.setdefault(name, np.empty((*values.shape[:-1], len(rows))))[..., group] = values
        return results

    return {
        **stream(list(sets.values()), work),
        "index": index,
        "labels": labels,
        "slides": slides,
        "constant": constant,
        "pairs": np.array(list(combinations(range(len(sets)), 2)), np.int64).reshape(-1, 2),
        "curve": np.array(settings.fractions),
    }


def _masks(heatmaps: np.ndarray, fraction: float, ties: str) -> np.ndarray:
    """`masks.top_mask` of float16 heatmaps [n, h, w]; NumPy selects integers of 32 bits several times faster."""
    return top_mask(codes(heatmaps).reshape(len(heatmaps), -1).astype(np.int32), fraction, ties)


def stream(sets: list[Heatmaps], work: Callable[[np.ndarray, np.ndarray], Arrays], size: int = BLOCK) -> Arrays:
    """`work` on all patches, a block of about `size` at a time, as one: float32, patches last, in their order.

    work: of float16 heatmaps [m, b, h, w] and their rows [b], to arrays [..., b]; on as many threads as there are
    cores, its heatmaps are valid only until it returns. Memory does not grow with the patches but for the result. Work
    on each patch by itself is fastest in blocks of RUN, which fit into the processor's cache.
    """
    count = len(sets[0].index)
    all_runs, results = blocks(count, size), {}
    longest = max(sum(run.stop - run.start for run in runs) for runs in all_runs)
    thread = local()  # a buffer for every thread, since fresh memory costs as much as reading

    def block(runs: list[slice]) -> tuple[np.ndarray, Arrays]:
        rows = np.concatenate([np.arange(run.start, run.stop) for run in runs])
        if not hasattr(thread, "buffer"):
            thread.buffer = np.empty((len(sets), longest, PATCH, PATCH), np.float16)
        heatmaps = thread.buffer[:, : len(rows)]
        for source, out in zip(sets, heatmaps, strict=True):
            source.read_runs(runs, out)
        return rows, work(heatmaps, rows)

    # A thread a block: those of the linear algebra would only wait for each other.
    with threadpool_limits(1), ThreadPoolExecutor(cpu_count()) as pool:
        for rows, arrays in tqdm(pool.map(block, all_runs), "compare", len(all_runs), unit="block", disable=None):
            for name, values in arrays.items():
                if name not in results:
                    results[name] = np.full((*values.shape[:-1], count), np.nan, np.float32)
                results[name][..., rows] = values
    return results


def blocks(count: int, size: int) -> list[list[slice]]:
    """Patches 0 to count - 1 in blocks of about `size`: runs from all over, since neighbours are often of one slide."""
    runs = [slice(start, min(start + RUN, count)) for start in range(0, count, RUN)]
    number = -(-count // size)
    return [runs[first::number] for first in range(number)]
