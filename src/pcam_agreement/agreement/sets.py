"""The overlaps of sets of heatmaps on disk, in every view, and of stochastic methods with their repeats."""

from collections.abc import Callable, Sequence

import numpy as np

from pcam_agreement.agreement.overlaps import (
    Overlaps,
    View,
    all_pairs,
    repeat_pairs,
    slide_groups,
    sum_overlaps,
    view_masks,
)
from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.core.patch import PATCH
from pcam_agreement.heatmaps.file import Heatmaps

AREA = PATCH**2


def views(settings: Agreement) -> list[View]:
    """The views of a run: the headline's first, then other scales, then other top fractions."""
    headline = View(settings.sigma, settings.top_fraction)
    scales = [View(sigma, settings.top_fraction) for sigma in settings.sigmas]
    fractions = [View(settings.sigma, fraction) for fraction in settings.fractions]
    return list(dict.fromkeys([headline, *scales, *fractions]))


def overlaps_of_sets(
    sets: Sequence[Heatmaps], labels: np.ndarray, slides: np.ndarray, chosen: Sequence[View]
) -> dict[View, Overlaps]:
    """The overlaps of all pairs of m sets of heatmaps of n patches, each set with itself among them, by view."""

    def read(rows: np.ndarray) -> np.ndarray:
        heatmaps = np.empty((len(sets), len(rows), PATCH, PATCH), np.float16)
        runs = [slice(row, row + 1) for row in rows]
        for heatmaps_of_set, out in zip(sets, heatmaps, strict=True):
            heatmaps_of_set.read_runs(runs, out)
        return heatmaps

    return _by_view(read, all_pairs(len(sets)), labels, slides, slide_groups(slides), chosen)


def overlaps_of_repeats(
    sets: Sequence[Heatmaps], labels: np.ndarray, slides: np.ndarray, chosen: Sequence[View]
) -> dict[View, Overlaps]:
    """Of the patches that were explained twice: each of m sets with itself, then with other perturbation samples.

    Empty where no patch was, or not by all sets.
    """
    count = min(len(heatmaps.repeated) for heatmaps in sets)
    if not count:
        return {}
    heatmaps = np.stack([each.read(slice(count)) for each in sets] + [each.repeated[:count] for each in sets])
    first = slice(count)
    return _by_view(
        lambda rows: heatmaps[:, rows],
        repeat_pairs(len(sets)),
        labels[first],
        slides[first],
        slide_groups(slides)[first],
        chosen,
    )


def _by_view(
    read: Callable[[np.ndarray], np.ndarray],
    pairs: np.ndarray,
    labels: np.ndarray,
    slides: np.ndarray,
    groups: np.ndarray,
    chosen: Sequence[View],
) -> dict[View, Overlaps]:
    """The overlaps in each view; heatmaps are read and masks taken anew for each, so that memory stays small."""
    overlaps = {}
    for view in chosen:

        def masks(rows: np.ndarray, view: View = view) -> np.ndarray:
            return view_masks(read(rows), view)

        overlaps[view] = sum_overlaps(masks, round(view.fraction * AREA), pairs, labels, slides, groups)
    return overlaps
