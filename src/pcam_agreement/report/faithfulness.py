"""Which heatmaps are informative: those that predict their network's score better than the same map elsewhere."""

import numpy as np
import pandas as pd

from pcam_agreement.report import bootstrap

CURVES = ("deletion", "insertion")


def faithfulness_table(
    method: str, tested: dict[str, dict[str, np.ndarray]], trained: list[str], replicates: int, seed: int
) -> pd.DataFrame:
    """One row a network: areas of its heatmaps and of random rankings, and whether the first are larger.

    tested: of each network the `areas` and the `slides` of the patches; what is NaN, as where a heatmap is constant, is
    left out and counted. Areas are means over patches, in units of the network's mean |change|: 0.5 is a straight line.
    _rolled: of the same heatmaps at random places; _pixels: of random pixels; _gain: heatmap less rolled, with its
    95 % interval over slides.

    verdict: informative where both gains are above 0, the interval too; uninformative where one is not, and `reason`
    says which; undefined where there is no interval.
    """
    rows = []
    for network, areas in tested.items():
        known = np.isfinite(areas["change"])
        known &= np.all(
            [np.isfinite(areas[name]) & np.isfinite(areas[f"{name}_rolled"]).all(1) for name in CURVES], axis=0
        )
        slides = areas["slides"][known]
        row: dict = {
            "method": method,
            "network": network,
            "trained": network in trained,
            "patches": known.sum(),
            "left_out": (~known).sum(),
            "slides": len(np.unique(slides)),
            "change": _mean(np.abs(areas["change"][known])),
        }
        lost = []
        for name in CURVES:
            rankings = {"": areas[name], "_rolled": areas[f"{name}_rolled"].mean(1), "_pixels": areas[f"{name}_pixels"]}
            means = {key: values[known] / (row["change"] or np.nan) for key, values in rankings.items()}
            gain = means[""] - means["_rolled"]
            gains = bootstrap.bootstrap_means(gain[None], slides, replicates, seed)
            (low,), (high,) = bootstrap.interval(gains, row["slides"])
            row |= {f"{name}{key}": _mean(values) for key, values in means.items()}
            row |= {f"{name}_gain": _mean(gain), f"{name}_gain_low": low, f"{name}_gain_high": high}
            if not low > 0:
                lost.append(name)
        verdict, reason = "uninformative" if lost else "informative", " and ".join(lost)
        if not row["change"] > 0:
            verdict, reason = "undefined", "no change" if row["patches"] else "no patch"
        elif row["slides"] < 2:
            verdict, reason = "undefined", "one slide"
        rows.append({**row, "verdict": verdict, "reason": reason})
    return pd.DataFrame(rows)


def count_verdicts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Of each method of a `faithfulness_table`: how many trained networks it has, and how many of each bad verdict."""
    counts = {}
    for method, rows in table[table["trained"]].groupby("method", sort=False):
        verdicts = rows["verdict"].value_counts()
        bad = {name: int(verdicts.get(name, 0)) for name in ("uninformative", "undefined")}
        counts[str(method)] = {"networks": len(rows), **bad}
    return counts


def _mean(values: np.ndarray) -> float:
    return values.mean() if len(values) else np.nan
