"""Long-form tables and the summary of a run, from what the stages wrote: pure data frames, no files."""

from __future__ import annotations

import textwrap
from itertools import combinations

import numpy as np
import pandas as pd

from pcam_agreement.agreement import MEASURES
from pcam_agreement.intervals import Estimates
from pcam_agreement.localisation import MEASURES as WHERE
from pcam_agreement.mantel import mantel
from pcam_agreement.params import Network


def pair_kind(a: Network, b: Network) -> str:
    """What a pair of networks stands for.

    floor: one of them is untrained; ceiling: trained alike but for the seed; trained: any other two trained networks.
    """
    if not (a.epochs and b.epochs):
        return "floor"
    return "ceiling" if a.model_copy(update={"seed": b.seed}) == b else "trained"


def ceilings(networks: dict[str, Network]) -> list[list[list[int]]]:
    """For every pair and each of its networks that was trained again from another seed: the pairs of such trainings."""
    pairs = list(combinations(networks, 2))
    kinds = [pair_kind(networks[a], networks[b]) for a, b in pairs]

    def own(name: str) -> list[int]:
        like = [other for other in networks if other == name or pair_kind(networks[name], networks[other]) == "ceiling"]
        return [row for row, (a, b) in enumerate(pairs) if kinds[row] == "ceiling" and a in like and b in like]

    return [[found for name in pair if (found := own(name))] for pair in pairs]


def agreement_table(
    method: str, results: dict[str, np.ndarray], networks: dict[str, Network], estimates: Estimates
) -> pd.DataFrame:
    """One row a pair: the means over the patches where both heatmaps say something, how many these are, and chance.

    networks: in the order of the results. null: the mean IoU on different patches; excess: iou - null; normalised:
    excess / (ceiling - null), or why it is undefined; _low and _high: 95 % intervals. The means of a pair without a
    patch where both say something are NaN.
    """
    bounds = {name: estimates.interval(name) for name in ("iou", "null", "excess", "normalised")}
    rows = []
    for row, (a, b) in enumerate(combinations(networks, 2)):
        used = np.isfinite(results["iou"][row])
        means = {name: results[name][row][used].mean() if used.any() else np.nan for name in MEASURES}
        kind = pair_kind(networks[a], networks[b])
        null = estimates.null[row]
        compared = {"null": null, "excess": estimates.iou[row] - null, "normalised": estimates.normalised[row]}
        for name, (low, high) in bounds.items():
            compared |= {f"{name}_low": low[row], f"{name}_high": high[row]}
        names = {"method": method, "network_a": a, "network_b": b, "kind": kind}
        counts = {"patches": used.sum(), "slides": estimates.slides}
        rows.append({**names, **counts, **means, **compared, "undefined": estimates.undefined[row]})
    return pd.DataFrame(rows)


def gap_table(pairs: pd.DataFrame, networks: dict[str, Network], aurocs: dict[str, float]) -> pd.DataFrame:
    """One row a pair of architectures of one method: how far apart they perform and how much they agree.

    Networks that differ in the seed only stand for one architecture, named by the first of them; a row is the mean
    over its pairs (low and high: of the ends of their intervals). agreement: normalised where all pairs of trained
    networks have it, else excess (column `measure`).
    """
    trained = pairs[pairs["kind"] == "trained"]
    measure = "normalised" if trained["normalised"].notna().all() else "excess"
    first = {
        name: next(other for other in networks if other == name or pair_kind(networks[other], own) == "ceiling")
        for name, own in networks.items()
    }
    rows = [
        {
            "method": row["method"],
            "network_a": first[row["network_a"]],
            "network_b": first[row["network_b"]],
            "auroc_gap": abs(aurocs[row["network_a"]] - aurocs[row["network_b"]]),
            "agreement": row[measure],
            "low": row[f"{measure}_low"],
            "high": row[f"{measure}_high"],
            "measure": measure,
        }
        for row in trained.to_dict("records")
    ]
    columns = ["method", "network_a", "network_b", "measure"]
    table = pd.DataFrame(rows, columns=[*columns[:3], "auroc_gap", "agreement", "low", "high", "measure"])
    swapped = table["network_a"].map(list(networks).index) > table["network_b"].map(list(networks).index)
    table.loc[swapped, ["network_a", "network_b"]] = table.loc[swapped, ["network_b", "network_a"]].to_numpy()
    return table.groupby(columns, sort=False, as_index=False)[["auroc_gap", "agreement", "low", "high"]].mean()


def gap_test(gaps: pd.DataFrame, seed: int) -> dict:
    """Spearman's rho between gap and agreement over the pairs of a `gap_table`, and what Mantel's test says of it.

    critical_rho: the least |rho| that so few architectures could make significant; None where none could.
    """
    names = list(dict.fromkeys([*gaps["network_a"], *gaps["network_b"]]))
    gap, agreement = np.zeros((2, len(names), len(names)))
    for row in gaps.to_dict("records"):
        i, j = names.index(row["network_a"]), names.index(row["network_b"])
        gap[i, j] = gap[j, i] = row["auroc_gap"]
        agreement[i, j] = agreement[j, i] = row["agreement"]
    found = mantel(gap, agreement, seed)
    return {
        "architectures": len(names),
        "measure": None if gaps.empty else str(gaps["measure"].iloc[0]),
        "rho": _number(found.rho),
        "p": _number(found.p),
        "critical_rho": _number(found.critical),
    }


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


