"""Which heatmaps are informative: those that predict their network's score better than the same map elsewhere."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pcam_agreement.networks.recipes import Network
from pcam_agreement.report import bootstrap
from pcam_agreement.report.tables import named

CURVES = ("deletion", "insertion")


def faithfulness_table(
    method: str, tested: Sequence[tuple[Network, dict[str, np.ndarray]]], replicates: int, seed: int
) -> pd.DataFrame:
    """One row a network: areas of its heatmaps and of random rankings, and whether the first are larger.

    tested: networks, each with the `areas` and the `slides` of the patches; what is NaN, as where a heatmap is
    constant, is left out and counted. Areas are means over patches, in units of the network's mean |change|: 0.5 is a
    straight line. _rolled: of the same heatmaps at random places; _pixels: of random pixels; _gain: heatmap less
    rolled, with its 95 % interval over slides.

    verdict: informative where both gains are above 0, the interval too; uninformative where one is not, and `reason`
    says which; undefined where there is no interval. It says whether heatmaps are true to their network, not whether
    that has learnt anything: untrained networks stand beside.
    """
    rows = []
    for network, areas in tested:
        known = np.isfinite(areas["change"])
        known &= np.all(
            [np.isfinite(areas[name]) & np.isfinite(areas[f"{name}_rolled"]).all(1) for name in CURVES], axis=0
        )
        slides = areas["slides"][known]
        row: dict = {
            "method": method,
            **named(network),
            "trained": network.trained,
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
    """Of each method of a `faithfulness_table`: how many trained networks it has, and how many of each bad verdict.

    Beside them how many untrained networks there are, and how many of those pass: they have learnt nothing.
    """
    counts = {}
    for method, rows in table.groupby("method", sort=False):
        trained, untrained = rows[rows["trained"]], rows[~rows["trained"]]
        bad = {name: int((trained["verdict"] == name).sum()) for name in ("uninformative", "undefined")}
        beside = {
            "untrained": len(untrained),
            "untrained_informative": int((untrained["verdict"] == "informative").sum()),
        }
        counts[str(method)] = {"networks": len(trained), **bad, **beside}
    return counts


def _mean(values: np.ndarray) -> float:
    return values.mean() if len(values) else np.nan
