"""Figures of the shares: a bar a method, and how they change with the scale."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pcam_agreement.report.figures.panels import WIDTH, add_legend, add_title, panels

# From what all share to what no two networks share: dark to light, told apart in grey print as well.
STYLES: dict[str, dict[str, Any]] = {
    "common": {"color": "#4f7fae"},
    "input": {"facecolor": "#7fa3c4", "edgecolor": "#00467f", "hatch": "////", "lw": 0},
    "learned": {"color": "#00467f"},
    "recipe": {"color": "#c98a00"},
    "training": {"color": "#b8b8b8"},
    "noise": {"facecolor": "white", "edgecolor": "#808080", "hatch": "....", "lw": 0.5},
}
LINES = {"common": "#00467f", "recipe": "#c98a00", "training": "#707070", "noise": "#a05050"}
BAR = 0.42  # of the height of a row


def words(recipe: str) -> dict[str, str]:
    """The name of each share, with the word for a recipe."""
    return {
        "common": f"shared by two {recipe}s",
        "input": "common, untrained\nnetworks see it as well",
        "learned": "common, learned",
        "recipe": f"of the {recipe}",
        "training": "of the single training",
        "noise": "noise of the method",
    }


def bars(shares: pd.DataFrame, titles: Mapping[str, str], recipe: str) -> Figure:
    """One row a method: its shares as a stacked bar, and beside it as numbers with their intervals.

    shares: rows of a `shares_table` of one view; recipe: the word for one. A share below 0 has no width.
    """
    methods = list(shares["method"].unique())
    columns = ["common", *(["input"] if shares.query("share == 'input'")["value"].notna().any() else [])]
    columns += ["recipe", "training"] + (["noise"] if shares.query("share == 'noise'")["value"].notna().any() else [])
    figure = Figure((max(WIDTH, 5.2 + 1.15 * len(columns)), 0.62 * len(methods) + 1.75), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1.05 * len(columns)))
    for row, method in enumerate(methods):
        of_method = shares[shares["method"] == method].set_index("share")
        if np.isnan(of_method["value"]["training"]):
            left.text(0.01, row, f"undefined: {of_method['reason']['training']}", va="center", fontsize=8)
            continue
        _bar(left, row, of_method)
        for column, name in enumerate(columns):
            value, low, high = of_method.loc[name, ["value", "low", "high"]]
            text = "–" if np.isnan(value) else f"{round(100 * value)} %"
            right.text(column, row - 0.1, text, ha="center", va="center", fontsize=11)
            interval = "" if np.isnan(low) else f"{100 * low:.0f} to {100 * high:.0f}"
            right.text(column, row + 0.22, interval, ha="center", va="center", fontsize=8, color="#505050")
    left.set_ylim(len(methods) - 0.45, -0.55)
    left.set_yticks(range(len(methods)), [titles[method] for method in methods])
    left.set_xlim(min(0.0, left.get_xlim()[0]), max(1.0, left.get_xlim()[1]))  # an interval can begin below 0
    left.set_xticks(np.arange(0, 1.01, 0.25), [f"{share:.0%}" for share in np.arange(0, 1.01, 0.25)])
    left.spines[["top", "right"]].set_visible(False)
    right.set_xlim(-0.5, len(columns) - 0.5)
    names = {
        **words(recipe),
        "input": "of it, seen\nby untrained",
        "training": "of the\ntraining",
        "noise": "method's\nnoise",
    }
    names |= {"common": "common", "recipe": f"of the\n{recipe}"}
    right.set_xticks(range(len(columns)), [names[name] for name in columns], fontsize=9)
    right.xaxis.tick_top()
    right.tick_params(length=0, labelleft=False, left=False)
    right.spines[:].set_visible(False)
    split = "input" in columns
    drawn = [name for name in STYLES if name in columns or (name == "learned" and split)]
    if split and shares.query("share == 'input'")["value"].notna().all():
        drawn.remove("common")
    labels = words(recipe) | ({"common": "common, learned or not"} if split else {})
    add_legend(figure, [Patch(label=labels[name].replace("\n", " "), **STYLES[name]) for name in drawn])
    add_title(
        figure,
        f"Of what depends on the patch in where a network looks, how much do two {recipe}s share on average?",
        "(whiskers and small numbers: 95 % intervals; a share can come out below 0 and then has no width)",
    )
    return figure


def _bar(axis: Axes, row: int, shares: pd.DataFrame) -> None:
    """The stacked bar of one method: each share from where the one before ends, with the interval of its width."""
    split = np.isfinite(shares["value"]["input"])
    names = [*(["input", "learned"] if split else ["common"]), "recipe", "training", "noise"]
    start, ends = 0.0, []
    for name in names:
        value = shares["value"][name]
        if np.isfinite(value):
            axis.barh(row, max(value, 0), BAR, left=start, **STYLES[name])
            ends.append((name, start))
            start += max(value, 0)
    # below each other where they would lie on each other
    whiskers = [(name, left) for name, left in ends if name not in ("input", "learned")]
    if split:
        whiskers = [("common", 0.0), *whiskers]
    for place, (name, left) in zip(np.linspace(-0.12, 0.12, max(len(whiskers), 2)), whiskers, strict=False):
        low, high = (left + shares[end][name] for end in ("low", "high"))
        axis.plot([low, high], [row + place] * 2, color="black", lw=1.2, marker="|", ms=5, clip_on=False)


def over_scale(shares: pd.DataFrame, titles: Mapping[str, str], recipe: str) -> Figure:
    """One panel a method: each share over the scale of the masks, with its interval.

    shares: rows of a `shares_table` at one top fraction, of both labels.
    """
    methods = list(shares["method"].unique())
    figure, axes = panels(methods, titles, 3.3, 3.0, sharex=True, sharey=True)
    sigmas = sorted(shares["sigma"].unique())
    for axis, method in zip(axes, methods, strict=True):
        for shift, (name, colour) in zip(np.linspace(-0.12, 0.12, len(LINES)), LINES.items(), strict=True):
            rows = shares[(shares["method"] == method) & (shares["share"] == name)].set_index("sigma").loc[sigmas]
            places = np.arange(len(sigmas)) + shift
            axis.vlines(places, rows["low"], rows["high"], color=colour, lw=1.5, alpha=0.7)
            axis.plot(places, rows["value"], "o-", color=colour, ms=4, lw=1.5, label=words(recipe)[name])
        axis.axhline(0, color="black", lw=0.8)
        axis.set_xticks(range(len(sigmas)), [f"{sigma:g}" for sigma in sigmas])
        axis.set_xlabel("heatmaps blurred by (pixels)")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("share")
    add_legend(figure, axes[0].get_legend_handles_labels()[0])
    add_title(
        figure,
        "Do the shares depend on the scale of the comparison? 0: pixel by pixel; a nucleus is 6 to 14 pixels wide",
        "(lines: 95 % intervals)",
    )
    return figure
