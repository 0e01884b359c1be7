"""Overlaps of masks of the same and of different patches, summed so that any slide can be left out.

The overlap of two masks is the sum of their product over their area k, which for masks of 0 and 1 is Dice. It is linear
in each mask, so that the mean over all pairs of *different* patches is a product of sums of masks, without random
partners.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from os import cpu_count

import numpy as np
from threadpoolctl import threadpool_limits

from pcam_agreement.heatmaps.masks import top_mask

GROUPS = 100  # of slides that are left out together, where there are more slides
LENGTH = 32  # patches of all networks in memory at once
FEWEST = 3  # slides of a label: with fewer, to leave one out would leave no pair of slides
Masks = Callable[[np.ndarray], np.ndarray]  # of patches [c], by row -> [m, c, pixels]


@dataclass(frozen=True)
class View:
    """How masks are taken: heatmaps blurred by a Gaussian of `sigma` pixels, then the top `fraction` of the pixels."""

    sigma: float
    fraction: float


@dataclass(frozen=True)
class Overlaps:
    """Sums of the overlaps of pairs of sets of masks, by cell: the patches of one label and one group of slides.

    pairs: [k, 2]; label, group: of each cell [c]; patches: how many it has [c]; squares: the sum of the squares of the
    patches of its slides [c]. In units of the mask's area: same [c, k], over the patches of the cell, the two masks of
    the patch; slide [c, k], over pairs of its patches of one slide (a patch with itself among them); without [c, k],
    what the sum over all pairs of patches of the label loses where the cell is left out; total [labels, k], this sum,
    labels in increasing order. Labels of fewer than three slides are left out.
    """

    pairs: np.ndarray
    label: np.ndarray
    group: np.ndarray
    patches: np.ndarray
    squares: np.ndarray
    same: np.ndarray
    slide: np.ndarray
    without: np.ndarray
    total: np.ndarray

    def of_label(self, label: int) -> "Overlaps":
        """Those of the patches of one label."""
        cells, labels = self.label == label, np.unique(self.label) == label
        arrays = {name: getattr(self, name)[cells] for name in ("label", "group", "patches", "squares")}
        sums = {name: getattr(self, name)[cells] for name in ("same", "slide", "without")}
        return Overlaps(pairs=self.pairs, total=self.total[labels], **arrays, **sums)

    def patch_specific(self) -> tuple[np.ndarray, np.ndarray]:
        """The patch-specific overlap C of every pair [k], and with each group of slides left out [groups, k].

        C = sum over labels c of n_c / n (mean overlap on the patches of c - mean overlap of different patches of c, of
        different slides): the covariance of the two masks over patches, summed over pixels. 0 for masks that are
        independent, or that depend on the label alone. NaN where no label has three slides.
        """
        groups, labels = np.unique(self.group), np.unique(self.label)
        shape = (len(groups) + 1, len(labels))  # the first row is of all groups
        patches, squares = np.zeros((2, *shape, 1))
        sums, same, slide = np.zeros((3, *shape, len(self.pairs)))
        sums[:] = self.total
        row, column = np.searchsorted(groups, self.group) + 1, np.searchsorted(labels, self.label)
        for whole, of_cell in ((patches, self.patches[:, None]), (squares, self.squares[:, None])):
            np.add.at(whole, (row, column), -of_cell.astype(float))
            whole -= whole[1:].sum(0)
        for whole, of_cell in ((same, self.same), (slide, self.slide)):
            np.add.at(whole, (row, column), -of_cell)
            whole -= whole[1:].sum(0)
        np.add.at(sums, (row, column), -self.without)
        if not len(labels):
            return np.full(len(self.pairs), np.nan), np.full((0, len(self.pairs)), np.nan)
        specific = same / patches - (sums - slide) / (patches**2 - squares)
        weighted = (patches * specific).sum(1) / patches.sum(1)
        return weighted[0], weighted[1:]


SUMS = ("same", "slide", "without", "total")
SHARED = tuple(field.name for field in fields(Overlaps) if field.name not in SUMS)


def slide_groups(slides: np.ndarray) -> np.ndarray:
    """The number of each patch's slide [n], or of a group of slides where there are more than GROUPS.

    The groups are left out in place of slides (the delete-a-group jackknife, Kott 2001, Journal of Official Statistics
    17), so that neither time nor memory grows with the number of slides.
    """
    return np.unique(slides, return_inverse=True)[1] % GROUPS


def sum_overlaps(
    masks: Masks, area: int, pairs: np.ndarray, labels: np.ndarray, slides: np.ndarray, groups: np.ndarray
) -> Overlaps:
    """The overlaps of these pairs [k, 2] of m sets of masks of n patches, in units of the masks' area in pixels.

    labels, slides, groups: of the patches, [n]; groups: of slides (see `slide_groups`).
    """
    keep = [label for label in np.unique(labels) if len(np.unique(slides[labels == label])) >= FEWEST]
    cells = [
        (label, number, rows[np.argsort(slides[rows], kind="stable")])
        for label in keep
        for number in np.unique(groups[labels == label])
        for rows in [np.flatnonzero((labels == label) & (groups == number))]
    ]
    first, second = pairs.T
    with threadpool_limits(1), ThreadPoolExecutor(cpu_count()) as pool:
        results = list(pool.map(lambda cell: _cell(masks, cell[2], slides), cells))
    names = ("same", "slide", "without")
    sums: dict[str, list[np.ndarray]] = {name: [] for name in names}
    total = []
    for label in keep:
        of_label = [result for cell, result in zip(cells, results, strict=True) if cell[0] == label]
        everything = np.sum([whole for _, _, whole in of_label], 0, dtype=float)  # masks of all patches, [m, pixels]
        total.append((everything @ everything.T)[first, second])
        for same, slide, whole in of_label:
            cross, of_cell = whole @ everything.T, whole.astype(float) @ whole.T
            for name, values in zip(names, (same, slide, cross + cross.T - of_cell), strict=True):
                sums[name].append(values[first, second])
    counts = [np.unique(slides[rows], return_counts=True)[1] for _, _, rows in cells]

    def stacked(values: list[np.ndarray]) -> np.ndarray:
        return np.array(values, float).reshape(-1, len(pairs)) / area

    return Overlaps(
        pairs=pairs,
        label=np.array([label for label, _, _ in cells], np.int64),
        group=np.array([number for _, number, _ in cells], np.int64),
        patches=np.array([len(rows) for _, _, rows in cells], np.int64),
        squares=np.array([(count**2).sum() for count in counts], np.int64),
        **{name: stacked(values) for name, values in sums.items()},
        total=stacked(total),
    )


def _cell(masks: Masks, rows: np.ndarray, slides: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the patches of a cell, ordered by slide: their overlaps [m, m], those of pairs of one slide, their masks."""
    first = masks(rows[:1])
    same, slide = np.zeros((2, len(first), len(first)))
    whole, of_slide = np.zeros((2, len(first), first.shape[2]), np.float32)
    for start in range(0, len(rows), LENGTH):
        part = rows[start : start + LENGTH]
        of_part = masks(part)
        flat = of_part.reshape(len(of_part), -1)
        same += flat @ flat.T
        for place, row in enumerate(part):
            of_slide += of_part[:, place]
            following = rows[start + place + 1 : start + place + 2]
            if not len(following) or slides[following[0]] != slides[row]:  # the slide's last patch
                slide += of_slide @ of_slide.T
                whole += of_slide
                of_slide[:] = 0
    return same, slide, whole


