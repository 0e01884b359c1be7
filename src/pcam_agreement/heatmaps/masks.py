"""From attributions to heatmaps and masks: reduce channels, normalise, take exactly the top fraction."""

import numpy as np


def reduce(attribution: np.ndarray, how: str) -> np.ndarray:
    """A signed attribution [n, c, h, w] as a non-negative map [n, h, w].

    how: max_of_absolute (the gradient's largest channel), absolute_of_sum (evidence for or against; keeps the
    completeness of a path method), positive_of_sum (evidence for), minmax_of_sum (what the original course project
    did; it turns "irrelevant" into mid-grey).
    """
    if how == "max_of_absolute":
        return np.abs(attribution).max(axis=1)
    total = attribution.sum(axis=1)
    if how == "absolute_of_sum":
        return np.abs(total)
    if how == "positive_of_sum":
        return np.maximum(total, 0)
    if how == "minmax_of_sum":
        low = total.min(axis=(1, 2), keepdims=True)
        return total - low  # the division by the range is lost in the normalisation to mean 1
    raise ValueError(f"unknown reduction '{how}'.")


def normalise(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps [n, h, w] scaled to mean 1, and which of them are constant [n].

    A map that is constant, to the precision that it is stored in, or has a value that is not finite, has no information
    about places: it becomes zero and is counted by its flag, never averaged in.
    """
    maps = np.asarray(maps, np.float64)
    finite = np.isfinite(maps).all(axis=(1, 2))
    maps = np.where(finite[:, None, None], maps, 0)
    mean = maps.mean(axis=(1, 2), keepdims=True)
    scaled = np.divide(maps, mean, out=np.zeros_like(maps), where=mean > 0)
    stored = scaled.astype(np.float16)
    constant = stored.max(axis=(1, 2)) == stored.min(axis=(1, 2))
    return np.where(constant[:, None, None], 0, scaled).astype(np.float32), constant


def top_mask(heatmaps: np.ndarray, fraction: float, ties: str = "share") -> np.ndarray:
    """The top fraction of the pixels of heatmaps [n, p] as masks float32 [n, p] in [0, 1].

    k = round(fraction * p) pixels are in the mask. Pixels that tie at the threshold share what is left of the k
    equally, so that every mask has the area k, no order of pixels matters and nothing is random. ties = "all" lets
    all of them in, as a plain quantile does: areas then differ.
    """
    p = heatmaps.shape[-1]
    k = round(fraction * p)
    threshold = np.partition(heatmaps, p - k, axis=-1)[..., p - k, None]
    above, tied = heatmaps > threshold, heatmaps == threshold
    share = (k - above.sum(-1, keepdims=True)) / tied.sum(-1, keepdims=True) if ties == "share" else np.ones(1)
    return above + tied * share.astype(np.float32)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of minima over sum of maxima along the last axis: on 0/1 masks the IoU, on heatmaps the weighted IoU.

    NaN where both are zero everywhere.

    >>> overlap(np.array([1.0, 1, 0, 0]), np.array([0.0, 1, 1, 0])).round(3)
    array(0.333)
    """
    intersection, union = np.minimum(a, b).sum(-1, dtype=np.float64), np.maximum(a, b).sum(-1, dtype=np.float64)
    return np.divide(intersection, union, out=np.full_like(union, np.nan), where=union > 0)


def centre_gaussian(side: int, sigma: float) -> np.ndarray:
    """A Gaussian of this standard deviation (pixels) at the centre of a patch, [side, side], 1 at its maximum."""
    offset = np.arange(side) - (side - 1) / 2
    return np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * sigma**2))


def tied_fraction(masks: np.ndarray) -> np.ndarray:
    """The share of pixels [n] of masks [n, p] that are neither in nor out."""
    return ((masks > 0) & (masks < 1)).mean(-1)


def concentration(heatmaps: np.ndarray) -> dict[str, np.ndarray]:
    """How concentrated mean-1 heatmaps [n, p] are, each [n]: the largest value, the standard deviation, Gini."""
    return {"max": heatmaps.max(-1), "sd": heatmaps.std(-1, dtype=np.float64), "gini": gini(heatmaps)}


def gini(heatmaps: np.ndarray) -> np.ndarray:
    """The Gini coefficient [n] of non-negative heatmaps [n, p]: 0 where all pixels are equal, near 1 for one pixel."""
    p = heatmaps.shape[-1]
    ordered = np.sort(heatmaps, axis=-1).astype(np.float64)
    weights = 2 * np.arange(1, p + 1) - p - 1
    total = ordered.sum(-1)
    return np.divide((ordered * weights).sum(-1), p * total, out=np.zeros_like(total), where=total > 0)
