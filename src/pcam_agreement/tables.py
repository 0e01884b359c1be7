"""Long-form tables and the summary of a run, from what the stages wrote: pure data frames, no files."""

from __future__ import annotations

import textwrap
from itertools import combinations

import numpy as np
import pandas as pd

from pcam_agreement.agreement import MEASURES
from pcam_agreement.params import Network


def pair_kind(a: Network, b: Network) -> str:
    """What a pair of networks stands for.

    floor: one of them is untrained; ceiling: trained alike but for the seed; trained: any other two trained networks.
    """
    if not (a.epochs and b.epochs):
        return "floor"
    return "ceiling" if a.model_copy(update={"seed": b.seed}) == b else "trained"


def agreement_table(method: str, results: dict[str, np.ndarray], networks: dict[str, Network]) -> pd.DataFrame:
    """One row a pair: the means over the patches where both heatmaps say something, how many these are, and chance.

    networks: in the order of the results. The means of a pair without such a patch are NaN.
    """
    rows = []
    for row, (a, b) in enumerate(combinations(networks, 2)):
        used = np.isfinite(results["iou"][row])
        means = {name: results[name][row][used].mean() if used.any() else np.nan for name in MEASURES}
        kind = pair_kind(networks[a], networks[b])
        rows.append({"method": method, "network_a": a, "network_b": b, "kind": kind, "patches": used.sum(), **means})
    columns = ["method", "network_a", "network_b", "kind", "patches", *MEASURES]
    return pd.DataFrame(rows, columns=columns)


def heatmap_table(
    method: str, results: dict[str, np.ndarray], diagnostics: dict[str, dict[str, np.ndarray]]
) -> pd.DataFrame:
    """One row a network: how concentrated its heatmaps are and how many say nothing or are not converged.

    diagnostics: for every network, in the order of the results, the method's own, each [n].
    """
    rows = []
    for row, (network, own) in enumerate(diagnostics.items()):
        says = ~results["constant"][row]
        rows.append(
            {
                "method": method,
                "network": network,
                "patches": len(says),
                "constant": int((~says).sum()),
                "nonfinite": int(results["nonfinite"][row].sum()),
                "unconverged": int(results["unconverged"][row].sum()),
                **{
                    name: results[name][row][says].mean() for name in ("max", "sd", "gini", "area", "tied") if any(says)
                },
                **{f"median_{name}": np.median(values) for name, values in own.items()},
            }
        )
    return pd.DataFrame(rows)


def summary(scores: dict[str, dict[str, float]], pairs: pd.DataFrame, maps: pd.DataFrame, chance: float) -> dict:
    """The few numbers that `dvc exp show` compares; None where there is no such pair.

    agreement.<method>: iou and kappa are means over the pairs of trained networks that differ in more than the seed
    (chance: the IoU of independent masks); ceiling is the mean IoU of pairs that differ in the seed only, floor of
    pairs with an untrained network; constant and unconverged count heatmaps of all networks.
    """
    agreement = {}
    for method, group in pairs.groupby("method", sort=False):
        mean = group.groupby("kind")[["iou", "kappa"]].mean()
        own = maps[maps["method"] == method]
        agreement[method] = {
            "iou": _number(mean, "trained", "iou"),
            "kappa": _number(mean, "trained", "kappa"),
            "chance": round(chance, 4),
            "floor": _number(mean, "floor", "iou"),
            "ceiling": _number(mean, "ceiling", "iou"),
            "constant": int(own["constant"].sum()),
            "unconverged": int(own["unconverged"].sum()),
        }
    return {
        "explained_patches": int(maps["patches"].max()),
        "auroc": {network: round(found["auroc"], 4) for network, found in scores.items()},
        "accuracy": {network: round(found["accuracy"], 4) for network, found in scores.items()},
        "agreement": agreement,
    }


def as_text(found: dict, pairs: pd.DataFrame, width: int = 80) -> str:
    """The agreement table for a terminal: one row a pair, mean IoU by method, as many methods in a block as fit."""
    wide = pairs.assign(pair=pairs["network_a"] + " ~ " + pairs["network_b"]).pivot(
        index=["kind", "pair"], columns="method", values="iou"
    )
    methods, names = list(found["agreement"]), max(len(pair) for _, pair in wide.index)
    fit = max(1, (width - names - 9) // 10)
    lines = []
    for start in range(0, len(methods), fit):
        lines += [*_block(found["agreement"], wide[methods[start : start + fit]], names), ""]
    auroc = ", ".join(f"{network} {value:.3f}" for network, value in found["auroc"].items())
    closing = f"{found['explained_patches']} test patches explained. Test AUROC: {auroc}."
    return "\n".join([*lines[:-1], *textwrap.wrap(closing, width)])


def _block(agreement: dict, wide: pd.DataFrame, names: int) -> list[str]:
    """The lines of some methods."""
    short = [
        name if len(name) <= 9 else "".join(part[0] for part in name.split("_")) if "_" in name else name[:9]
        for name in wide.columns
    ]
    head = f"{'mean IoU of the top-fraction masks':{names + 9}}" + "".join(f"{name:>10}" for name in short)
    lines = [head, "-" * len(head)]
    for kind in ("trained", "ceiling", "floor"):
        for pair, row in wide.loc[kind].iterrows() if kind in wide.index.get_level_values(0) else ():
            lines.append(f"{kind:9}{pair:{names}}" + "".join(f"{value:10.3f}" for value in row))
    lines.append("-" * len(head))
    for label, key in (("trained pairs", "iou"), ("ceiling", "ceiling"), ("floor", "floor"), ("chance", "chance")):
        values = [agreement[method][key] for method in wide.columns]
        cells = "".join(f"{'-' if value is None else format(value, '.3f'):>10}" for value in values)
        lines.append(f"{'mean':9}{label:{names}}" + cells)
    return lines


def _number(mean: pd.DataFrame, kind: str, column: str) -> float | None:
    value = float(mean[column].get(kind, np.nan))
    return round(value, 4) if np.isfinite(value) else None
