"""Agreement by stratum: on tumour and normal patches, by how many of the two networks classify them correctly."""

from itertools import combinations

import numpy as np
import pandas as pd

from pcam_agreement.report.bootstrap import bootstrap_sums, contributions, interval

FEW = 5  # patches, below which nothing is claimed
OUTSIDE = "normal, tumour outside the centre"
STRATA = (
    *(f"{label}, {right} right" for label in ("tumour", "normal") for right in ("both", "one", "none")),
    OUTSIDE,  # a part of the three before it
)


def strata(labels: np.ndarray, right: np.ndarray, outside: np.ndarray) -> dict[str, np.ndarray]:
    """Which of n patches are in each of STRATA, for each pair of m networks: bool [pairs, n] by name.

    labels: [n] of 0 and 1; right: bool [m, n]; outside: bool [n], there is tumour, but none in the centre.
    """
    both = np.array([right[i].astype(int) + right[j] for i, j in combinations(range(len(right)), 2)])
    result = {}
    for label, name in ((1, "tumour"), (0, "normal")):
        for count, word in ((2, "both"), (1, "one"), (0, "none")):
            result[f"{name}, {word} right"] = (both == count) & (labels == label)
    return {**result, OUTSIDE: np.broadcast_to((labels == 0) & outside, both.shape)}


def strata_table(
    pairs: pd.DataFrame, results: dict[str, np.ndarray], right: np.ndarray, outside: np.ndarray, count: int, seed: int
) -> pd.DataFrame:
    """One row a stratum and kind of pairs: mean IoU, its null and the excess with its interval over slides.

    pairs: an `agreement_table`; results: what `compare` wrote; right, outside: see `strata`; count: of bootstrap
    replicates. Each patch of each pair counts alike, where it has a null; `patches` are those that any pair has. A
    stratum of fewer than FEW patches has no numbers: IoU itself would mostly say how alike any two patches of it are.
    """
    iou, null, slides = results["iou"], results["null_iou"], results["slides"]
    excess = iou - contributions(null, results["labels"], slides)  # how they vary, about another mean
    kinds = list(dict.fromkeys(pairs["kind"]))
    member = np.array([pairs["kind"] == kind for kind in kinds]).T.astype(float)  # [pairs, kinds]
    parts = []
    for name, inside in strata(results["labels"], right, outside).items():
        inside = inside & np.isfinite(iou) & np.isfinite(null)
        used = [inside[(pairs["kind"] == kind).to_numpy()].any(0) for kind in kinds]
        part = pd.DataFrame({"method": pairs["method"].iloc[0], "kind": kinds, "stratum": name})
        part["patches"] = [patches.sum() for patches in used]
        part["slides"] = [len(np.unique(slides[patches])) for patches in used]
        sums, counts = bootstrap_sums(np.where(inside, excess, np.nan), slides, count, seed)
        with np.errstate(invalid="ignore"):
            means = [
                (np.where(inside, values, 0).sum(1) @ member) / (inside.sum(1) @ member)
                for values in (iou, null, excess)
            ]
            part["iou"], part["null"], part["excess"] = means[0], means[1], means[0] - means[1]
            replicates = (sums @ member) / (counts @ member) - means[2] + part["excess"].to_numpy()
            part["excess_low"], part["excess_high"] = interval(replicates, part["slides"].to_numpy())
        part.loc[part["patches"] < FEW, ["iou", "null", "excess", "excess_low", "excess_high"]] = np.nan
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
