"""Do recipes that perform alike look alike? A table over pairs of architectures, and Mantel's test of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pcam_agreement.agreement.decomposition import Decomposition
from pcam_agreement.networks.recipes import Network
from pcam_agreement.report.mantel import mantel
from pcam_agreement.report.tables import number

ENOUGH = 5  # architectures; with three, the sign of the correlation changed between two runs


def gap_table(
    method: str, decomposition: Decomposition, networks: Sequence[Network], aurocs: Mapping[str, float]
) -> pd.DataFrame:
    """One row a pair of architectures: the gap in mean AUROC of their trainings, and their mean A; none below ENOUGH.

    Recipes that share an architecture stand for it together: Mantel's test exchanges architectures. _low and _high: the
    mean ends of the intervals of A.
    """
    of_recipe = {
        network.recipe: network.architecture for network in networks if network.recipe in decomposition.recipes
    }
    performance = {
        architecture: np.mean(
            [aurocs[n.name] for n in networks if n.trained and of_recipe.get(n.recipe) == architecture]
        )
        for architecture in dict.fromkeys(of_recipe.values())
    }
    columns = ["method", "architecture_a", "architecture_b", "auroc_gap", "agreement", "low", "high"]
    if len(performance) < ENOUGH:
        return pd.DataFrame(columns=columns)
    order = list(performance)
    rows = []
    for pair, estimate in decomposition.agreement.items():
        a, b = sorted((of_recipe[recipe] for recipe in pair), key=order.index)
        if a != b:
            gap = abs(performance[a] - performance[b])
            rows.append((method, a, b, gap, estimate.value, estimate.low, estimate.high))
    table = pd.DataFrame(rows, columns=columns)
    return table.groupby(columns[:3], sort=False, as_index=False).agg(_mean)


def _mean(values: pd.Series) -> float:
    """NaN where one value is: pandas leaves it out."""
    return float(values.to_numpy().mean())


def gap_test(gaps: pd.DataFrame, seed: int) -> dict:
    """Spearman's rho between gap and A over the pairs of a `gap_table`, and Mantel's test of it; {} without rows.

    critical_rho: the least |rho| that so few architectures could make significant. All are None where some A is
    undefined, or all A or all gaps are the same.
    """
    if gaps.empty:
        return {}
    names = list(dict.fromkeys([*gaps["architecture_a"], *gaps["architecture_b"]]))
    gap, agreement = np.zeros((2, len(names), len(names)))
    for row in gaps.to_dict("records"):
        i, j = names.index(row["architecture_a"]), names.index(row["architecture_b"])
        gap[i, j] = gap[j, i] = row["auroc_gap"]
        agreement[i, j] = agreement[j, i] = row["agreement"]
    test = mantel(gap, agreement, seed)
    values = {"rho": number(test.rho), "p": number(test.p), "critical_rho": number(test.critical)}
    return {"architectures": len(names), **values}


def said_of_test(test: Mapping[str, Any]) -> str:
    """A `gap_test` in words."""
    if test["rho"] is None:
        return "no rank correlation"
    p = f"p = {test['p']:.2f}" if test["p"] >= 0.005 else "p < 0.01"
    return f"rank correlation {test['rho']:.2f} ({p})"
