"""For anybody's heatmaps: what networks share of where they look, from arrays. Needs NumPy and SciPy, and no torch.

>>> rng = np.random.default_rng(0)
>>> patches = rng.random((40, 24, 24))                    # what all networks see of 40 patches
>>> heatmaps = patches + rng.random((6, 40, 24, 24))      # six networks: three trainings of two recipes
>>> result = decompose_heatmaps(heatmaps, ["a"] * 3 + ["b"] * 3, np.arange(40) % 2, np.arange(40) // 2, sigma=0)
>>> {name: round(share.value, 2) for name, share in result.shares.items() if not share.reason}
{'common': 0.29, 'recipe': 0.0, 'training': 0.71}
>>> round(result.R.value, 1), math.ceil(result.trainings_needed.value)
(1.0, 10)
"""

import math  # noqa: F401  for the example
from collections.abc import Sequence

import numpy as np

from pcam_agreement.agreement.components import Networks
from pcam_agreement.agreement.decomposition import Decomposition, decompose
from pcam_agreement.agreement.overlaps import View, all_pairs, repeat_pairs, slide_groups, sum_overlaps, view_masks


def decompose_heatmaps(
    heatmaps: np.ndarray,
    recipes: Sequence[str],
    labels: np.ndarray,
    slides: np.ndarray,
    *,
    architectures: Sequence[str] | None = None,
    trained: Sequence[bool] | None = None,
    repeated: np.ndarray | None = None,
    sigma: float = 2.0,
    fraction: float = 0.25,
) -> Decomposition:
    """The decomposition of what m networks share on n patches, with intervals over trainings and slides.

    heatmaps: non-negative, [m, n, h, w], the same patches for all, of any size; recipes: of each network [m], those of
    one recipe are trained alike but for the seed, three or more of them for intervals over trainings; labels: of the
    patches [n]; slides: or patients [n], what is independent of each other. architectures: of each network, its recipe
    if not given; trained: False for networks that are re-initialised copies, from which the input part is told.
    repeated: of a stochastic method, the networks' heatmaps of the first r patches from other perturbation samples,
    [m, r, h, w]. sigma: of the Gaussian that heatmaps are blurred by, in pixels; fraction: of the pixels, in a mask.

    Raises ValueError where the shapes do not fit, or a heatmap is negative or not finite.
    """
    m = len(heatmaps)
    labels, slides, trained = np.asarray(labels), np.asarray(slides), [True] * m if trained is None else list(trained)
    networks = Networks(list(recipes), list(recipes if architectures is None else architectures), trained)
    _check(heatmaps, networks, labels, slides, repeated)
    view = View(sigma, fraction)
    area, groups = round(fraction * heatmaps[0, 0].size), slide_groups(slides)

    def masks(rows: np.ndarray) -> np.ndarray:
        return view_masks(heatmaps[:, rows], view)

    overlaps = sum_overlaps(masks, area, all_pairs(m), labels, slides, groups)
    if repeated is None:
        return decompose(overlaps, networks)
    both = np.concatenate([heatmaps[:, : repeated.shape[1]], repeated])
    r = repeated.shape[1]

    def masks_of_both(rows: np.ndarray) -> np.ndarray:
        return view_masks(both[:, rows], view)

    return decompose(
        overlaps, networks, sum_overlaps(masks_of_both, area, repeat_pairs(m), labels[:r], slides[:r], groups[:r])
    )


def _check(
    heatmaps: np.ndarray, networks: Networks, labels: np.ndarray, slides: np.ndarray, repeated: np.ndarray | None
) -> None:
    """Raise ValueError where the shapes do not fit, or a heatmap is negative or not finite."""
    if heatmaps.ndim != 4:
        raise ValueError(f"expected heatmaps [networks, patches, height, width], got an array of {heatmaps.shape}.")
    m, n, *size = heatmaps.shape
    lengths = {
        "recipes": (len(networks.recipes), m),
        "architectures": (len(networks.architectures), m),
        "trained": (len(networks.trained), m),
        "labels": (len(labels), n),
        "slides": (len(slides), n),
    }
    for name, (length, expected) in lengths.items():
        if length != expected:
            raise ValueError(f"expected {expected} {name} for heatmaps of {m} networks and {n} patches, got {length}.")
    if repeated is not None and (repeated.ndim != 4 or len(repeated) != m or [*repeated.shape[2:]] != size):
        raise ValueError(
            f"expected repeated heatmaps of {m} networks and size {size}, got an array of {repeated.shape}."
        )
    for each in (heatmaps, repeated):
        if each is not None and not (np.isfinite(each).all() and (each >= 0).all()):
            raise ValueError(
                "expected heatmaps of finite values from 0 on: take absolute values or the positive part first."
            )