def localisation_table(method: str, results: dict[str, np.ndarray], networks: list[str]) -> pd.DataFrame:
    """One row a region and network: how much of its heatmaps lies there, over the patches that have the region.

    Beside them two maps that explain nothing: `random map`, which gets the region's share of the patch, and `middle`,
    a Gaussian in the middle of the patch.
    """
    rows = []
    for region in ("centre", "tumour"):
        if f"{region}_share" not in results:
            continue
        share = results[f"{region}_share"][0]
        there = share > 0
        chance = share[there].mean() if there.any() else np.nan
        names = {"method": method, "region": region}
        for row, network in enumerate([*networks, "middle"]):
            used = np.isfinite(results[f"{region}_mass"][row])
            means = {name: results[f"{region}_{name}"][row][used].mean() if used.any() else np.nan for name in WHERE}
            rows.append({**names, "network": network, "patches": used.sum(), **means})
        rows.append({**names, "network": "random map", "patches": there.sum(), **dict.fromkeys(WHERE, chance)})
    return pd.DataFrame(rows)


def summary(
    scores: dict[str, dict[str, float]],
    pairs: pd.DataFrame,
    maps: pd.DataFrame,
    estimates: dict[str, Estimates],
    gaps: dict[str, dict],
    chance: float,
) -> dict:
    """The few numbers that `dvc exp show` compares; None where there is no such pair, or it is undefined.

    agreement.<method>: iou, kappa and null are means over the pairs of trained networks that differ in more than the
    seed, normalised over those of them where it is defined; _low and _high are 95 % intervals of these means. chance is
    the IoU of independent masks; ceiling the mean IoU of pairs that differ in the seed only, floor of pairs with an
    untrained network; constant and unconverged count heatmaps of all networks. auroc_gap.<method>: see `gap_test`.
    """
    agreement = {}
    for method, group in pairs.groupby("method", sort=False):
        mean = group.groupby("kind")[["iou", "kappa", "null", "normalised"]].mean()
        own = maps[maps["method"] == method]
        trained = (group["kind"] == "trained").to_numpy()
        of_iou = estimates[str(method)].interval_of_mean("iou", trained)
        defined = trained & group["normalised"].notna().to_numpy()
        of_normalised = estimates[str(method)].interval_of_mean("normalised", defined)
        agreement[method] = {
            "iou": _number(mean["iou"].get("trained")),
            "iou_low": _number(of_iou[0]),
            "iou_high": _number(of_iou[1]),
            "kappa": _number(mean["kappa"].get("trained")),
            "chance": round(chance, 4),
            "null": _number(mean["null"].get("trained")),
            "floor": _number(mean["iou"].get("floor")),
            "ceiling": _number(mean["iou"].get("ceiling")),
            "normalised": _number(mean["normalised"].get("trained")),
            "normalised_low": _number(of_normalised[0]),
            "normalised_high": _number(of_normalised[1]),
            "constant": int(own["constant"].sum()),
            "unconverged": int(own["unconverged"].sum()),
        }
    return {
        "explained_patches": int(maps["patches"].max()),
        "explained_slides": int(pairs["slides"].max()),
        "auroc": {network: round(found["auroc"], 4) for network, found in scores.items()},
        "accuracy": {network: round(found["accuracy"], 4) for network, found in scores.items()},
        "agreement": agreement,
        "auroc_gap": gaps,
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
    closing = (
        f"{found['explained_patches']} test patches of {found['explained_slides']} slides explained. "
        f"A is 0 at the null and 1 at the ceiling. Test AUROC: {auroc}."
    )
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
    means = {"iou": "trained pairs", "ceiling": "ceiling", "floor": "floor", "null": "null", "chance": "chance"}
    for key, label in means.items():
        lines.append(f"{'mean':9}{label:{names}}" + _cells(agreement, wide.columns, key))
        if key == "iou":
            lines.append(f"{'':9}{'  95 % interval':{names}}" + _cells(agreement, wide.columns, "iou_low", "iou_high"))
    lines.append(f"{'A':9}{'trained pairs':{names}}" + _cells(agreement, wide.columns, "normalised"))
    interval = _cells(agreement, wide.columns, "normalised_low", "normalised_high")
    return [*lines, f"{'':9}{'  95 % interval':{names}}" + interval]


def _cells(agreement: dict, methods: pd.Index, *keys: str) -> str:
    """One cell a method: the number, or both ends of an interval; - where it is undefined."""
    cells = []
    for method in methods:
        values = [agreement[method][key] for key in keys]
        short = ".3f" if len(keys) == 1 else ".2f"
        cells.append(
            "-" if None in values else "–".join(format(value, short).replace("-0.00", "0.00") for value in values)
        )
    return "".join(f"{cell:>10}" for cell in cells)


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)
