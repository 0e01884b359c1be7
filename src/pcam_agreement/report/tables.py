"""Long-form tables of a run, from what the stages wrote: pure data frames, no files."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from pcam_agreement.agreement.consensus import consensus_scores
from pcam_agreement.agreement.decomposition import Decomposition
from pcam_agreement.agreement.localisation import MEASURES as WHERE
from pcam_agreement.agreement.measures import MEASURES, chance_iou, kappa
from pcam_agreement.agreement.pairs import KINDS, pair_kind
from pcam_agreement.networks.recipes import Network
from pcam_agreement.report.bootstrap import Estimates

COMPARED = ("iou", "null", "excess")
BASELINES = ("consensus", "centre", "random map")  # rows of a `localisation_table` that are no network


def agreement_table(
    method: str,
    results: dict[str, np.ndarray],
    networks: Sequence[Network],
    estimates: Estimates,
    decomposition: Decomposition,
) -> pd.DataFrame:
    """One row a pair of networks: means over the patches where neither heatmap is constant, and how many these are.

    networks: in the order of the results. null: the mean IoU on different patches; excess: iou - null, over the patches
    that have both; ssim and ssim_null are of fewer patches; overlap: the patch-specific overlap C; correlation: C over
    the root of both networks' own. _low and _high: 95 % intervals over slides, of these two networks. The means of a
    pair without such a patch are NaN.
    """
    bounds = {name: estimates.interval(name) for name in COMPARED}
    ssim = {name: row_means(results[name]) for name in ("ssim", "ssim_null")}
    rows = []
    for row, (i, j) in enumerate(combinations(range(len(networks)), 2)):
        used = np.isfinite(results["iou"][row])
        rows.append(
            {
                "method": method,
                "network_a": networks[i].name,
                "network_b": networks[j].name,
                "recipe_a": networks[i].recipe,
                "recipe_b": networks[j].recipe,
                "kind": pair_kind(networks[i], networks[j]),
                "patches": used.sum(),
                "slides": estimates.slides,
                **{name: results[name][row][used].mean() if used.any() else np.nan for name in MEASURES},
                **{name: values[row] for name, values in ssim.items()},
                "null": estimates.null[row],
                "excess": estimates.excess[row],
                **{f"{name}_low": low[row] for name, (low, _) in bounds.items()},
                **{f"{name}_high": high[row] for name, (_, high) in bounds.items()},
                "overlap": decomposition.overlap[i, j],
                "correlation": decomposition.correlation[i, j],
                "correlation_low": decomposition.correlation_low[i, j],
                "correlation_high": decomposition.correlation_high[i, j],
            }
        )
    return pd.DataFrame(rows)


def means_table(pairs: pd.DataFrame, estimates: Estimates) -> pd.DataFrame:
    """One row a kind of pairs of an `agreement_table`: means over its pairs, with intervals over slides."""
    rows = []
    for kind in KINDS:
        chosen = (pairs["kind"] == kind).to_numpy()
        if chosen.any():
            row = {"method": pairs["method"].iloc[0], "kind": kind, "pairs": chosen.sum()}
            row |= pairs.loc[
                chosen, [*MEASURES, "ssim", "ssim_null", "null", "excess", "overlap", "correlation"]
            ].mean()
            for name in COMPARED:
                row[f"{name}_low"], row[f"{name}_high"] = estimates.interval_of_mean(name, chosen)
            rows.append(row)
    return pd.DataFrame(rows)


def curve_table(pairs: pd.DataFrame, fractions: np.ndarray, ious: np.ndarray, ties: str = "share") -> pd.DataFrame:
    """One row a pair and top fraction: mean IoU, its chance level and kappa, over patches where neither is constant.

    pairs: an `agreement_table`; fractions: [f]; ious: [f, pairs, n]. Kappa is what compares fractions: IoU and its
    chance level grow with the masks.
    """
    parts = []
    for fraction, iou in zip(fractions, ious, strict=True):
        part = pairs[["method", "network_a", "network_b", "recipe_a", "recipe_b", "kind"]].copy()
        part["fraction"], part["iou"], part["chance"] = fraction, row_means(iou), chance_iou(fraction, ties)
        part["kappa"] = row_means(kappa(iou, fraction, ties))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def row_means(values: np.ndarray) -> np.ndarray:
    """Means of the rows of values [k, n], NaN left out; NaN where a row has no other."""
    count = np.isfinite(values).sum(-1)
    return np.divide(np.nansum(values, -1), count, out=np.full(len(values), np.nan), where=count > 0)


def heatmap_table(
    method: str,
    results: dict[str, np.ndarray],
    networks: Sequence[Network],
    diagnostics: Sequence[dict[str, np.ndarray]],
    passes: dict[str, int],
) -> pd.DataFrame:
    """One row a network: how concentrated its heatmaps are, how many are constant or not converged, and its passes.

    repeat_iou: the mean IoU with heatmaps from other perturbation samples; NaN where the method is not stochastic.
    consensus: the mean correlation of its ranks with the consensus of the other recipes. diagnostics: for every
    network, in the order of the results, the method's, each [n]; passes: of the method.
    """
    recipes, trained = zip(*((network.recipe, network.trained) for network in networks), strict=True)
    consensus = row_means(consensus_scores(results["spearman"], recipes, trained))
    repeat_iou = row_means(results["repeat_iou"])
    rows = []
    for row, (network, values_of) in enumerate(zip(networks, diagnostics, strict=True)):
        varies = ~results["constant"][row]
        rows.append(
            {
                "method": method,
                **named(network),
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
                "repeat_iou": repeat_iou[row],
                "consensus": consensus[row],
                **{f"median_{name}": np.median(values) for name, values in values_of.items()},
            }
        )
    return pd.DataFrame(rows)


def localisation_table(method: str, results: dict[str, np.ndarray], networks: Sequence[Network]) -> pd.DataFrame:
    """One row a region and network: how much of its heatmaps lies there, over the patches that have the region.

    Beside them `consensus`, the mean over recipes of the consensus of the others, whose mass says nothing (it is of
    ranks), and two maps that explain nothing: `centre`, a Gaussian at the centre of the patch, and `random map`, which
    gets the region's share of the patch.
    """
    names = [named(network) for network in networks]
    names += [dict.fromkeys(("network", "recipe", "training"), "") | {"network": name} for name in BASELINES]
    rows = []
    for region in ("centre", "tumour"):
        if f"{region}_share" not in results:
            continue
        share = results[f"{region}_share"]
        chance = np.where(share > 0, share, np.nan)
        measures = {name: np.concatenate([results[f"{region}_{name}"], chance]) for name in WHERE}
        means = {name: row_means(values) for name, values in measures.items()}
        for row, name in enumerate(names):
            patches = np.isfinite(measures["mass"][row]).sum()
            values = {measure: means[measure][row] for measure in WHERE}
            if name["network"] == "consensus":
                values["mass"] = np.nan
            rows.append({"method": method, "region": region, **name, "patches": patches, **values})
    return pd.DataFrame(rows)


def named(network: Network) -> dict[str, str]:
    """The columns that say which network a row is about."""
    return {"network": network.name, "recipe": network.recipe, "training": network.training}


def number(value: float | None) -> float | None:
    """As JSON can hold it: four digits, None where it is undefined."""
    return None if value is None or not np.isfinite(value) else round(float(value), 4)
