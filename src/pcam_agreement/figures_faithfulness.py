"""The figure of the faithfulness gate; owns matplotlib together with `figures`."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from pcam_agreement.figures import METHOD_NAMES

COLOURS = {"deletion": "#00467f", "insertion": "#b8860b"}


def faithfulness_gains(table: pd.DataFrame) -> Figure:
    """One panel a method, two lines a network: what deletion and insertion gain over random places, with intervals."""
    methods, networks = list(table["method"].unique()), list(table["network"].unique())
    columns = min(3, len(methods))
    rows = -(-len(methods) // columns)
    figure = Figure((columns * 3.0 + 2.0, rows * (0.4 * len(networks) + 0.9) + 1.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(methods) :]:
        axis.axis("off")
    for axis, method in zip(axes.flat, methods, strict=False):
        own = table[table["method"] == method].set_index("network").loc[networks]
        for place, (name, colour) in zip((-0.14, 0.14), COLOURS.items(), strict=True):
            lines = [row + place for row in range(len(networks))]
            axis.hlines(lines, own[f"{name}_gain_low"], own[f"{name}_gain_high"], color=colour, lw=2)
            axis.plot(own[f"{name}_gain"], lines, "o", color=colour, ms=5)
        axis.axvline(0, color="black", ls=":", lw=1)
        axis.set_title(METHOD_NAMES.get(method, method), fontsize=10)
        axis.set_yticks(range(len(networks)), networks)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", alpha=0.3)
        axis.set_xlabel("gain over the same map\nat a random place", fontsize=8)
    axes[0, 0].invert_yaxis()
    meaning = {"deletion": "deleting the highest pixels", "insertion": "inserting the highest pixels"}
    handles = [
        matplotlib.lines.Line2D([], [], color=colour, marker="o", lw=2, label=meaning[name])
        for name, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(
        "Do the heatmaps tell which pixels their network uses? Both intervals (95 %) must lie above 0\n"
        "(in units of the mean change of the score between a patch and the filled patch)",
        fontsize=11,
    )
    return figure
