"""Figures of patches with their heatmaps, and of where heatmaps lie."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from pcam_agreement.core.patch import PATCH as SIDE
from pcam_agreement.report.figures.panels import WIDTH, add_legend, add_title
from pcam_agreement.report.tables import BASELINES

NAMED = 40  # networks, up to which each has a bar; of more, each recipe has
GAP = 6  # pixels between the patches of a gallery
LINES = {  # of BASELINES
    "random map": {"color": "black", "ls": ":", "label": "a random map"},
    "centre": {"color": "#c03028", "ls": "-", "label": "a Gaussian at the centre"},
    "consensus": {"color": "#c98a00", "ls": "--", "label": "consensus of the other recipes' trainings"},
}


def localisation_bars(where: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """One row a region, one panel a method: the share of each network's highest pixels that lies in the region.

    Of many networks a bar is the mean of a recipe's trainings, with a line from the lowest to the highest.
    """
    methods, regions = list(where["method"].unique()), list(where["region"].unique())
    where = where.assign(untrained=where["training"].str.startswith("untrained", na=False), bar=where["network"])
    many = where["network"].nunique() - len(BASELINES) > NAMED
    if many:
        of_recipe = where["recipe"] + np.where(where["untrained"], " untrained", "")
        where["bar"] = of_recipe.where(~where["network"].isin(BASELINES), where["network"])
    names = [name for name in where["bar"].unique() if name not in BASELINES]
    columns = len(methods)
    size = (max(columns * 2.9 + 2.0, WIDTH), len(regions) * (0.3 * len(names) + 0.9) + 1.3)
    figure = Figure(size, layout="constrained")
    axes = figure.subplots(len(regions), columns, squeeze=False, sharey=True, sharex="row")
    words = {"centre": "in the centre 32 x 32,\nwhich the label is about", "tumour": "in the drawn tumour"}
    for row, region in enumerate(regions):
        for axis, method in zip(axes[row], methods, strict=True):
            bars = where[(where["method"] == method) & (where["region"] == region)].groupby("bar")
            rows = bars["rank_accuracy"].agg(["mean", "min", "max"])
            colours = np.where(bars["untrained"].any().loc[names], "#b0b0b0", "#00467f")
            axis.barh(names, rows.loc[names, "mean"], color=colours, height=0.65)
            if many:
                axis.hlines(names, rows.loc[names, "min"], rows.loc[names, "max"], color="black", lw=1)
            for name, style in LINES.items():
                axis.axvline(rows.loc[name, "mean"], lw=1.5, **style)
            axis.set_xlim(0, None)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(titles[method], fontsize=10)
            axis.set_xlabel(f"share of the highest pixels {words[region]}", fontsize=8)
    axes[0, 0].invert_yaxis()
    add_legend(figure, axes[0, 0].get_legend_handles_labels()[0])
    add_title(
        figure,
        "Where are the highest pixels, as many as the region has? Beside two maps that explain nothing, and the "
        "consensus: the mean of the ranked heatmaps of all other recipes (grey: untrained networks"
        + ("; lines: from the lowest to the highest training)" if many else ")"),
    )
    return figure


def gallery(
    patches: np.ndarray, heatmaps: np.ndarray, masks: np.ndarray, iou: np.ndarray, names: tuple[str, str], title: str
) -> Figure:
    """One row a patch, the least agreed on first: the patch, both heatmaps over it, and both masks.

    patches: uint8 [n, 96, 96, 3]; heatmaps and masks: [2, n, 96, 96]; iou: [n], rising.
    """
    n = len(patches)
    inside = np.stack([np.maximum(*masks), np.minimum(*masks)])[..., None]  # of one mask or both, of both
    shown = 0.25 * inside[0] + 0.75 * inside[1]
    tiles = [patches / 255, *(_overlaid(patches, maps) for maps in heatmaps), patches / 255 * shown + 1 - shown]
    tiles[3][:, [0, -1]] = tiles[3][:, :, [0, -1]] = 0.8  # a frame
    step = SIDE + GAP
    picture = np.ones((n * step - GAP, 4 * step - GAP, 3))  # one image: sixteen axes take a second
    for column, of_column in enumerate(tiles):
        for row, tile in enumerate(of_column):
            picture[row * step : row * step + SIDE, column * step : column * step + SIDE] = tile
    figure = Figure((7.6, 1.8 * n + 0.8), layout="constrained")
    axis = figure.subplots()
    axis.set_axis_off()
    axis.imshow(picture)
    for column, head in enumerate(("patch", *names, "both (pale: one only)")):
        size = min(10, 180 / len(head))  # as long as the picture is wide, at most
        axis.text(column * step + SIDE / 2, -3, head, fontsize=size, ha="center", va="bottom")
    for row in range(n):
        text = f"{'lowest' if row < n / 2 else 'highest'}\nIoU {iou[row]:.2f}"
        axis.text(-4, row * step + SIDE / 2, text, rotation=90, ha="right", va="center", fontsize=9)
    add_title(
        figure,
        f"{title}: the patches on which {names[0]} and {names[1]} agree least (lowest IoU) and most (highest IoU)",
    )
    return figure


def _overlaid(patches: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """Heatmaps [n, h, w] over the patches, in colours that end at each map's 99th percentile: [n, h, w, 3]."""
    highest = np.quantile(heatmaps, 0.99, axis=(1, 2), keepdims=True).clip(1e-6)
    return 0.65 * colormaps["inferno"](heatmaps / highest)[..., :3] + 0.35 * patches / 255