def pack(overlaps: Mapping[View, Overlaps], prefix: str) -> dict[str, np.ndarray]:
    """Overlaps of the same patches and pairs in several views as arrays for one file."""
    whole = list(overlaps.values())
    arrays = {f"{prefix}_{name}": getattr(whole[0], name) for name in SHARED}
    arrays |= {f"{prefix}_{name}": np.stack([getattr(each, name) for each in whole]) for name in SUMS}
    return {**arrays, f"{prefix}_view": np.array([(view.sigma, view.fraction) for view in overlaps])}


def unpack(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[View, Overlaps]:
    """What was packed, by view, in its order; empty where nothing was."""
    return {
        View(float(sigma), float(fraction)): Overlaps(
            **{name: arrays[f"{prefix}_{name}"] for name in SHARED},
            **{name: arrays[f"{prefix}_{name}"][row] for name in SUMS},
        )
        for row, (sigma, fraction) in enumerate(arrays.get(f"{prefix}_view", np.empty((0, 2))))
    }


def view_masks(heatmaps: np.ndarray, view: View) -> np.ndarray:
    """The masks [m, c, h * w] of heatmaps [m, c, h, w]: float32, exactly the top fraction, ties share.

    A constant heatmap knows no place: its mask is even.
    """
    values = heatmaps.astype(np.float32)
    flat = values.reshape(*heatmaps.shape[:2], -1)
    constant = flat.max(-1) == flat.min(-1)
    masks = top_mask(blur(values, view.sigma).reshape(flat.shape), view.fraction)
    masks[constant] = view.fraction
    return masks


def blur(heatmaps: np.ndarray, sigma: float) -> np.ndarray:
    """Float32 heatmaps [..., h, w] through a Gaussian of this standard deviation in pixels, mirrored at the edge."""
    if sigma == 0:
        return heatmaps
    rows, columns = (_kernel(side, sigma) for side in heatmaps.shape[-2:])
    return rows @ heatmaps @ columns.T


@cache
def _kernel(side: int, sigma: float) -> np.ndarray:
    """The Gaussian as a matrix [side, side]: a product of small matrices is faster than a filter."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(np.eye(side), sigma, axis=0).astype(np.float32)


def all_pairs(m: int) -> np.ndarray:
    """The pairs [k, 2] of m sets, each with itself among them."""
    return np.stack(np.triu_indices(m), 1)


def repeat_pairs(m: int) -> np.ndarray:
    """Pairs [2 m, 2] of m sets and, behind them, m others: each with itself, then each with its other."""
    every = np.arange(m)
    return np.stack([np.tile(every, 2), np.append(every, m + every)], 1)
