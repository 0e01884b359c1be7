"""Drawn slides as splits in PCam's own files: drawn by several processes, in constant memory."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pcam_agreement import params, pcam

Key = tuple[int, int, int]  # seed, split, slide: all that a slide depends on


def write(
    folder: Path,
    settings: params.Synthetic,
    seed: int,
    source: str,
    most: int,
    rows: Callable[[Key, int], pd.DataFrame],
    patches: Callable[[Key, int], np.ndarray],
    masks: Callable[[Key, int], np.ndarray],
) -> None:
    """Write all splits into `folder` (which exists) from what three functions say of a slide.

    They are given its key and its number of patches, at most `most`, and run in processes of their own. Raises
    ValueError where a slide has no room for that many patches.
    """
    n = settings.patches_per_slide
    if n > most:
        raise ValueError(f"expected patches_per_slide of at most {most}, found {n}; use more slides.")
    slides = [getattr(settings.slides, name) for name in pcam.SPLITS]
    workers = min(os.cpu_count() or 1, sum(slides))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), threadpool_limits, (1,)) as pool:
        for split, name in enumerate(pcam.SPLITS):
            keys = [(seed, split, slide) for slide in range(slides[split])]
            meta = pd.concat(_in_order(pool, rows, keys, n), ignore_index=True)
            labels = meta["center_tumor_patch"].to_numpy(np.uint8)
            drawn = _in_order(pool, patches, keys, n)
            blocks = tqdm(drawn, f"{source} {name}", len(keys), unit="slide", disable=None)
            pcam.write(folder, name, blocks, labels, meta, _in_order(pool, masks, keys, n))


def crops(plane: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The patches [n, 96, 96, ...] of a slide [S, S, ...] whose top left pixels are given."""
    return np.stack([plane[y : y + pcam.PATCH, x : x + pcam.PATCH] for y, x in corners])


def _in_order(pool: Executor, function: Callable, keys: list[Key], n: int) -> Iterator:
    """function(key, n) for every key, in their order, with a few results at most waiting in memory."""
    left = iter(keys)
    waiting = deque(pool.submit(function, key, n) for key in islice(left, 2 * (os.cpu_count() or 1)))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, key, n) for key in islice(left, 1))
