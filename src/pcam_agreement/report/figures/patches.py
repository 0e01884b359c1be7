"""Figures of patches with their heatmaps, and of where heatmaps lie."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pcam_agreement.report.figures.panels import WIDTH, add_legend, add_title


def localisation_bars(where: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """One row a region, one panel a method: the share of each network's heatmaps that lies in the region."""
    methods, regions = list(where["method"].unique()), list(where["region"].unique())
    networks = [name for name in where["network"].unique() if name not in ("centre", "random map")]
    columns = len(methods)
    size = (max(columns * 2.9 + 2.0, WIDTH), len(regions) * (0.3 * len(networks) + 0.9) + 1.3)
    figure = Figure(size, layout="constrained")
    axes = figure.subplots(len(regions), columns, squeeze=False, sharey=True, sharex="row")
    words = {"centre": "in the centre 32 x 32,\nwhich the label is about", "tumour": "in the drawn tumour"}
    for row, region in enumerate(regions):
        for axis, method in zip(axes[row], methods, strict=True):
            rows = where[(where["method"] == method) & (where["region"] == region)].set_index("network")
            axis.barh(networks, rows.loc[networks, "mass"], color="#00467f", height=0.65)
            axis.axvline(rows.loc["random map", "mass"], color="black", ls=":", lw=1.5, label="a random map")
            axis.axvline(rows.loc["centre", "mass"], color="#c03028", lw=1.5, label="a Gaussian at the centre")
            axis.set_xlim(0, None)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(titles[method], fontsize=10)
            axis.set_xlabel(f"share of the heatmap {words[region]}", fontsize=8)
    axes[0, 0].invert_yaxis()
    add_legend(figure, axes[0, 0].get_legend_handles_labels()[0])
    add_title(figure, "Where do the heatmaps lie? Beside two maps that explain nothing")
    return figure


def gallery(
    patches: np.ndarray, heatmaps: np.ndarray, masks: np.ndarray, iou: np.ndarray, names: tuple[str, str], title: str
) -> Figure:
    """One row a patch, the least agreed on first: the patch, both heatmaps over it, and both masks.

    patches: uint8 [n, 96, 96, 3]; heatmaps and masks: [2, n, 96, 96]; iou: [n], rising.
    """
    n = len(patches)
    figure = Figure((7.6, 1.8 * n + 0.8), layout="constrained")
    axes = figure.subplots(n, 4, squeeze=False)
    columns = ("patch", names[0], names[1], "both (pale: one only)")
    for row in range(n):
        both, either = np.minimum(*masks[:, row]), np.maximum(*masks[:, row])
        shown = (0.25 * either + 0.75 * both)[..., None]
        for column, head in enumerate(columns):
            axis = axes[row, column]
            axis.set_axis_off()
            if row == 0:
                axis.set_title(head, fontsize=min(10, 180 / len(head)))  # as long as the picture is wide, at most
            axis.imshow(patches[row] if column < 3 else (patches[row] * shown + 255 * (1 - shown)).astype(np.uint8))
            if column in (1, 2):
                heat = heatmaps[column - 1, row]
                axis.imshow(heat, "inferno", alpha=0.65, vmin=0, vmax=max(np.quantile(heat, 0.99), 1e-6))
            if column == 3:
                axis.add_patch(Rectangle((-0.5, -0.5), 96, 96, fill=False, color="lightgrey"))
        rank = "lowest" if row < n / 2 else "highest"
        axes[row, 0].text(
            -0.08,
            0.5,
            f"{rank}\nIoU {iou[row]:.2f}",
            transform=axes[row, 0].transAxes,
            rotation=90,
            ha="right",
            va="center",
            fontsize=9,
        )
    add_title(
        figure,
        f"{title}: the patches on which {names[0]} and {names[1]} agree least (lowest IoU) and most (highest IoU)",
    )
    return figure
