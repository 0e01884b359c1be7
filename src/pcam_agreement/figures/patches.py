"""Figures of patches and of where on them networks look."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pcam_agreement.figures.panels import METHOD_NAMES


def localisation_bars(where: pd.DataFrame) -> Figure:
    """One row a region, one panel a method: the share of each network's heatmaps that lies in the region."""
    methods, regions = list(where["method"].unique()), list(where["region"].unique())
    networks = [name for name in where["network"].unique() if name not in ("middle", "random map")]
    columns = len(methods)
    size = (columns * 2.9 + 2.0, len(regions) * (0.3 * len(networks) + 0.9) + 1.3)
    figure = Figure(size, layout="constrained")
    axes = figure.subplots(len(regions), columns, squeeze=False, sharey=True, sharex="row")
    words = {"centre": "in the centre 32 x 32,\nwhich the label speaks of", "tumour": "in the drawn tumour"}
    for row, region in enumerate(regions):
        for axis, method in zip(axes[row], methods, strict=True):
            own = where[(where["method"] == method) & (where["region"] == region)].set_index("network")
            axis.barh(networks, own.loc[networks, "mass"], color="#00467f", height=0.65)
            axis.axvline(own.loc["random map", "mass"], color="black", ls=":", lw=1.5, label="a random map")
            axis.axvline(own.loc["middle", "mass"], color="#c03028", lw=1.5, label="a Gaussian in the middle")
            axis.set_xlim(0, None)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(METHOD_NAMES.get(method, method), fontsize=10)
            axis.set_xlabel(f"share of the heatmap {words[region]}", fontsize=8)
    axes[0, 0].invert_yaxis()
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False
    )
    figure.suptitle("Where do the networks look? Beside two maps that explain nothing", fontsize=11)
    return figure


def gallery(
    patches: np.ndarray, heatmaps: np.ndarray, masks: np.ndarray, iou: np.ndarray, names: tuple[str, str], method: str
) -> Figure:
    """One row a patch, the least agreed on first: the patch, both heatmaps over it, and where both or one of them look.

    patches: uint8 [n, 96, 96, 3]; heatmaps and masks: [2, n, 96, 96]; iou: [n], rising.
    """
    n = len(patches)
    figure = Figure((7.6, 1.8 * n + 0.8), layout="constrained")
    axes = figure.subplots(n, 4, squeeze=False)
    titles = ("patch", names[0], names[1], "both (pale: one only)")
    for row in range(n):
        both, either = np.minimum(*masks[:, row]), np.maximum(*masks[:, row])
        shown = (0.25 * either + 0.75 * both)[..., None]
        for column, title in enumerate(titles):
            axis = axes[row, column]
            axis.set_axis_off()
            if row == 0:
                axis.set_title(title, fontsize=10)
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
    figure.suptitle(
        f"{METHOD_NAMES.get(method, method)}: the patches on which {names[0]} and {names[1]}\n"
        "agree least (lowest IoU) and most (highest IoU)",
        fontsize=10,
    )
    return figure
