"""Which heatmaps are worth comparing: those that tell more about their network than the same map at a random place."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pcam_agreement import intervals

CURVES = ("deletion", "insertion")


def faithfulness_table(
    method: str, found: dict[str, dict[str, np.ndarray]], trained: list[str], draws: int, seed: int
) -> pd.DataFrame:
    """One row a network: areas of its heatmaps and of random rankings, and whether the first are larger.

    found: of each network the `areas` and the `slides` of the patches; what is NaN, as where a heatmap is constant, is
    left out and counted. Areas are means over patches, in units of the network's mean |change|: 0.5 is a straight line.
    _rolled: of the same heatmaps at random places; _pixels: of random pixels; _gain: heatmap less rolled, with its
    95 % interval over slides.

    verdict: informative where both gains are above 0, the interval too; uninformative where one is not, and `reason`
    says which; undefined where there is no interval.
    """
    rows = []
    for network, own in found.items():
        known = np.isfinite(own["change"])
        known &= np.all([np.isfinite(own[name]) & np.isfinite(own[f"{name}_rolled"]).all(1) for name in CURVES], axis=0)
        slides = own["slides"][known]
        row: dict = {
            "method": method,
            "network": network,
            "trained": network in trained,
            "patches": known.sum(),
            "left_out": (~known).sum(),
            "slides": len(np.unique(slides)),
            "change": _mean(np.abs(own["change"][known])),
        }
        lost = []
        for name in CURVES:
            rankings = {"": own[name], "_rolled": own[f"{name}_rolled"].mean(1), "_pixels": own[f"{name}_pixels"]}
            parts = {key: values[known] / (row["change"] or np.nan) for key, values in rankings.items()}
            gain = parts[""] - parts["_rolled"]
            drawn = intervals.bootstrap_means(gain[None], slides, draws, seed)
            (low,), (high,) = intervals.interval(drawn, row["slides"])
            row |= {f"{name}{key}": _mean(values) for key, values in parts.items()}
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


def counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Of each method of a `faithfulness_table`: how many trained networks it has, and how many of each bad verdict."""
    found = {}
    for method, own in table[table["trained"]].groupby("method", sort=False):
        verdicts = own["verdict"].value_counts()
        bad = {name: int(verdicts.get(name, 0)) for name in ("uninformative", "undefined")}
        found[str(method)] = {"networks": len(own), **bad}
    return found


def _mean(values: np.ndarray) -> float:
    return values.mean() if len(values) else np.nan
