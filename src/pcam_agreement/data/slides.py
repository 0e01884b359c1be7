"""Slides that are drawn, as splits in PCam's files: drawn by several processes, in constant memory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pcam_agreement.core.patch import PATCH
from pcam_agreement.core.settings import Count, Settings
from pcam_agreement.data.pcam import SPLITS, write_split
from pcam_agreement.data.processes import in_order, pool_of_processes

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
    with pool_of_processes(sum(slides.values())) as pool:
        for number, split in enumerate(SPLITS):
            tasks = [((seed, number, slide), n) for slide in range(slides[split])]
            meta = pd.concat(in_order(pool, drawing.rows, tasks), ignore_index=True)
            labels = meta["center_tumor_patch"].to_numpy(np.uint8)  # a patch is labelled by its centre
            blocks = in_order(pool, drawing.patches, tasks)
            progress = tqdm(blocks, f"{drawing.source} {split}", len(tasks), unit="slide", disable=None)
            write_split(folder, split, progress, labels, meta, in_order(pool, drawing.masks, tasks))


def crops(plane: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The patches [n, 96, 96, ...] of a slide [S, S, ...] whose top left pixels [n, 2] are given."""
    return np.stack([plane[y : y + PATCH, x : x + PATCH] for y, x in corners])
