"""Drawn slides as splits in PCam's own files: drawn by several processes, in constant memory."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import Count, Settings
from pcam_agreement.data.pcam import SPLITS, write_split


class SplitSlides(Settings):
    train: Count
    valid: Count
    test: Count


class DrawnSlides(Settings):
    slides: SplitSlides
    patches_per_slide: Count


Key = tuple[int, int, int]  # seed, split, slide: all that a slide depends on


def write(
    folder: Path,
    settings: DrawnSlides,
    seed: int,
    source: str,
    most: int,
    rows: Callable[[Key, int], pd.DataFrame],
    patches: Callable[[Key, int], np.ndarray],
    masks: Callable[[Key, int], np.ndarray],
) -> None:
    """Write all splits into `folder` (which exists) from three functions of a slide.

    They are given its key and its number of patches, at most `most`, and run in processes of their own.

    Raises ValueError where a slide has no room for that many patches and where one of the processes was killed.
    """
    n = settings.patches_per_slide
    if n > most:
        raise ValueError(f"expected patches_per_slide of at most {most}, found {n}; use more slides.")
    slides = [getattr(settings.slides, name) for name in SPLITS]
    workers = min(os.cpu_count() or 1, sum(slides))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), threadpool_limits, (1,))
    try:
        for split, name in enumerate(SPLITS):
            keys = [(seed, split, slide) for slide in range(slides[split])]
            meta = pd.concat(_in_order(pool, rows, keys, n), ignore_index=True)
            labels = meta["center_tumor_patch"].to_numpy(np.uint8)
            drawn = _in_order(pool, patches, keys, n)
            blocks = tqdm(drawn, f"{source} {name}", len(keys), unit="slide", disable=None)
            write_split(folder, name, blocks, labels, meta, _in_order(pool, masks, keys, n))
    except BrokenProcessPool as error:
        raise ValueError(
            "a process that drew slides was killed, perhaps for want of memory; free some memory and run again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def crops(plane: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The patches [n, 96, 96, ...] of a slide [S, S, ...] whose top left pixels are given."""
    return np.stack([plane[y : y + PATCH, x : x + PATCH] for y, x in corners])


def _in_order(pool: Executor, function: Callable, keys: list[Key], n: int) -> Iterator:
    """function(key, n) for every key, in their order, with a few results at most waiting in memory."""
    left = iter(keys)
    waiting = deque(pool.submit(function, key, n) for key in islice(left, 2 * (os.cpu_count() or 1)))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, key, n) for key in islice(left, 1))
