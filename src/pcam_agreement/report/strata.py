"""Agreement by stratum: on tumour and normal patches, by how many of the two networks classify them correctly."""

from itertools import combinations

import numpy as np
import pandas as pd

from pcam_agreement.report.bootstrap import bootstrap_sums, interval

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
    """One row a stratum and pair: mean iou, kappa and null over its patches, the interval of iou, and how many.

    pairs: an `agreement_table`; results: what `compare` wrote; right, outside: see `strata`; count: of bootstrap
    replicates. Rows with the networks `all` stand for all pairs of one kind: each patch of each pair counts alike, and
    `patches` are those that any pair has. A stratum without a patch has 0 patches and no numbers.
    """
    iou, slides = results["iou"], results["slides"]
    names = list(pairs[["method", "network_a", "network_b", "kind"]].itertuples(index=False, name=None))
    groups = [*np.eye(len(names), dtype=bool)]
    for kind in dict.fromkeys(pairs["kind"]):
        names.append((pairs["method"].iloc[0], "all", "all", kind))
        groups.append((pairs["kind"] == kind).to_numpy())
    member = np.array(groups).T.astype(float)  # [pairs, groups]
    parts = []
    for name, inside in strata(results["labels"], right, outside).items():
        inside = inside & np.isfinite(iou)
        sums, counts = bootstrap_sums(np.where(inside, iou, np.nan), slides, count, seed)
        used = [inside[group].any(0) for group in groups]
        part = pd.DataFrame(names, columns=["method", "network_a", "network_b", "kind"]).assign(stratum=name)
        part["patches"] = [patches.sum() for patches in used]
        part["slides"] = [len(np.unique(slides[patches])) for patches in used]
        with np.errstate(invalid="ignore"):
            for measure, values in (("iou", iou), ("kappa", results["kappa"]), ("null", results["null_iou"])):
                known = inside & np.isfinite(values)
                part[measure] = (np.where(known, values, 0).sum(1) @ member) / (known.sum(1) @ member)
            bounds = interval((sums @ member) / (counts @ member), part["slides"].to_numpy())
        part["iou_low"], part["iou_high"] = np.clip(bounds, 0, 1)  # of two or three slides they are wider than that
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
