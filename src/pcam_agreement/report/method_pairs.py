"""The table of how much two methods' heatmaps of one network agree: a pure data frame, no files."""

from itertools import combinations

import numpy as np
import pandas as pd

from pcam_agreement.agreement.measures import MEASURES
from pcam_agreement.networks.recipes import Network
from pcam_agreement.report.bootstrap import Estimates
from pcam_agreement.report.tables import named

COMPARED = ("iou", "excess")
COLUMNS = (
    *("network", "recipe", "training", "method_a", "method_b", "patches", "slides", *MEASURES, "null", "excess"),
    *(f"{name}_{end}" for name in COMPARED for end in ("low", "high")),
)


def methods_table(
    network: Network, results: dict[str, np.ndarray], methods: list[str], estimates: Estimates
) -> pd.DataFrame:
    """One row a pair of methods: the means over the patches where neither heatmap is constant.

    methods: in the order of the results. null: the mean IoU on different patches; excess: iou - null, over the
    patches that have both; _low and _high: 95 % intervals.
    """
    bounds = {name: estimates.interval(name) for name in COMPARED}
    rows = []
    for row, (a, b) in enumerate(combinations(methods, 2)):
        used = np.isfinite(results["iou"][row])
        means = {name: results[name][row][used].mean() if used.any() else np.nan for name in MEASURES}
        compared = {"null": estimates.null[row], "excess": estimates.excess[row]}
        for name, (low, high) in bounds.items():
            compared |= {f"{name}_low": low[row], f"{name}_high": high[row]}
        names = {**named(network), "method_a": a, "method_b": b}
        rows.append({**names, "patches": used.sum(), "slides": estimates.slides, **means, **compared})
    return pd.DataFrame(rows, columns=list(COLUMNS))
