"""The null of agreement: the IoU of two networks on different patches, which cannot come from the patch itself."""

import numpy as np

from pcam_agreement.agreement.measures import pair_indices

PARTNERS = 20  # other patches that the null of a patch comes from, at least, where there are as many


def null_iou(masks: np.ndarray, constant: np.ndarray, labels: np.ndarray, slides: np.ndarray) -> np.ndarray:
    """The IoU [m (m - 1) / 2, n] of one network's mask with the other network's mask of *another* patch.

    masks: of m networks and n patches as `masks.top_mask` makes them, [m, n, p]; constant: [m, n]; labels, slides: [n].
    The mean over all other patches of the same label and of other slides, which is the expectation over random
    derangements: centre bias, smoothness and shape are kept, so that what is above it is about this very patch. NaN
    where there is no such patch or the patch's own heatmap is constant.
    """
    m, n = constant.shape
    flat = masks.reshape(m * n, -1)
    # A mask is 1, 0 and one value for its ties. With 0 and 1 alone the sum of minima is a product of matrices; where
    # two ties meet, the lesser value takes the place of their product.
    tied = np.stack([(mask > 0) & (mask < 1) for mask in flat])
    share = np.array([mask[ties].max(initial=0) for mask, ties in zip(flat, tied, strict=True)])
    area = flat.sum(1)
    tied_pixels = tied[:, tied.any(0)].astype(np.float32)
    intersection = flat @ flat.T
    intersection += (np.minimum.outer(share, share) - np.multiply.outer(share, share)) * (tied_pixels @ tied_pixels.T)
    iou = intersection / (np.add.outer(area, area) - intersection)
    iou = iou.reshape(m, n, m, n).swapaxes(1, 2)  # [m, m, n, n]
    use = (labels[:, None] == labels) & (slides[:, None] != slides) & ~constant[:, None]  # of the second: [m, n, n]
    with np.errstate(invalid="ignore"):
        directed = np.where(use, iou, 0).sum(-1, dtype=np.float64) / use.sum(-1)
    first, second = pair_indices(m)
    null = (directed[first, second] + directed[second, first]) / 2
    null[constant[first] | constant[second]] = np.nan
    return null


def groups(labels: np.ndarray, slides: np.ndarray) -> list[np.ndarray]:
    """Patches [n] in groups of one label, to be each other's partners in `null_iou`: rows, each in one group.

    As small as they can be (the cost grows with their size) with slides dealt evenly and, where there are as many, at
    least PARTNERS patches of other slides for every patch.
    """
    result = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(slides[rows], kind="stable")]
        others = len(rows) - np.unique(slides[rows], return_counts=True)[1].max()
        # Dealing gives each group a share of all and of a slide that is off by less than one patch: two to spare.
        # Of one slide only there are no partners, in groups of any size.
        count = max(1, (others or len(rows)) // (PARTNERS + 2))
        result += [rows[start::count] for start in range(count)]
    return result
