"""Slides that are drawn, as splits in PCam's files: drawn by several processes, in constant memory."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import Count, Settings
from pcam_agreement.data.pcam import SPLITS, write_split

Key = tuple[int, int, int]  # seed, split, slide: all that a slide depends on


class SplitSlides(Settings):
    train: Count
    valid: Count
    test: Count


class DrawnSlides(Settings):
    slides: SplitSlides
    patches_per_slide: Count


@dataclass(frozen=True)
class Drawing:
    """How a source draws the n patches of a slide, n being at most `most_patches`: functions of its key and n."""

    source: str
    most_patches: int
    rows: Callable[[Key, int], pd.DataFrame]  # of the meta file
    patches: Callable[[Key, int], np.ndarray]  # uint8 [n, 96, 96, 3]
    masks: Callable[[Key, int], np.ndarray]  # uint8 [n, 96, 96]


def write(folder: Path, settings: DrawnSlides, seed: int, drawing: Drawing) -> None:
    """Draw the slides of all splits in processes of their own and write them into `folder` (which exists).

    Raises ValueError where a slide has no room for so many patches and where one of the processes is killed.
    """
    n = settings.patches_per_slide
    if n > drawing.most_patches:
        raise ValueError(f"expected patches_per_slide of at most {drawing.most_patches}, got {n}; use more slides.")
    slides = settings.slides.model_dump()
    workers = min(os.cpu_count() or 1, sum(slides.values()))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare_worker)
    try:
        for number, split in enumerate(SPLITS):
            keys = [(seed, number, slide) for slide in range(slides[split])]
            meta = pd.concat(_in_order(pool, drawing.rows, keys, n), ignore_index=True)
            labels = meta["center_tumor_patch"].to_numpy(np.uint8)
            blocks = _in_order(pool, drawing.patches, keys, n)
            progress = tqdm(blocks, f"{drawing.source} {split}", len(keys), unit="slide", disable=None)
            write_split(folder, split, progress, labels, meta, _in_order(pool, drawing.masks, keys, n))
    except (BrokenProcessPool, MemoryError) as error:
        raise ValueError(
            "a process that draws slides was killed, probably because the memory ran out; free some and run again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def crops(plane: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The patches [n, 96, 96, ...] of a slide [S, S, ...] whose top left pixels [n, 2] are given."""
    return np.stack([plane[y : y + PATCH, x : x + PATCH] for y, x in corners])


def _in_order(pool: Executor, function: Callable, keys: list[Key], n: int) -> Iterator:
    """function(key, n) for every key, in their order, with a few results at most waiting in memory."""
    left = iter(keys)
    waiting = deque(pool.submit(function, key, n) for key in islice(left, 2 * (os.cpu_count() or 1)))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, key, n) for key in islice(left, 1))


def _prepare_worker() -> None:
    """One thread a process; an interrupt is left to the parent, without which a worker ends."""
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
