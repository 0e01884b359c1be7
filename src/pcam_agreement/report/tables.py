"""Long-form tables of a run, from what the stages wrote: pure data frames, no files."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from pcam_agreement.agreement.localisation import MEASURES as WHERE
from pcam_agreement.agreement.measures import MEASURES, chance_iou, kappa
from pcam_agreement.agreement.pairs import Recipe, pair_kind
from pcam_agreement.report import bootstrap
from pcam_agreement.report.bootstrap import Estimates
from pcam_agreement.report.mantel import mantel


def agreement_table(
    method: str, results: dict[str, np.ndarray], networks: Mapping[str, Recipe], estimates: Estimates
) -> pd.DataFrame:
    """One row a pair: the means over the patches where neither heatmap is constant, how many these are, and chance.

    networks: in the order of the results. null: the mean IoU on different patches; excess: iou - null, over the patches
    that have both; above_floor: excess less the mean excess of the floor pairs; normalised: excess / (ceiling - null),
    or why it is undefined. _low and _high: 95 % intervals of the pair alone; _band_low and _band_high: of all pairs of
    the method at once, to compare them with each other. The means of a pair without such a patch are NaN.
    """
    pairs = list(combinations(networks, 2))
    kinds = [pair_kind(networks[a], networks[b]) for a, b in pairs]
    above, above_replicates = estimates.above(np.array(kinds) == "floor")
    replicates = {**estimates.replicates, "above_floor": above_replicates}
    bounds = {}
    for name in ("iou", "null", "excess", "above_floor", "normalised"):
        bounds[f"{name}_low"], bounds[f"{name}_high"] = bootstrap.interval(replicates[name], estimates.slides)
        if name != "null":
            bounds[f"{name}_band_low"], bounds[f"{name}_band_high"] = bootstrap.band(replicates[name], estimates.slides)
    rows = []
    for row, (a, b) in enumerate(pairs):
        used = np.isfinite(results["iou"][row])
        means = {name: results[name][row][used].mean() if used.any() else np.nan for name in MEASURES}
        null = estimates.null[row]
        compared = {
            "null": null,
            "excess": estimates.excess[row],
            "above_floor": above[row],
            "normalised": estimates.normalised[row],
        }
        names = {"method": method, "network_a": a, "network_b": b, "kind": kinds[row]}
        counts = {"patches": used.sum(), "slides": estimates.slides}
        bounded = {name: values[row] for name, values in bounds.items()}
        rows.append({**names, **counts, **means, **compared, **bounded, "undefined": estimates.undefined[row]})
    return pd.DataFrame(rows)


def curve_table(pairs: pd.DataFrame, fractions: np.ndarray, ious: np.ndarray, ties: str = "share") -> pd.DataFrame:
    """One row a pair and top fraction: mean IoU, its chance level and kappa, over patches where neither is constant.

    pairs: an `agreement_table`; fractions: [f]; ious: [f, pairs, n]. Kappa is what compares fractions: IoU and its
    chance level grow with the masks.
    """
    parts = []
    for fraction, iou in zip(fractions, ious, strict=True):
        part = pairs[["method", "network_a", "network_b", "kind"]].copy()
        part["fraction"], part["iou"], part["chance"] = fraction, row_means(iou), chance_iou(fraction, ties)
        part["kappa"] = row_means(kappa(iou, fraction, ties))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def row_means(values: np.ndarray) -> np.ndarray:
    """Means of the rows of values [k, n], NaN left out; NaN where a row has no other."""
    count = np.isfinite(values).sum(-1)
    return np.divide(np.nansum(values, -1), count, out=np.full(len(values), np.nan), where=count > 0)


def gap_table(pairs: pd.DataFrame, networks: Mapping[str, Recipe], aurocs: dict[str, float]) -> pd.DataFrame:
    """One row a pair of architectures of one method: how far apart they perform and how much they agree.

    Trained networks of one architecture that learn the same stand for it, named by the first of them, also where they
    differ in more than the seed: Mantel's test exchanges architectures. A row is the mean over its pairs (low and high:
    of the ends of their intervals). agreement: normalised where all pairs of trained networks have it, else excess
    (column `measure`).
    """
    trained = pairs[pairs["kind"] == "trained"]
    measure = "normalised" if trained["normalised"].notna().all() else "excess"
    first: dict[tuple[str, str], str] = {}
    stands: dict[str, str] = {}
    for name, recipe in networks.items():
        if recipe["epochs"]:
            stands[name] = first.setdefault((recipe["architecture"], recipe["label"]), name)
    rows = [
        {
            "method": row["method"],
            "network_a": stands[row["network_a"]],
            "network_b": stands[row["network_b"]],
            "auroc_gap": abs(aurocs[row["network_a"]] - aurocs[row["network_b"]]),
            "agreement": row[measure],
            "low": row[f"{measure}_low"],
            "high": row[f"{measure}_high"],
            "measure": measure,
        }
        for row in trained.to_dict("records")
        if stands[row["network_a"]] != stands[row["network_b"]]
    ]
    columns = ["method", "network_a", "network_b", "measure"]
    table = pd.DataFrame(rows, columns=[*columns[:3], "auroc_gap", "agreement", "low", "high", "measure"])
    swapped = table["network_a"].map(list(networks).index) > table["network_b"].map(list(networks).index)
    table.loc[swapped, ["network_a", "network_b"]] = table.loc[swapped, ["network_b", "network_a"]].to_numpy()
    return table.groupby(columns, sort=False, as_index=False)[["auroc_gap", "agreement", "low", "high"]].mean()


def gap_test(gaps: pd.DataFrame, seed: int) -> dict:
    """Spearman's rho between gap and agreement over the pairs of a `gap_table`, and Mantel's test of it.

    critical_rho: the least |rho| that so few architectures could make significant; None where none could.
    """
    names = list(dict.fromkeys([*gaps["network_a"], *gaps["network_b"]]))
    gap, agreement = np.zeros((2, len(names), len(names)))
    for row in gaps.to_dict("records"):
        i, j = names.index(row["network_a"]), names.index(row["network_b"])
        gap[i, j] = gap[j, i] = row["auroc_gap"]
        agreement[i, j] = agreement[j, i] = row["agreement"]
    test = mantel(gap, agreement, seed)
    return {
        "architectures": len(names),
        "measure": None if gaps.empty else str(gaps["measure"].iloc[0]),
        "rho": number(test.rho),
        "p": number(test.p),
        "critical_rho": number(test.critical),
    }


def heatmap_table(
    method: str,
    results: dict[str, np.ndarray],
    diagnostics: dict[str, dict[str, np.ndarray]],
    passes: dict[str, int],
) -> pd.DataFrame:
    """One row a network: how concentrated its heatmaps are, how many are constant or not converged, and its passes.

    repeat_iou: the mean IoU with heatmaps from other perturbation samples; NaN where the method is not stochastic.
    diagnostics: for every network, in the order of the results, the method's, each [n]; passes: of the method.
    """
    rows = []
    for row, (network, values_of) in enumerate(diagnostics.items()):
        varies = ~results["constant"][row]
        repeated = results["repeat_iou"][row][np.isfinite(results["repeat_iou"][row])]
        rows.append(
            {
                "method": method,
                "network": network,
                "patches": len(varies),
                **{f"{kind}_passes": count for kind, count in passes.items()},
                "constant": int((~varies).sum()),
                "nonfinite": int(results["nonfinite"][row].sum()),
                "unconverged": int(results["unconverged"][row].sum()),
                **{
                    name: results[name][row][varies].mean()
                    for name in ("max", "sd", "gini", "area", "tied")
                    if any(varies)
                },
                "repeat_iou": repeated.mean() if len(repeated) else np.nan,
                **{f"median_{name}": np.median(values) for name, values in values_of.items()},
            }
        )
    return pd.DataFrame(rows)


def localisation_table(method: str, results: dict[str, np.ndarray], networks: list[str]) -> pd.DataFrame:
    """One row a region and network: how much of its heatmaps lies there, over the patches that have the region.

    Beside them two maps that explain nothing: `random map`, which gets the region's share of the patch, and `centre`,
    a Gaussian at the centre of the patch.
    """
    rows = []
    for region in ("centre", "tumour"):
        if f"{region}_share" not in results:
            continue
        share = results[f"{region}_share"][0]
        there = share > 0
        chance = share[there].mean() if there.any() else np.nan
        names = {"method": method, "region": region}
        for row, network in enumerate([*networks, "centre"]):
            used = np.isfinite(results[f"{region}_mass"][row])
            means = {name: results[f"{region}_{name}"][row][used].mean() if used.any() else np.nan for name in WHERE}
            rows.append({**names, "network": network, "patches": used.sum(), **means})
        rows.append({**names, "network": "random map", "patches": there.sum(), **dict.fromkeys(WHERE, chance)})
    return pd.DataFrame(rows)


def number(value: float | None) -> float | None:
    """As JSON can hold it: four digits, None where it is undefined."""
    return None if value is None or not np.isfinite(value) else round(float(value), 4)
