"""The figure of faithfulness: deletion and insertion of a heatmap's pixels against the same map at random places."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pcam_agreement.report.figures.panels import BEYOND, add_legend, add_title, end_axis, panels

READABLE = 16  # networks, up to which there is room between them
COLOURS = {"deletion": "#00467f", "insertion": "#b8860b"}


def gains(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """One panel a method, two lines a network: the gain of deletion and insertion over random places."""
    methods, networks = list(table["method"].unique()), list(table["network"].unique())
    height = 0.4 if len(networks) <= READABLE else 0.22
    figure, axes = panels(methods, titles, 3.0, height * len(networks) + 0.9, margin=2.0, sharex=True, sharey=True)
    drawn: list[tuple[Axes, pd.DataFrame, str]] = []
    for axis, method in zip(axes, methods, strict=True):
        rows = table[table["method"] == method].set_index("network").loc[networks]
        for place, (name, colour) in zip((-0.14, 0.14), COLOURS.items(), strict=True):
            lines = [row + place for row in range(len(networks))]
            axis.hlines(lines, rows[f"{name}_gain_low"], rows[f"{name}_gain_high"], color=colour, lw=2)
            points = pd.DataFrame({"x": rows[f"{name}_gain"], "y": lines})
            axis.plot(points["x"], points["y"], "o", color=colour, ms=5)
            drawn.append((axis, points, colour))
        axis.axvline(0, color="black", ls=":", lw=1)
        axis.set_yticks(range(len(networks)), networks)
        axis.grid(axis="x", alpha=0.3)
        axis.set_xlabel("gain over the same map\nat a random place", fontsize=8)
        labels = axis.get_yticklabels()  # none but in the first column
        for label, trained in zip(labels, rows["trained"], strict=False):
            label.set_color("black" if trained else "#808080")
    beyond = [end_axis(axis, points, "x", colour) for axis, points, colour in drawn]
    axes[0].set_ylim(len(networks) - 0.5, -0.5)
    meaning = {"deletion": "deleting the highest pixels", "insertion": "inserting the highest pixels"}
    handles = [Line2D([], [], color=colour, marker="o", lw=2, label=meaning[name]) for name, colour in COLOURS.items()]
    add_legend(figure, handles)
    add_title(
        figure,
        "Do the heatmaps show which pixels their network uses? Both intervals (95 %) must lie above 0",
        "(in units of the mean change of the score between a patch and the filled patch). It says that a heatmap is "
        "true to its network, not that the network learnt anything: untrained networks (grey names) can pass as well."
        + (f" {BEYOND}" if any(beyond) else ""),
    )
    return figure
